//! Answers in memory under a byte budget.
//!
//! The budget is divided over shards with a lock each, so that threads rarely meet; no lock is
//! held across an await. All answers of a URL are in one shard: a purge of it takes one lock.

use crate::counts::Counts;
use crate::purge::{Log, Mark, Target};
use crate::room::{Room, UNKNOWN_BYTES_MIN};
use crate::shard::{Kept, Shard, weigh};
use crate::stored::Stored;
use crate::uncacheable::Shown;
use foldhash::quality::RandomState;
use rules::UnixMillis;
use rules::cache::{NotStored, Plan, as_meant, fits};
use rules::{Head, cache::status::Miss};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of shards, a power of two: enough that 16 threads seldom wait for each other.
const SHARDS: usize = 16;
/// The largest body in bytes; a larger one would evict too much of the rest.
const ENTRY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The number of answers per key that differ by `Vary`; the oldest makes room for one more.
const VARIANTS_MAX: usize = 16;
/// Answers that are still coming in may take one part in so many of the budget.
const FILLING_PART: usize = 2;

/// Answers by key, shared by all threads.
pub struct Store {
    shards: Vec<Mutex<Shard>>,
    /// Keys of the hash, random per process: an attacker who finds two keys of one hash evicts only their own
    /// answers.
    hasher: RandomState,
    shard_budget: usize,
    /// Bytes of answers that are still coming in.
    filling: Arc<AtomicUsize>,
    purges: Log,
    counts: Arc<Counts>,
}

/// What a look-up found.
pub enum Found {
    /// The variant that fits, fresh or not.
    Answer(Arc<Stored>),
    /// Nothing fits; the reason why.
    Miss(Miss),
}

/// How answers are purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    /// Their memory is freed at once.
    Hard,
    /// They are stale from now on: good for revalidation and for the stale windows.
    Soft {
        /// The time of the purge, in milliseconds since 1970.
        now: UnixMillis,
    },
}

