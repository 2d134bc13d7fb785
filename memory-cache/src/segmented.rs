//! Which answers go first: a segmented LRU with a memory of what it let go.
//!
//! A new key comes on probation; one that is used again is protected. A scan of keys that are asked
//! for once so pushes out others on probation, and nothing that is in use. A key that comes back
//! soon after it was let go was let go too early, and is protected at once (the ghosts of ARC and
//! S3-FIFO: Megiddo and Modha, FAST 2003; Yang et al., SOSP 2023).
//!
//! Keys are hashes, so the caller has to compare the full key of what it finds.

use crate::weight;
use lru::LruCache;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroUsize;

/// The part of the budget for protected keys; the rest is for keys on probation. This constant and the next
/// were found by trial: `cargo xtask bench cache` gives a ratio within half a point of quick_cache's.
const PROTECTED_PERCENT: usize = 98;
/// For so many keys kept, one evicted key is remembered, which takes a hash of 8 bytes and its place in a
/// list.
const KEYS_PER_GHOST: usize = 4;
const GHOSTS_MIN: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// A value and its weight in bytes.
pub struct Slot<T> {
    /// The value.
    pub value: T,
    /// How many bytes of the budget the value takes.
    pub bytes: usize,
}

/// A hasher that passes keys through, because they are hashes already.
#[derive(Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Lru<T> = LruCache<u64, T, BuildHasherDefault<AsItIs>>;

/// Values by key under a budget of bytes: a value is on probation until it is asked for again (segmented LRU:
/// Karedla, Love and Wherry, Computer 27(3), 1994), so that a scan evicts only what a scan brought in.
pub struct Segmented<T> {
    probation: Lru<Slot<T>>,
    protected: Lru<Slot<T>>,
    protected_bytes: usize,
    bytes: usize,
    budget: usize,
    ghosts: Lru<()>,
    /// The largest number of keys that each of the three has held, because their tables never shrink.
    most: [usize; 3],
}

impl<T> Segmented<T> {
    /// An empty cache with this budget in bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            probation: Lru::unbounded_with_hasher(BuildHasherDefault::default()),
            protected: Lru::unbounded_with_hasher(BuildHasherDefault::default()),
            protected_bytes: 0,
            bytes: 0,
            budget,
            ghosts: Lru::with_hasher(GHOSTS_MIN, BuildHasherDefault::default()),
            most: [0; 3],
        }
    }

    /// How many bytes a key takes here, besides its value.
    pub fn key_bytes() -> usize {
        weight::list_node::<u64, Slot<T>>()
    }

    /// How many bytes the tables take, with the evicted keys that are remembered.
    pub fn table_bytes(&mut self) -> usize {
        let held = [self.probation.len(), self.protected.len(), self.ghosts.len()];
        for (most, held) in self.most.iter_mut().zip(held) {
            *most = held.max(*most);
        }
        let tables: usize = self.most.map(weight::list_table).iter().sum();
        tables + self.ghosts.len() * weight::list_node::<u64, ()>()
    }

    /// Sets the budget: how many bytes all values may weigh together from now on.
    pub fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
    }

    /// How many bytes all values weigh together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many values there are.
    pub fn count(&self) -> usize {
        self.probation.len() + self.protected.len()
    }

    /// Uses the value of a key, which protects the key.
    pub fn get(&mut self, key: u64) -> Option<&T> {
        if let Some(slot) = self.probation.pop(&key) {
            self.protect(key, slot);
        }
        self.protected.get(&key).map(|slot| &slot.value)
    }

    /// Looks at the value of a key without using it.
    pub fn peek(&self, key: u64) -> Option<&T> {
        let slot = self.protected.peek(&key).or_else(|| self.probation.peek(&key));
        slot.map(|slot| &slot.value)
    }

    fn protect(&mut self, key: u64, slot: Slot<T>) {
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
    pub fn put(&mut self, key: u64, slot: Slot<T>) {
        self.bytes += slot.bytes;
        if self.ghosts.pop(&key).is_some() {
            self.protect(key, slot);
        } else {
            self.probation.put(key, slot);
        }
    }

    /// Changes a value in its place; the key is neither used nor moved.
    pub fn change<R>(&mut self, key: u64, change: impl FnOnce(&mut Slot<T>) -> R) -> Option<R> {
        let is_protected = self.protected.contains(&key);
        let of = if is_protected { &mut self.protected } else { &mut self.probation };
        let slot = of.peek_mut(&key)?;
        let before = slot.bytes;
        let changed = change(slot);
        let after = slot.bytes;
        self.bytes = self.bytes + after - before;
        if is_protected {
            self.protected_bytes = self.protected_bytes + after - before;
        }
        Some(changed)
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        if let Some(slot) = self.probation.pop(&key) {
            self.bytes -= slot.bytes;
            return Some(slot.value);
        }
        let slot = self.protected.pop(&key)?;
        self.bytes -= slot.bytes;
        self.protected_bytes -= slot.bytes;
        Some(slot.value)
    }

    /// Evicts one value when all of them weigh more than the budget.
    pub fn evict(&mut self) -> Option<(u64, T)> {
        if self.bytes <= self.budget {
            return None;
        }
        // Where only one is on probation, it has just come, so a protected one goes.
        let (key, slot) = if self.probation.len() > 1 || self.protected.is_empty() {
            self.probation.pop_lru()?
        } else {
            let (key, slot) = self.protected.pop_lru()?;
            self.protected_bytes -= slot.bytes;
            (key, slot)
        };
        self.bytes -= slot.bytes;
        let ghosts = NonZeroUsize::new(self.count() / KEYS_PER_GHOST);
        self.ghosts.resize(ghosts.unwrap_or(GHOSTS_MIN).max(GHOSTS_MIN));
        self.ghosts.put(key, ());
        Some((key, slot.value))
    }

    /// The keys of all values, in no order.
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        self.probation.iter().chain(self.protected.iter()).map(|(key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};

    struct Cache(Segmented<()>, RandomState);

    impl Cache {
        /// A cache with room for so many keys of weight 1.
        fn of(budget: usize) -> Self {
            Self(Segmented::new(budget), RandomState::new())
        }

        /// Uses a key, or keeps it when it is not there. Returns whether it was there.
        fn ask(&mut self, key: &str) -> bool {
            let key = self.1.hash_one(key);
            if self.0.get(key).is_some() {
                return true;
            }
            self.0.put(key, Slot { value: (), bytes: 1 });
            while self.0.evict().is_some() {}
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
