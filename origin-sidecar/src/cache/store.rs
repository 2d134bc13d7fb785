//! Answers in memory under a byte budget.
//!
//! The budget is divided over shards with a lock each, so that threads rarely meet; no lock is
//! held across an await. The `lru` crate keeps the order of use inside a shard.

use crate::metrics::Metrics;
use bytes::Bytes;
use http::HeaderMap;
use lru::LruCache;
use rules::cache::{Entry, NotStored, fits};
use rules::{Head, cache::status::Miss};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Power of two; enough that 16 threads seldom wait for each other.
const SHARDS: usize = 16;
/// A body larger than this would evict too much of the rest.
const ENTRY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Answers per key that differ by Vary; the oldest makes room.
const VARIANTS_MAX: usize = 16;
/// Keys known to be uncacheable per shard, so that their requests don't queue behind each other.
const UNCACHEABLE_MAX: std::num::NonZeroUsize = std::num::NonZeroUsize::new(1024).unwrap();
/// How long a key counts as uncacheable, in milliseconds: an app that starts to send
/// Cache-Control is believed within this time.
const UNCACHEABLE_MS: u64 = 10_000;
/// Bytes of bookkeeping per answer, and per header line besides its text. Measured: 24,000 answers
/// of 10 bytes with five header lines made the process 44.6 MB larger, 1.9 KB each.
const ENTRY_OVERHEAD: usize = 1344;
const HEADER_OVERHEAD: usize = 96;

/// A stored answer. Shared, never copied: a hit clones the `Arc` and the body's handle.
pub struct Stored {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub entry: Entry,
}

impl Stored {
    fn size(&self, key: &str) -> usize {
        let headers = self.headers.iter();
        let headers: usize =
            headers.map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD).sum();
        key.len() + headers + self.body.len() + ENTRY_OVERHEAD
    }
}

struct Shard {
    entries: LruCache<String, Vec<Arc<Stored>>>,
    bytes: usize,
    uncacheable: LruCache<String, u64>,
}

pub struct Store {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    shard_budget: usize,
    /// Raised by every purge and invalidation; a fill that began before must not be stored.
    sequence: AtomicU64,
    metrics: Arc<Metrics>,
}

/// What a look-up found.
pub enum Found {
    Answer(Arc<Stored>),
    Miss(Miss),
}

