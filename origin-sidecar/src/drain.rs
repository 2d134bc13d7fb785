//! How a process takes its leave: not ready any more, then no new work, then no more time.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// The states of one process. Each begins once and never ends.
pub struct DrainState {
    is_started: AtomicBool,
    /// Not ready any more, and no connection is kept beyond its next answer.
    leaving: watch::Sender<bool>,
    /// The same, for what each request asks.
    is_leaving: AtomicBool,
    /// No new work is taken.
    draining: watch::Sender<bool>,
    /// What is in flight has no more than the grace period.
    ending: watch::Sender<bool>,
}

impl Default for DrainState {
    fn default() -> Self {
        Self {
            is_started: AtomicBool::new(false),
            leaving: watch::channel(false).0,
            is_leaving: AtomicBool::new(false),
            draining: watch::channel(false).0,
            ending: watch::channel(false).0,
        }
    }
}

impl DrainState {
    pub fn set_ready(&self) {
        self.is_started.store(true, Ordering::Release);
    }

    pub fn is_started(&self) -> bool {
        self.is_started.load(Ordering::Acquire)
    }

    /// Ready to take traffic. Never depends on the app, the queue or the store.
    pub fn is_ready(&self) -> bool {
        self.is_started() && !self.is_leaving()
    }

    /// Whether clients should go elsewhere, though they are still answered.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Begins to leave; whether it had not before.
    pub fn leave(&self) -> bool {
        self.is_leaving.store(true, Ordering::Release);
        !self.leaving.send_replace(true)
    }

    pub fn drain(&self) {
        self.leave();
        self.draining.send_replace(true);
    }

    /// What is in flight gets the grace period from now on.
    pub fn end(&self) {
        self.drain();
        self.ending.send_replace(true);
    }

    /// Resolves when that has begun: [`DrainState::leaving`], [`DrainState::draining`] or [`DrainState::ending`].
    pub async fn begun(watched: &mut watch::Receiver<bool>) {
        // The sender lives as long as the process: the error can't happen.
        let _ = watched.wait_for(|begun| *begun).await;
    }

    pub fn leaving(&self) -> watch::Receiver<bool> {
        self.leaving.subscribe()
    }

    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    pub fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }
}
