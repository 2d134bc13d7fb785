//! What one thread knows of an upstream's health: whether it is worth asking, and asking again.

use std::sync::{Mutex, PoisonError};

/// Connections in a row that fail before the upstream is left alone for a moment.
const FAILURES_MAX: u32 = 5;
/// Milliseconds between attempts after that. Short: an application that restarts is back before
/// anybody notices; what is spared is a thousand requests that each wait for a time-out.
const PAUSE_MS: u64 = 200;
/// Requests of which one may be sent again: a retry must not double the load of an upstream that
/// has trouble (Finagle's and Linkerd's retry budget, 20 %).
const RETRY_EVERY: u32 = 5;
/// Retries that may be saved up.
const RETRIES_MAX: u32 = 10;

/// Times are milliseconds of any clock that only goes on.
#[derive(Default)]
pub struct Health {
    state: Mutex<State>,
}

struct State {
    failures: u32,
    /// Nobody asks before.
    until: u64,
    /// In parts of [`RETRY_EVERY`].
    retries: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { failures: 0, until: 0, retries: RETRIES_MAX * RETRY_EVERY }
    }
}

impl Health {
    /// Whether a connection may be tried. After failures, one at a time.
    pub fn may_connect(&self, now: u64) -> bool {
        let mut state = self.lock();
        if state.failures < FAILURES_MAX {
            return true;
        }
        if now < state.until {
            return false;
        }
        state.until = now + PAUSE_MS;
        true
    }

    pub fn connected(&self) {
        self.lock().failures = 0;
    }

    pub fn failed(&self, now: u64) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        state.until = now + PAUSE_MS;
    }

    /// A request is sent for the first time.
    pub fn sent(&self) {
        let mut state = self.lock();
        state.retries = (state.retries + 1).min(RETRIES_MAX * RETRY_EVERY);
    }

    /// Whether a request may be sent once more.
    pub fn may_retry(&self) -> bool {
        let mut state = self.lock();
        let left = state.retries.checked_sub(RETRY_EVERY);
        state.retries = left.unwrap_or(state.retries);
        left.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_that_fails_is_tried_by_one_at_a_time_until_it_is_back() {
        let health = Health::default();
        for _ in 0..FAILURES_MAX {
            assert!(health.may_connect(0));
            health.failed(0);
        }
        assert!(!health.may_connect(PAUSE_MS - 1));
        assert!(health.may_connect(PAUSE_MS));
        assert!(!health.may_connect(PAUSE_MS + 1), "another tries already");
        health.connected();
        assert!(health.may_connect(PAUSE_MS + 1));
    }

    #[test]
    fn one_in_five_requests_may_be_sent_again_and_a_few_at_once() {
        let health = Health::default();
        assert_eq!((0..100).filter(|_| health.may_retry()).count(), RETRIES_MAX as usize);
        (0..100).for_each(|_| health.sent());
        let retries = (0..100).filter(|_| health.may_retry()).count();
        assert_eq!(retries, RETRIES_MAX as usize);
        (0..10).for_each(|_| health.sent());
        assert_eq!((0..100).filter(|_| health.may_retry()).count(), 2);
    }
}
