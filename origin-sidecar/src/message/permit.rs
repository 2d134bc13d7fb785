//! An answer's share of its route's concurrency, held until its body has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One unit of a route's concurrency; see `upstream::limits`.
pub struct Permit(Arc<AtomicU64>);

impl Permit {
    /// Takes a permit, and returns how many are now in use.
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
