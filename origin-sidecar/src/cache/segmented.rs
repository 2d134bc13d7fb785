//! Which answers go first: a segmented LRU with a memory of what it let go.
//!
//! A new key comes on probation; one that is used again is protected. A scan of keys that are asked
//! for once so pushes out others on probation, and nothing that is in use. A key that comes back
//! soon after it was let go was let go too early, and is protected at once (the ghosts of ARC and
//! S3-FIFO: Megiddo and Modha, FAST 2003; Yang et al., SOSP 2023).

use super::weight;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Of the budget; the rest is for keys on probation. This and the next by trial: `cargo xtask bench
/// cache` gives a ratio within half a point of quick_cache's.
const PROTECTED_PERCENT: usize = 98;
/// Keys kept for each one that is remembered; that takes a hash of 8 bytes and the list around it.
const KEYS_PER_GHOST: usize = 4;
const GHOSTS_MIN: usize = 64;

/// What is kept of a key, and its weight in bytes.
pub struct Slot<T> {
    pub value: T,
    pub bytes: usize,
}

pub struct Segmented<T> {
    probation: LruCache<Arc<str>, Slot<T>>,
    protected: LruCache<Arc<str>, Slot<T>>,
    protected_bytes: usize,
    bytes: usize,
    budget: usize,
    ghosts: LruCache<u64, ()>,
    /// The most that each of the three has held: their tables never shrink.
    most: [usize; 3],
}

impl<T> Segmented<T> {
    pub fn new(budget: usize) -> Self {
        Self {
            probation: LruCache::unbounded(),
            protected: LruCache::unbounded(),
            protected_bytes: 0,
            bytes: 0,
            budget,
            ghosts: LruCache::new(NonZeroUsize::new(GHOSTS_MIN).unwrap_or(NonZeroUsize::MIN)),
            most: [0; 3],
        }
    }

    /// Bytes that a key of so many takes here, besides what its value takes.
    pub fn key_bytes(length: usize) -> usize {
        weight::list_node::<Arc<str>, Slot<T>>() + weight::shared(length)
    }

    /// Bytes of the tables, and of what is remembered of keys that were let go.
    pub fn table_bytes(&mut self) -> usize {
        let held = [self.probation.len(), self.protected.len(), self.ghosts.len()];
        for (most, held) in self.most.iter_mut().zip(held) {
            *most = held.max(*most);
        }
        let tables: usize = self.most.map(weight::list_table).iter().sum();
        tables + self.ghosts.len() * weight::list_node::<u64, ()>()
    }

    /// Bytes that values may weigh from now on.
    pub fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn count(&self) -> usize {
        self.probation.len() + self.protected.len()
    }

    /// A use: protects the key.
    pub fn get(&mut self, key: &str) -> Option<&T> {
        if let Some((key, slot)) = self.probation.pop_entry(key) {
            self.protect(key, slot);
        }
        self.protected.get(key).map(|slot| &slot.value)
    }

    fn protect(&mut self, key: Arc<str>, slot: Slot<T>) {
        self.protected_bytes += slot.bytes;
        self.protected.put(key, slot);
        while self.protected_bytes > self.budget / 100 * PROTECTED_PERCENT
            && self.protected.len() > 1
        {
            let Some((key, slot)) = self.protected.pop_lru() else { return };
            self.protected_bytes -= slot.bytes;
            self.probation.put(key, slot);
        }
    }

    /// Keeps a value for a key that is not there.
    pub fn put(&mut self, key: Arc<str>, hash: u64, slot: Slot<T>) {
        self.bytes += slot.bytes;
        if self.ghosts.pop(&hash).is_some() {
            self.protect(key, slot);
        } else {
            self.probation.put(key, slot);
        }
    }

    /// Changes a value in its place; the key is neither used nor moved.
    pub fn change<R>(&mut self, key: &str, change: impl FnOnce(&mut Slot<T>) -> R) -> Option<R> {
        let is_protected = self.protected.contains(key);
        let slot =
            if is_protected { self.protected.peek_mut(key) } else { self.probation.peek_mut(key) };
        let slot = slot?;
        let before = slot.bytes;
        let changed = change(slot);
        let after = slot.bytes;
        self.bytes = self.bytes + after - before;
        if is_protected {
            self.protected_bytes = self.protected_bytes + after - before;
        }
        Some(changed)
    }

    pub fn remove(&mut self, key: &str) -> Option<T> {
        if let Some(slot) = self.probation.pop(key) {
            self.bytes -= slot.bytes;
            return Some(slot.value);
        }
        let slot = self.protected.pop(key)?;
        self.bytes -= slot.bytes;
        self.protected_bytes -= slot.bytes;
        Some(slot.value)
    }

    /// Lets one go when there is more than the budget; `hash` names keys in the memory.
    pub fn evict(&mut self, hash: impl FnOnce(&str) -> u64) -> Option<(Arc<str>, T)> {
        if self.bytes <= self.budget {
            return None;
        }
        // The last one on probation has just come.
        let (key, slot) = if self.probation.len() > 1 || self.protected.is_empty() {
            self.probation.pop_lru()?
        } else {
            let (key, slot) = self.protected.pop_lru()?;
            self.protected_bytes -= slot.bytes;
            (key, slot)
        };
        self.bytes -= slot.bytes;
        let ghosts = (self.count() / KEYS_PER_GHOST).max(GHOSTS_MIN);
        self.ghosts.resize(NonZeroUsize::new(ghosts).unwrap_or(NonZeroUsize::MIN));
        self.ghosts.put(hash(&key), ());
        Some((key, slot.value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &T)> {
        self.probation.iter().chain(self.protected.iter()).map(|(key, slot)| (key, &slot.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};

    struct Cache(Segmented<()>, RandomState);

    impl Cache {
        /// Room for so many keys of weight 1.
        fn of(budget: usize) -> Self {
            Self(Segmented::new(budget), RandomState::new())
        }

        /// Asks for a key and keeps it when it is not there; whether it was.
        fn ask(&mut self, key: &str) -> bool {
            if self.0.get(key).is_some() {
                return true;
            }
            let hash = |key: &str| self.1.hash_one(key);
            self.0.put(key.into(), hash(key), Slot { value: (), bytes: 1 });
            while self.0.evict(hash).is_some() {}
            assert!(self.0.bytes() <= self.0.budget && self.0.bytes() == self.0.count());
            false
        }

        fn ask_all(&mut self, name: &str, count: usize) {
            for key in 0..count {
                self.ask(&format!("{name} {key}"));
            }
        }
    }

    #[test]
    fn what_is_in_use_outlives_a_scan() {
        let mut cache = Cache::of(200);
        for _ in 0..2 {
            cache.ask_all("used", 100);
        }
        cache.ask_all("once", 10_000);
        assert!((0..100).all(|key| cache.ask(&format!("used {key}"))));
    }

    #[test]
    fn a_key_that_comes_back_soon_is_protected_at_once() {
        let mut cache = Cache::of(100);
        cache.ask("soon");
        cache.ask_all("once", 100);
        assert!(!cache.ask("soon"));
        cache.ask_all("again", 1000);
        assert!(cache.ask("soon"));
    }
}
