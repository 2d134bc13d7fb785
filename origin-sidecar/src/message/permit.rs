//! What an answer holds of its route's concurrency until its body has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One of a route's places; see `upstream::limits`.
pub struct Permit(Arc<AtomicU64>);

impl Permit {
    /// Takes one, and says how many are taken with it.
    pub fn take(taken: &Arc<AtomicU64>) -> (Self, u64) {
        let place = Self(Arc::clone(taken));
        let at_once = place.0.fetch_add(1, Ordering::Relaxed) + 1;
        (place, at_once)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
