//! Answers in memory under a byte budget.
//!
//! The budget is divided over shards with a lock each, so that threads rarely meet; no lock is
//! held across an await. All answers of a URL are in one shard: a purge of it takes one lock.

use super::purge::{Log, Mark, Target};
use super::segmented::{Segmented, Slot};
use crate::metrics::Metrics;
use bytes::Bytes;
use http1::block::Block;
use lru::LruCache;
use rules::cache::{Entry, NotStored, Plan, fits};
use rules::{Head, cache::status::Miss};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Power of two; enough that 16 threads seldom wait for each other.
const SHARDS: usize = 16;
/// A body larger than this would evict too much of the rest.
const ENTRY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Answers per key that differ by Vary; the oldest makes room.
const VARIANTS_MAX: usize = 16;
/// Keys per URL, which differ by listed headers and cookies, shard or rules; the oldest makes room.
const KEYS_PER_URL_MAX: usize = 1024;
/// Keys known to be uncacheable per shard, so that their requests don't queue behind each other.
const UNCACHEABLE_MAX: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// How long a key counts as uncacheable, in milliseconds: an app that starts to send
/// Cache-Control is believed within this time.
const UNCACHEABLE_MS: u64 = 10_000;
/// Bytes of bookkeeping per answer.
const ENTRY_OVERHEAD: usize = 1344;
/// Bytes of bookkeeping per tag, besides its text.
const TAG_OVERHEAD: usize = 32;

/// A stored answer. Shared, never copied: a hit clones the `Arc` and the body's handle.
#[derive(Clone)]
pub struct Stored {
    pub status: u16,
    pub fields: Block,
    pub body: Bytes,
    pub entry: Entry,
    /// Of the URL it answers, as [`Store::url`] hashes it.
    pub url: u64,
    /// By which it is purged.
    pub tags: Vec<Box<str>>,
}

impl Stored {
    fn size(&self, key: &str) -> usize {
        let tags: usize = self.tags.iter().map(|tag| tag.len() + TAG_OVERHEAD).sum();
        key.len() + self.fields.lines().len() + tags + self.body.len() + ENTRY_OVERHEAD
    }
}

type Variants = Vec<Arc<Stored>>;

struct Shard {
    entries: Segmented<Variants>,
    keys: HashMap<u64, Vec<Arc<str>>>,
    /// Until when, by hash of the key.
    uncacheable: LruCache<u64, u64>,
}

impl Shard {
    /// Forgets a key that is no more among the entries.
    fn forget(&mut self, url: u64, key: &str) {
        if let Some(keys) = self.keys.get_mut(&url) {
            keys.retain(|own| **own != *key);
            if keys.is_empty() {
                self.keys.remove(&url);
            }
        }
    }

    /// All of a URL, or all that there are.
    fn keys(&self, target: &Target) -> Vec<Arc<str>> {
        match target {
            Target::Url(url) => self.keys.get(url).cloned().unwrap_or_default(),
            Target::Tag(_) | Target::All => {
                self.entries.iter().map(|(key, _)| Arc::clone(key)).collect()
            }
        }
    }
}

pub struct Store {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    shard_budget: usize,
    purges: Log,
    metrics: Arc<Metrics>,
}

/// What a look-up found.
pub enum Found {
    Answer(Arc<Stored>),
    Miss(Miss),
}

/// How answers are purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    /// Their memory is given back.
    Hard,
    /// They are stale from now (milliseconds since 1970) on: good for revalidation and for the stale
    /// windows.
    Soft { now: u64 },
}

