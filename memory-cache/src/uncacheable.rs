//! Keys whose answers could not be stored lately, so that their requests do not queue behind each other.

use lru::LruCache;
use rules::{Millis, UnixMillis};
use std::num::NonZeroUsize;

/// The number of keys that one shard of the store remembers.
const KEYS_MAX: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// How long a key counts as uncacheable: an app that starts to send Cache-Control is
/// believed within this time.
const LASTS: Millis = Millis(10_000);

/// How much of a request for such a key the application is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// As much as when its answer is kept, so that the application is not shown more now and less later.
    Planned,
    /// All that the client sent, because without it the application redirects the request to its own path.
    Whole,
}

/// Until when a key counts as uncacheable, by the hash of the key.
pub struct Uncacheable(LruCache<u64, (UnixMillis, Shown)>);

impl Default for Uncacheable {
    fn default() -> Self {
        Self(LruCache::new(KEYS_MAX))
    }
}

impl Uncacheable {
    /// Remembers a key from `now` on.
    pub fn note(&mut self, key: u64, shown: Shown, now: UnixMillis) {
        self.0.put(key, (now + LASTS, shown));
    }

    /// What the app is shown of requests of this key, while it counts as uncacheable.
    pub fn get(&self, key: u64, now: UnixMillis) -> Option<Shown> {
        self.0.peek(&key).filter(|(until, _)| now < *until).map(|(_, shown)| *shown)
    }

    /// Forgets a key: an answer of it was stored.
    pub fn forget(&mut self, key: u64) {
        self.0.pop(&key);
    }
}
