//! Memory that answers hold outside the store.

use crate::counts::Counts;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes for which room is made at first where the length is not known.
pub(super) const UNKNOWN_BYTES_MIN: usize = 16 * 1024;

/// Memory of one answer that is not in the store: it is still coming in, or read by somebody who is
/// slower. See [`crate::store::Store::grow`].
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

    /// Counts it as so many bytes, whether or not they are to be had: what is held must be counted.
    pub fn set(&mut self, bytes: usize) {
        // Modulo 2^64, as these operations are: the difference may be negative.
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
