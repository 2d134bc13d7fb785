//! How much of the process's memory a stored answer takes; the budget is a limit on that.
//!
//! The allocator (mimalloc) hands out blocks of certain sizes. So every allocation that an answer is
//! made of is counted as the block it gets, and so are the store's own nodes and tables.

use bytes::Bytes;
use rules::cache::Entry;
use std::mem::size_of;

/// Larger allocations take whole pages of the system.
const LARGE_MAX: usize = 512 * 1024;
const PAGE: usize = 4096;
/// The two counters of an `Arc`: how many hold it strongly, and how many weakly.
const COUNTS: usize = 2 * size_of::<usize>();
/// What the handles of one `Bytes` share: its address, its length and their number. It is allocated for the
/// second handle, which is the first answer's.
const SHARED: usize = block(3 * size_of::<usize>());
/// Bodies of this size in bytes or more are mapped: they have pages of their own, and what their handles
/// share.
pub(super) const MAPPED_MIN: usize = 64 * 1024;
const MAPPING: usize = block(3 * size_of::<usize>());
/// How many keys a node of the standard library's B-tree can hold. Two thirds are in use where keys come in
/// any order.
const NODE_KEYS: usize = 11;

/// For so many blocks in use, one more is free in the allocator's pages: at their ends, or between blocks
/// that were freed at another time. Measured: 2 to 3 % where answers of 10 to 100 bytes come and go
/// (`benches/cache/memory.py`).
const BLOCKS_PER_FREE: usize = 40;

/// How many bytes the allocator takes for this many: steps of 16 up to 64 bytes, then four to each doubling.
pub(super) const fn block(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=64 => bytes.next_multiple_of(16),
        65..=LARGE_MAX => bytes.next_multiple_of(1 << ((bytes - 1).ilog2() - 2)),
        _ => bytes.next_multiple_of(PAGE),
    }
}

/// How many bytes an `Arc` of a value of this size takes.
pub(super) const fn shared(bytes: usize) -> usize {
    block(COUNTS + bytes)
}

/// How many bytes each entry of a B-tree takes.
pub(super) const fn tree_entry<K, V>() -> usize {
    let node = block(NODE_KEYS * (size_of::<K>() + size_of::<V>()) + COUNTS);
    node * 3 / 2 / NODE_KEYS
}

/// How many bytes a node of the `lru` crate takes: key, value and the addresses of its two neighbours.
pub(super) const fn list_node<K, V>() -> usize {
    block(size_of::<(K, V, [usize; 2])>())
}

/// How many bytes the hash table of the `lru` crate takes once it has held this many keys: a power of two of
/// places for two pointers and a byte each. Seven eighths may be in use, but where keys come and go a third
/// stays free: places that are left can't be used again where the table is crowded, so that it grows.
pub(super) fn list_table(most: usize) -> usize {
    let places = (most * 3 / 2 + 1).next_power_of_two();
    if most == 0 { 0 } else { block(places * (2 * size_of::<usize>() + 1)) }
}

/// How much of a body that [`crate::fill`] brought in lies in blocks, and how much in pages.
pub(super) fn body(body: &Bytes) -> (usize, usize) {
    match body.len() {
        length if length < MAPPED_MIN => (text(body), 0),
        length => (MAPPING, length.next_multiple_of(PAGE)),
    }
}

/// How many bytes of pages are needed for blocks of this many bytes.
pub(super) fn in_pages(blocks: usize) -> usize {
    blocks + blocks / BLOCKS_PER_FREE
}

/// How many bytes encoded header fields, or a small body, take.
pub(super) fn text(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { block(bytes.len()) + SHARED }
}

pub(super) fn entry(entry: &Entry) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, |text| block(text.capacity()));
    let vary = entry.vary.iter().map(|(name, value)| block(name.capacity()) + text(value));
    text(&entry.etag)
        + text(&entry.last_modified)
        + text(&entry.language)
        + list(&entry.vary)
        + vary.sum::<usize>()
}

pub(super) fn tags(tags: &Vec<Box<str>>) -> usize {
    list(tags) + tags.iter().map(|tag| block(tag.len())).sum::<usize>()
}

pub(super) fn list<T>(list: &Vec<T>) -> usize {
    block(list.capacity() * size_of::<T>())
}