impl Store {
    pub fn new(budget_bytes: usize, metrics: Arc<Metrics>) -> Self {
        let shard_budget = budget_bytes / SHARDS;
        let shard = || {
            Mutex::new(Shard {
                entries: Segmented::new(shard_budget),
                keys: HashMap::new(),
                uncacheable: LruCache::new(UNCACHEABLE_MAX),
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            shard_budget,
            purges: Log::default(),
            metrics,
        }
    }

    /// The hash of a URL (`Plan::url`), by which its answers are found together.
    pub fn url(&self, url: &str) -> u64 {
        self.hasher.hash_one(url)
    }

    fn shard(&self, url: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[url as usize & (SHARDS - 1)])
    }

    /// Bytes a body may have to be stored: a shard holds several.
    pub fn entry_bytes_max(&self) -> usize {
        ENTRY_BYTES_MAX.min(self.shard_budget / 2)
    }

    /// The variant that fits the request.
    pub fn look_up(&self, plan: &Plan<'_>, head: &Head<'_>) -> Found {
        let mut shard = self.shard(self.url(&plan.url));
        let Some(variants) = shard.entries.get(&plan.key) else { return Found::Miss(Miss::Uri) };
        match variants.iter().find(|stored| fits(&stored.entry, head)) {
            Some(stored) => Found::Answer(Arc::clone(stored)),
            None => Found::Miss(Miss::Vary),
        }
    }

    /// To be read before a fetch and given to [`Store::insert`] after it.
    pub fn mark(&self) -> Mark {
        self.purges.mark()
    }

    /// Stores an answer.
    ///
    /// # Errors
    /// `superseded` when it was purged since the mark, `too-large` when it does not fit a shard.
    pub fn insert(&self, key: &str, stored: Arc<Stored>, since: Mark) -> Result<(), NotStored> {
        let size = stored.size(key);
        if size > self.shard_budget {
            return Err(NotStored::TooLarge);
        }
        let mut shard = self.shard(stored.url);
        let before = shard.entries.bytes();
        // Under the lock that a purge takes after it is noted: one of the two sees the other.
        if self.purges.has_purged(&stored, since) {
            return Err(NotStored::Superseded);
        }
        shard.uncacheable.pop(&self.hasher.hash_one(key));
        let url = stored.url;
        let add = |slot: &mut Slot<Variants>| {
            slot.value.retain(|own| own.entry.vary != stored.entry.vary);
            slot.value.insert(0, Arc::clone(&stored));
            slot.value.truncate(VARIANTS_MAX);
            slot.bytes = slot.value.iter().map(|own| own.size(key)).sum();
        };
        if shard.entries.change(key, add).is_none() {
            let name: Arc<str> = key.into();
            let slot = Slot { value: vec![stored], bytes: size };
            shard.entries.put(Arc::clone(&name), self.hasher.hash_one(key), slot);
            let keys = shard.keys.entry(url).or_default();
            keys.push(name);
            if keys.len() > KEYS_PER_URL_MAX {
                let oldest = keys.remove(0);
                shard.entries.remove(&oldest);
            }
        }
        while let Some((key, variants)) = shard.entries.evict(|key| self.hasher.hash_one(key)) {
            if let Some(url) = variants.first().map(|stored| stored.url) {
                shard.forget(url, &key);
            }
            self.metrics.cache.evictions.inc();
        }
        self.account(&shard, before);
        Ok(())
    }

    fn account(&self, shard: &Shard, before: usize) {
        self.metrics.cache.bytes.add(shard.entries.bytes() as i64 - before as i64);
    }

    /// Purges; how many answers. Fills in flight of what is purged are not stored.
    pub fn purge(&self, target: &Target, how: Purge) -> usize {
        self.purges.note(target.clone());
        match target {
            Target::Url(url) => self.purge_in(&mut self.shard(*url), target, how),
            Target::Tag(_) | Target::All => {
                self.shards.iter().map(|shard| self.purge_in(&mut lock(shard), target, how)).sum()
            }
        }
    }

    fn purge_in(&self, shard: &mut Shard, target: &Target, how: Purge) -> usize {
        let before = shard.entries.bytes();
        let mut count = 0;
        for key in shard.keys(target) {
            let purged = shard.entries.change(&key, |slot| {
                let first = slot.value.first().map(|stored| stored.url);
                let found = slot.value.iter().filter(|stored| target.is(stored)).count();
                match how {
                    Purge::Hard => slot.value.retain(|stored| !target.is(stored)),
                    Purge::Soft { now } => {
                        for stored in slot.value.iter_mut().filter(|stored| target.is(stored)) {
                            Arc::make_mut(stored).entry.expire(now);
                        }
                    }
                }
                slot.bytes = slot.value.iter().map(|own| own.size(&key)).sum();
                (found, first.filter(|_| slot.value.is_empty()))
            });
            let Some((found, emptied)) = purged else { continue };
            count += found;
            if let Some(url) = emptied {
                shard.entries.remove(&key);
                shard.forget(url, &key);
            }
        }
        self.account(shard, before);
        count
    }

    /// Remembers that answers of this key can't be stored.
    pub fn note_uncacheable(&self, plan: &Plan<'_>, now: u64) {
        let key = self.hasher.hash_one(plan.key.as_str());
        self.shard(self.url(&plan.url)).uncacheable.put(key, now.saturating_add(UNCACHEABLE_MS));
    }

    pub fn is_uncacheable(&self, plan: &Plan<'_>, now: u64) -> bool {
        let key = self.hasher.hash_one(plan.key.as_str());
        let shard = self.shard(self.url(&plan.url));
        shard.uncacheable.peek(&key).is_some_and(|until| now < *until)
    }

    /// Sets the gauge of entries; called when metrics are read.
    pub fn count(&self) {
        let entries: usize = self.shards.iter().map(|shard| lock(shard).entries.count()).sum();
        self.metrics.cache.entries.set(entries as i64);
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A poisoned lock means a panic, and a panic ends this program.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
