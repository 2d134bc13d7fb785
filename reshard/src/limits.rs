//! How long a switch may take, and how long it took.

use std::time::Duration;

/// How long a switch may take, and what it leaves room for.
#[derive(Debug, Clone, Copy)]
pub struct PauseLimits {
    /// From the fence to the point of no return: the map's hold time less a second.
    pub pause: Duration,
    /// For open transactions of the range; a part of the pause.
    pub drain: Duration,
    /// For jobs and adopted requests of the range, before the pause.
    pub wait_jobs: Duration,
    /// Values of sequences that the taker leaves out above the highest of both.
    pub gap: i64,
}

/// How long each part of a pause took.
#[derive(Debug, Clone, Copy, Default)]
pub struct PauseReport {
    pub fence: Duration,
    pub drain: Duration,
    /// Until the marker was on the taker's disk.
    pub marker: Duration,
    pub sequences: Duration,
    pub no_return: Duration,
}

impl PauseReport {
    /// From the fence to the point of no return.
    pub fn whole(&self) -> Duration {
        self.fence + self.drain + self.marker + self.sequences + self.no_return
    }
}
