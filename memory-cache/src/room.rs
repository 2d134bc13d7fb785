//! Memory that answers hold outside the store.

use crate::counts::Counts;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes of room an answer gets at first where its length is not known.
pub(super) const UNKNOWN_BYTES_MIN: usize = 16 * 1024;

/// Counts the memory of one answer that is not in the store: it is still coming in, or a slower reader still
/// holds it. See [`crate::store::Store::grow`].
pub struct Room {
    bytes: usize,
    filling: Arc<AtomicUsize>,
    counts: Arc<Counts>,
}

impl Room {
    pub(super) fn new(filling: Arc<AtomicUsize>, counts: Arc<Counts>) -> Self {
        Self { bytes: 0, filling, counts }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts so many bytes, even over the budget, because what is held must be counted.
    pub fn set(&mut self, bytes: usize) {
        // The difference may be negative; these operations are modulo 2^64.
        let more = bytes.wrapping_sub(self.bytes);
        self.filling.fetch_add(more, Ordering::Relaxed);
        self.counts.add_bytes(more as i64);
        self.bytes = bytes;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.set(0);
    }
}