impl Store {
    /// An empty store with a budget in bytes for answers, their keys and the tables.
    pub fn new(budget_bytes: usize) -> Self {
        let shard_budget = budget_bytes / SHARDS;
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(shard_budget))).collect(),
            hasher: RandomState::default(),
            shard_budget,
            filling: Arc::default(),
            purges: Log::default(),
            counts: Arc::default(),
        }
    }

    /// The hash of a URL (`Plan::url`), by which its answers are found together.
    pub fn url(&self, url: &str) -> u64 {
        self.hasher.hash_one(&*as_meant(url))
    }

    /// The hash of the URL that a plan is for.
    pub fn url_of(&self, plan: &Plan<'_>) -> u64 {
        self.hasher.hash_one(&*plan.url_as_meant())
    }

    fn shard(&self, url: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[url as usize & (SHARDS - 1)])
    }

    /// How many bytes a body may have to be stored: a shard must hold several.
    pub fn entry_bytes_max(&self) -> usize {
        ENTRY_BYTES_MAX.min(self.shard_budget / 2)
    }

    /// The variant that fits the request.
    pub fn look_up(&self, plan: &Plan<'_>, head: &Head<'_>) -> Found {
        let hash = self.hasher.hash_one(plan.key.as_str());
        let mut shard = self.shard(self.url_of(plan));
        let kept = shard.entries.get(hash).filter(|kept| *kept.key == *plan.key);
        let Some(kept) = kept else { return Found::Miss(Miss::Uri) };
        match kept.variants.iter().find(|stored| fits(&stored.entry, head)) {
            Some(stored) => Found::Answer(Arc::clone(stored)),
            None => Found::Miss(Miss::Vary),
        }
    }

    /// Room of no bytes yet, for an answer that begins to come in.
    pub fn room(&self) -> Room {
        Room::new(Arc::clone(&self.filling), Arc::clone(&self.counts))
    }

    /// Room for an answer of this length, or `too-large` or `no-room`. Room for an answer without a length
    /// may grow.
    pub fn room_for(&self, length: Option<u64>) -> Result<Room, NotStored> {
        let bytes = length.unwrap_or(UNKNOWN_BYTES_MIN as u64) as usize;
        let mut room = self.room();
        if bytes > self.entry_bytes_max() {
            return Err(NotStored::TooLarge);
        }
        if self.grow(&mut room, bytes) { Ok(room) } else { Err(NotStored::NoRoom) }
    }

    /// Resizes the room to so many bytes, at the expense of what is stored. Returns whether that was
    /// possible.
    pub fn grow(&self, room: &mut Room, bytes: usize) -> bool {
        let before = room.bytes();
        room.set(bytes.max(before));
        if self.filling.load(Ordering::Relaxed) > self.budget() / FILLING_PART {
            room.set(before);
            return false;
        }
        if self.counts.bytes() > self.budget() as i64 {
            for shard in &self.shards {
                let mut shard = lock(shard);
                let before = shard.bytes();
                let let_go = self.make_room(&mut shard);
                self.account(&shard, before);
                drop(shard);
                drop(let_go);
            }
        }
        true
    }

    fn budget(&self) -> usize {
        self.shard_budget * SHARDS
    }

    /// Whether an answer whose fetch began at the mark was purged since.
    pub fn has_purged(&self, stored: &Stored, since: Mark) -> bool {
        self.purges.has_purged(stored, since)
    }

    /// The mark to take before a fetch and to give to [`Store::insert`] after it.
    pub fn mark(&self) -> Mark {
        self.purges.mark()
    }

    /// Stores an answer.
    ///
    /// # Errors
    /// `superseded` when it was purged since the mark, `too-large` when it does not fit a shard.
    pub fn insert(&self, key: &str, stored: Arc<Stored>, since: Mark) -> Result<(), NotStored> {
        if weigh(key, &vec![Arc::clone(&stored)]) > self.shard_budget {
            return Err(NotStored::TooLarge);
        }
        let mut shard = self.shard(stored.url);
        let before = shard.bytes();
        // This is looked at under the lock that a purge takes after it was noted, so one of the two sees the
        // other.
        if self.purges.has_purged(&stored, since) {
            return Err(NotStored::Superseded);
        }
        let hash = self.hasher.hash_one(key);
        for by_token in [false, true] {
            shard.uncacheable.forget(self.uncacheable(key, by_token));
        }
        if shard.entries.peek(hash).is_some_and(|kept| *kept.key == *key) {
            shard.entries.change(hash, |slot| {
                let variants = &mut slot.value.variants;
                variants.retain(|own| own.entry.vary != stored.entry.vary);
                variants.insert(0, stored);
                variants.truncate(VARIANTS_MAX);
                slot.bytes = weigh(key, variants);
            });
        } else {
            shard.put(key, hash, stored);
        }
        let let_go = self.make_room(&mut shard);
        self.account(&shard, before);
        drop(shard);
        // Dropped outside the lock, because large bodies go back to the system.
        drop(let_go);
        Ok(())
    }

    /// Removes one stored answer of a key, because the origin no longer allows it to be kept.
    pub fn forget(&self, key: &str, stored: &Arc<Stored>) {
        let mut shard = self.shard(stored.url);
        let before = shard.bytes();
        let hash = self.hasher.hash_one(key);
        let is_emptied = shard.entries.change(hash, |slot| {
            let Kept { key, variants } = &mut slot.value;
            variants.retain(|own| !Arc::ptr_eq(own, stored));
            slot.bytes = weigh(key, variants);
            variants.is_empty()
        });
        if is_emptied == Some(true) {
            shard.entries.remove(hash);
            shard.forget(stored.url, hash);
        }
        self.account(&shard, before);
    }

    /// Evicts what is over the budget, from which the tables and the answers that are still coming in are
    /// subtracted.
    fn make_room(&self, shard: &mut Shard) -> Vec<Kept> {
        let mut let_go = Vec::new();
        shard.tables = shard.entries.table_bytes();
        let filling = self.filling.load(Ordering::Relaxed) / SHARDS;
        shard.entries.set_budget(self.shard_budget.saturating_sub(shard.tables + filling));
        while let Some((hash, kept)) = shard.entries.evict() {
            if let Some(url) = kept.variants.first().map(|stored| stored.url) {
                shard.forget(url, hash);
            }
            self.counts.evicted();
            let_go.push(kept);
        }
        let_go
    }

    fn account(&self, shard: &Shard, before: usize) {
        self.counts.add_bytes(shard.bytes() as i64 - before as i64);
    }

    /// Purges answers, and returns how many. Fills in flight of what is purged are not stored.
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
        let before = shard.bytes();
        let mut count = 0;
        for hash in shard.keys(target) {
            let purged = shard.entries.change(hash, |slot| {
                let Kept { key, variants } = &mut slot.value;
                let first = variants.first().map(|stored| stored.url);
                let found = variants.iter().filter(|stored| target.is(stored)).count();
                match how {
                    Purge::Hard => variants.retain(|stored| !target.is(stored)),
                    Purge::Soft { now } => {
                        for stored in variants.iter_mut().filter(|stored| target.is(stored)) {
                            Arc::make_mut(stored).entry.expire(now);
                        }
                    }
                }
                slot.bytes = weigh(key, variants);
                (found, first.filter(|_| variants.is_empty()))
            });
            let Some((found, emptied)) = purged else { continue };
            count += found;
            if let Some(url) = emptied {
                shard.entries.remove(hash);
                shard.forget(url, hash);
            }
        }
        shard.shrink(self.shard_budget);
        self.account(shard, before);
        count
    }

    /// Requests with and without `Authorization` are remembered apart, because the answer to one says nothing
    /// about the other.
    fn uncacheable(&self, key: &str, has_authorization: bool) -> u64 {
        self.hasher.hash_one((key, has_authorization))
    }

    /// Remembers that answers of this key can't be stored.
    pub fn note_uncacheable(&self, plan: &Plan<'_>, shown: Shown, now: UnixMillis) {
        let key = self.uncacheable(&plan.key, plan.has_authorization);
        self.shard(self.url_of(plan)).uncacheable.note(key, shown, now);
    }

    /// What the app is shown of requests of this key, where its answers can't be stored.
    pub fn shown_uncached(&self, plan: &Plan<'_>, now: UnixMillis) -> Option<Shown> {
        let key = self.uncacheable(&plan.key, plan.has_authorization);
        self.shard(self.url_of(plan)).uncacheable.get(key, now)
    }

    /// The number of keys with answers. Takes each shard's lock for a moment.
    pub fn entries(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).entries.count()).sum()
    }

    /// How many bytes the store takes now, and how many keys it has evicted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A poisoned lock means a panic, and a panic ends this program.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
