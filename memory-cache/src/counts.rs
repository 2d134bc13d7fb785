//! What the store counts. The metrics of the process read it here, because the store knows no metrics.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The sums of one store, changed by every thread that stores or evicts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Bytes of stored answers with their metadata, and of those that are still coming in. It can be below
    /// zero for a moment while two threads change it.
    bytes: AtomicI64,
    evictions: AtomicU64,
}

impl Counts {
    /// Bytes of answers, metadata included.
    pub fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keys that were evicted for want of space since this was last asked.
    pub fn take_evictions(&self) -> u64 {
        self.evictions.swap(0, Ordering::Relaxed)
    }

    pub(super) fn add_bytes(&self, more: i64) {
        self.bytes.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn evicted(&self) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
    }
}
