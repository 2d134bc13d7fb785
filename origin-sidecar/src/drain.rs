//! The phases in which a process ends: it is no longer ready, then takes no new work, then has no
//! more time.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// The states of one process. Each begins once and never ends.
pub struct DrainState {
    is_started: AtomicBool,
    /// Set when the process is no longer ready, and closes each connection after its next answer.
    leaving: watch::Sender<bool>,
    /// The same as an atomic, for a check in each request.
    is_leaving: AtomicBool,
    /// Set when no new work is accepted.
    draining: watch::Sender<bool>,
    /// Set when the grace period for everything in flight begins.
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

    /// Whether it is ready for traffic. This never depends on application, queue or store.
    pub fn is_ready(&self) -> bool {
        self.is_started() && !self.is_leaving()
    }

    /// Whether clients should use another pod, though they are still answered.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Begins to leave. True where it had not begun before.
    pub fn leave(&self) -> bool {
        self.is_leaving.store(true, Ordering::Release);
        !self.leaving.send_replace(true)
    }

    pub fn drain(&self) {
        self.leave();
        self.draining.send_replace(true);
    }

    /// Begins the grace period for everything in flight.
    pub fn end(&self) {
        self.drain();
        self.ending.send_replace(true);
    }

    /// Resolves when that phase has begun: [`DrainState::leaving`], [`DrainState::draining`] or
    /// [`DrainState::ending`].
    pub async fn begun(watched: &mut watch::Receiver<bool>) {
        // The sender lives as long as the process, so this can't fail.
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
