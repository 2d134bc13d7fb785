//! Keeps the copy at the rate that was asked for.

use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes that were sent, and when that began; of all workers together.
#[derive(Debug)]
pub struct Pace {
    /// Bytes in a second; none: as fast as it goes.
    rate: Option<u64>,
    began: Instant,
    sent: Cell<u64>,
}

impl Pace {
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate, began: Instant::now(), sent: Cell::new(0) }
    }

    /// Bytes that were sent.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Counts what was sent, and waits until as much may be sent again.
    pub async fn sent_more(&self, bytes: usize) {
        let sent = self.sent.get() + bytes as u64;
        self.sent.set(sent);
        let Some(rate) = self.rate.filter(|rate| *rate > 0) else { return };
        let due = self.began + Duration::from_secs_f64(sent as f64 / rate as f64);
        tokio::time::sleep_until(due).await;
    }
}
