//! The clock, which tests can replace.

use rules::{Millis, UnixMillis};
use std::time::{SystemTime, UNIX_EPOCH};

pub trait Clock: Send + Sync {
    /// What time it is.
    fn now(&self) -> UnixMillis;
}

/// The machine's own clock.
pub struct System;

impl Clock for System {
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(Millis::from(since).0)
    }
}
