//! What the store counts, beside the blocks that the allocator has for what it was asked for; and what asks the
//! allocator for nothing.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http1::block::Block;
use memory_cache::store::Store;
use memory_cache::stored::Stored;
use rules::cache::{Entry, Windows};
use rules::shard::{Resolved, ShardKey, ShardKeys};
use rules::{Millis, Rules, UnixMillis};
use spillway::memory::Allocator;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    /// Bytes of the blocks that this thread has and has not given back.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
    /// How often it has asked for one.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator can't be written without")]
mod counting {
    use super::{ASKED, Allocator, Counting, GlobalAlloc, Layout, TAKEN};

    unsafe extern "C" {
        safe fn mi_good_size(size: usize) -> usize;
    }

    // SAFETY: all is done by ours; `realloc` is the default one, of `alloc` and `dealloc`.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            TAKEN.set(TAKEN.get().wrapping_add(mi_good_size(layout.size())));
            ASKED.set(ASKED.get().wrapping_add(1));
            // SAFETY: as the caller says.
            unsafe { Allocator.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // What another thread took is given back here.
            TAKEN.set(TAKEN.get().wrapping_sub(mi_good_size(layout.size())));
            // SAFETY: as the caller says.
            unsafe { Allocator.dealloc(block, layout) };
        }
    }
}

/// What is kept of a kind of answers: bytes of body, header lines, tags and fields of Vary.
type Kind = (usize, usize, usize, usize);

const KINDS: [Kind; 8] = [
    (0, 0, 0, 0),
    (1, 1, 0, 0),
    (10, 5, 1, 0),
    (100, 9, 0, 2),
    (1_000, 12, 3, 1),
    (9_000, 30, 30, 8),
    (40_000, 3, 0, 0),
    (65_535, 96, 2, 1),
];

/// Known names, own ones, and one that comes several times.
fn headers(lines: usize) -> HeaderMap {
    let known = ["content-type", "etag", "cache-control", "vary", "date", "server"];
    let mut headers = HeaderMap::new();
    for line in 0..lines {
        let name = match line % 3 {
            0 => known[line / 3 % known.len()].to_owned(),
            1 => format!("x-note-{line}"),
            _ => "link".to_owned(),
        };
        let name = HeaderName::try_from(name).expect("a name");
        headers.append(name, HeaderValue::try_from("v".repeat(line + 1)).expect("a value"));
    }
    headers
}

fn stored(store: &Store, key: &str, (body, lines, tags, vary): Kind) -> Stored {
    let windows = Windows {
        fresh: Millis(1000),
        stale_while_revalidate: Millis(0),
        stale_if_error: Millis(0),
        disconnected: Millis(0),
        max_staleness: None,
    };
    let text = |length: usize| "t".repeat(length);
    let entry = Entry {
        received: UnixMillis(0),
        age_at_receipt: Millis(0),
        windows,
        etag: (lines > 4).then(|| text(lines)),
        last_modified: (lines > 8).then(|| text(29)),
        vary: (0..vary).map(|field| (text(field + 9), Some(text(field)))).collect(),
        is_shared: false,
        language: None,
    };
    let tags = (0..tags).map(|tag| text(tag + 1).into()).collect();
    let body = Bytes::from(vec![b'x'; body]);
    let stored = Stored::new(
        200,
        (Block::new(StatusCode::OK, &headers(lines)), None),
        body,
        entry,
        store.url(key),
        tags,
    );
    // The answer to the one who asked for it.
    drop((stored.fields.headers(), stored.body.clone()));
    stored
}

fn store() -> Store {
    Store::new(1 << 30)
}

#[test]
fn the_look_up_of_a_shard_allocates_nothing() {
    let rules = "[shard_map.m]\nkey_type = \"int\"\n\
        ranges = [{ from = 1, shard = \"a\" }, { from = 100, shard = \"b\" }]\n\
        shards = { a = { upstream = \"a\" }, b = {} }\n";
    let rules = Rules::from_toml(rules).expect("good rules");
    let map = rules.shard_maps.get("m").expect("its map");
    let before = ASKED.get();
    for key in [1, 99, 100, i64::MAX] {
        let found = Resolved::find(map, ShardKeys::One(ShardKey::Int(key)));
        assert!(found.is_ok_and(|found| !found.shard().is_empty() && !found.map().is_empty()));
    }
    assert_eq!(ASKED.get(), before);
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ASKED.get(), before + 1, "the allocator does not count");
}

#[test]
fn an_answer_weighs_what_the_allocator_gave_for_it() {
    let store = store();
    for kind in KINDS {
        let before = TAKEN.get();
        let answer = Arc::new(stored(&store, "http://shop.example/", kind));
        assert_eq!(answer.blocks(), TAKEN.get() - before, "{kind:?}");
    }
}

#[test]
fn a_store_counts_what_it_takes_with_all_of_its_keys_and_tables() {
    for (kind, count) in KINDS.into_iter().zip([30_000, 20_000, 9_000, 7_000, 5_000, 999, 500, 99])
    {
        let store = store();
        let before = TAKEN.get();
        for number in 0..count {
            let key = format!("http://shop.example/products/{number}?currency=eur");
            let answer = Arc::new(stored(&store, &key, kind));
            store.insert(&key, answer, store.mark()).expect("room");
        }
        let taken = (TAKEN.get() - before) as f64;
        let counted = store.counts().bytes() as f64;
        assert!(counted > 0.99 * taken && counted < 1.06 * taken, "{kind:?}: {counted} of {taken}");
    }
}