impl Store {
    pub fn new(budget_bytes: usize, metrics: Arc<Metrics>) -> Self {
        let shard = || {
            Mutex::new(Shard {
                entries: LruCache::unbounded(),
                bytes: 0,
                uncacheable: LruCache::new(UNCACHEABLE_MAX),
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            shard_budget: budget_bytes / SHARDS,
            sequence: AtomicU64::new(0),
            metrics,
        }
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(key) as usize & (SHARDS - 1);
        // A poisoned lock means a panic, and a panic ends this program.
        self.shards[at].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Bytes a body may have to be stored: a shard holds several.
    pub fn entry_bytes_max(&self) -> usize {
        ENTRY_BYTES_MAX.min(self.shard_budget / 2)
    }

    /// The variant that fits the request.
    pub fn look_up(&self, key: &str, head: &Head<'_>) -> Found {
        let mut shard = self.shard(key);
        let Some(variants) = shard.entries.get(key) else { return Found::Miss(Miss::Uri) };
        match variants.iter().find(|stored| fits(&stored.entry.vary, head)) {
            Some(stored) => Found::Answer(Arc::clone(stored)),
            None => Found::Miss(Miss::Vary),
        }
    }

    /// To be read before a fetch and given to [`Store::insert`] after it.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Stores an answer.
    ///
    /// # Errors
    /// `superseded` when a purge came between, `too-large` when it does not fit a shard.
    pub fn insert(&self, key: &str, stored: Arc<Stored>, sequence: u64) -> Result<(), NotStored> {
        let size = stored.size(key);
        let mut shard = self.shard(key);
        if size > self.shard_budget {
            return Err(NotStored::TooLarge);
        }
        if self.sequence() != sequence {
            return Err(NotStored::Superseded);
        }
        shard.uncacheable.pop(key);
        let mut variants = shard.entries.pop(key).unwrap_or_default();
        let before: usize = variants.iter().map(|stored| stored.size(key)).sum();
        variants.retain(|own| own.entry.vary != stored.entry.vary);
        variants.insert(0, stored);
        variants.truncate(VARIANTS_MAX);
        let after: usize = variants.iter().map(|stored| stored.size(key)).sum();
        shard.entries.put(key.to_owned(), variants);
        let grown = shard.bytes + after - before;
        self.account(&mut shard, grown);
        while shard.bytes > self.shard_budget {
            let Some((key, variants)) = shard.entries.pop_lru() else { break };
            let freed: usize = variants.iter().map(|stored| stored.size(&key)).sum();
            let left = shard.bytes - freed;
            self.account(&mut shard, left);
            self.metrics.cache.evictions.inc();
        }
        Ok(())
    }

    fn account(&self, shard: &mut Shard, bytes: usize) {
        let difference = bytes as i64 - shard.bytes as i64;
        shard.bytes = bytes;
        self.metrics.cache.bytes.add(difference);
    }

    /// Forgets all variants of a key. Fills in flight are not stored.
    pub fn remove(&self, key: &str) {
        self.sequence.fetch_add(1, Ordering::AcqRel);
        let mut shard = self.shard(key);
        if let Some(variants) = shard.entries.pop(key) {
            let freed: usize = variants.iter().map(|stored| stored.size(key)).sum();
            let left = shard.bytes - freed;
            self.account(&mut shard, left);
        }
    }

    /// Remembers that answers of this key can't be stored.
    pub fn note_uncacheable(&self, key: &str, now: u64) {
        self.shard(key).uncacheable.put(key.to_owned(), now + UNCACHEABLE_MS);
    }

    pub fn is_uncacheable(&self, key: &str, now: u64) -> bool {
        self.shard(key).uncacheable.peek(key).is_some_and(|until| now < *until)
    }

    /// Sets the gauge of entries; called when metrics are read.
    pub fn count(&self) {
        let lock = |shard: &Mutex<Shard>| {
            shard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entries.len()
        };
        let entries: usize = self.shards.iter().map(lock).sum();
        self.metrics.cache.entries.set(entries as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::NoFields;
    use rules::cache::Windows;

    fn store(budget: usize) -> Store {
        Store::new(budget, Arc::new(Metrics::new().expect("metrics")))
    }

    fn stored(body: usize) -> Arc<Stored> {
        let windows = Windows {
            fresh: 1000,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            max_staleness: None,
        };
        let entry = Entry {
            received: 0,
            age_at_receipt: 0,
            windows,
            etag: None,
            last_modified: None,
            vary: Vec::new(),
        };
        let body = Bytes::from(vec![b'x'; body]);
        Arc::new(Stored { status: 200, headers: HeaderMap::new(), body, entry })
    }

    fn has(store: &Store, key: &str) -> bool {
        let head =
            Head { method: "GET", scheme: "http", host: "h", target: "/", fields: &NoFields };
        matches!(store.look_up(key, &head), Found::Answer(_))
    }

    #[test]
    fn the_budget_holds_whatever_is_stored() {
        let budget = 4 * 1024 * 1024;
        let store = store(budget);
        for number in 0..2000 {
            store.insert(&format!("key {number}"), stored(10_000), store.sequence()).expect("room");
        }
        assert!(store.metrics.cache.bytes.get() as usize <= budget);
        assert!(store.metrics.cache.bytes.get() as usize > budget / 2);
        assert!(has(&store, "key 1999"));
        assert!(!has(&store, "key 0"));
    }

    #[test]
    fn a_purge_beats_a_fill_in_flight() {
        let store = store(4 * 1024 * 1024);
        let before = store.sequence();
        store.remove("key");
        assert_eq!(store.insert("key", stored(1), before), Err(NotStored::Superseded));
        assert!(!has(&store, "key"));
    }

    #[test]
    fn memory_is_given_back_when_a_key_is_removed() {
        let store = store(4 * 1024 * 1024);
        store.insert("key", stored(1000), store.sequence()).expect("room");
        store.remove("key");
        assert_eq!(store.metrics.cache.bytes.get(), 0);
    }
}
