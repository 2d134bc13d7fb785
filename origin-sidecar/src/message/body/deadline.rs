//! A body that is cut off at a moment.

use prometheus::IntCounter;
use rules::Problem;
use std::io;
use std::pin::Pin;
use std::task::Context;
use tokio::time::{Instant, Sleep, sleep_until};

/// When a body of an exchange ends that may not last for ever.
pub struct Deadline {
    timer: Pin<Box<Sleep>>,
    /// Counts those that were cut off.
    cut: IntCounter,
}

impl Deadline {
    pub fn new(end: Instant, cut: IntCounter) -> Self {
        Self { timer: Box::pin(sleep_until(end)), cut }
    }

    /// What the body ends with, once it is over.
    pub fn poll_over(&mut self, context: &mut Context<'_>) -> Option<io::Error> {
        if self.timer.as_mut().poll(context).is_pending() {
            return None;
        }
        self.cut.inc();
        tracing::debug!(problem = Problem::TotalTimeout.name(), "cut off");
        Some(io::Error::other(Problem::TotalTimeout.name()))
    }
}
