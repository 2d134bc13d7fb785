//! One part of the store: answers by the hash of their key, and by their URL.

use crate::purge::Target;
use crate::segmented::{Segmented, Slot};
use crate::stored::Stored;
use crate::uncacheable::Uncacheable;
use crate::weight;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of keys per URL, which differ by listed headers and cookies, shard or rules; the oldest makes
/// room for one more.
pub(super) const KEYS_PER_URL_MAX: usize = 1024;

/// The answers of a key.
pub(super) struct Kept {
    /// The full key, compared on each use: hashes are keyed and 64 bits long, but not unique.
    pub(super) key: Box<str>,
    pub(super) variants: Vec<Arc<Stored>>,
}

pub(super) struct Shard {
    /// The entries by the hash of their key.
    pub(super) entries: Segmented<Kept>,
    /// The same hashes by URL, in the order in which they came. It is a tree because that grows in small
    /// steps, where a table would double its memory at once.
    pub(super) keys: BTreeMap<(u64, u64), u64>,
    /// How many keys have come so far; orders those of a URL.
    pub(super) came: u64,
    /// How many bytes the tables take.
    pub(super) tables: usize,
    pub(super) uncacheable: Uncacheable,
}

impl Shard {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            entries: Segmented::new(budget),
            keys: BTreeMap::new(),
            came: 0,
            tables: 0,
            uncacheable: Uncacheable::default(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.bytes() + self.tables
    }

    pub(super) fn keys_of(&self, url: u64) -> impl DoubleEndedIterator<Item = (&(u64, u64), &u64)> {
        self.keys.range((url, 0)..=(url, u64::MAX))
    }

    /// Keeps an answer under a new key. The oldest of too many keys makes room, and so does one with the same
    /// hash.
    pub(super) fn put(&mut self, key: &str, hash: u64, stored: Arc<Stored>) {
        let url = stored.url;
        self.remove(hash);
        let kept = Kept { key: key.into(), variants: vec![stored] };
        self.entries.put(hash, Slot { bytes: weigh(&kept.key, &kept.variants), value: kept });
        // With this key the URL may have one too many.
        let oldest = self.keys_of(url).nth_back(KEYS_PER_URL_MAX - 1);
        if let Some(place) = oldest.map(|(place, _)| *place)
            && let Some(hash) = self.keys.remove(&place)
        {
            self.entries.remove(hash);
        }
        self.keys.insert((url, self.came), hash);
        self.came += 1;
    }

    pub(super) fn remove(&mut self, hash: u64) {
        let removed = self.entries.remove(hash);
        if let Some(stored) = removed.as_ref().and_then(|kept| kept.variants.first()) {
            self.forget(stored.url, hash);
        }
    }

    /// Forgets a key that is no longer among the entries.
    pub(super) fn forget(&mut self, url: u64, hash: u64) {
        let found = self.keys_of(url).find(|(_, own)| **own == hash).map(|(place, _)| *place);
        if let Some(place) = found {
            self.keys.remove(&place);
        }
    }

    /// Frees what an empty shard still takes.
    pub(super) fn shrink(&mut self, budget: usize) {
        if self.entries.count() == 0 {
            self.entries = Segmented::new(budget);
            self.tables = 0;
        }
    }

    /// The hashes of all keys of a URL, or of all keys there are.
    pub(super) fn keys(&self, target: &Target) -> Vec<u64> {
        match target {
            Target::Url(url) => self.keys_of(*url).map(|(_, hash)| *hash).collect(),
            Target::Tag(_) | Target::All => self.entries.keys().collect(),
        }
    }
}

/// How many bytes a key and its answers take, with its place among the keys of its URL.
pub(super) fn weigh(key: &str, variants: &Vec<Arc<Stored>>) -> usize {
    let blocks = Segmented::<Kept>::key_bytes()
        + weight::block(key.len())
        + weight::tree_entry::<(u64, u64), u64>()
        + weight::list(variants)
        + variants.iter().map(|stored| stored.blocks()).sum::<usize>();
    let mapped: usize = variants.iter().map(|stored| stored.mapped()).sum();
    weight::in_pages(blocks) + mapped
}
