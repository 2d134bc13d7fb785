use super::*;
use http::{HeaderMap, StatusCode};
use http1::block::Block;
use rules::cache::{Entry, Windows};
use rules::{Millis, UnixMillis};

const MIB: usize = 1024 * 1024;

struct World {
    store: Store,
}

impl World {
    fn new(budget: usize) -> Self {
        Self { store: Store::new(budget) }
    }

    /// Begins an answer without a length.
    fn fill(&self) -> (Filler, Reader) {
        let windows = Windows {
            fresh: Millis(1000),
            stale_while_revalidate: Millis(0),
            stale_if_error: Millis(0),
            disconnected: Millis(0),
            max_staleness: None,
        };
        let entry = Entry {
            received: UnixMillis(0),
            age_at_receipt: Millis(0),
            windows,
            etag: None,
            last_modified: None,
            vary: Vec::new(),
            is_shared: false,
            language: None,
        };
        let fields = Block::new(StatusCode::OK, &HeaderMap::new());
        let head = Arc::new(Stored::new(200, (fields, None), Bytes::new(), entry, 0, Vec::new()));
        let room = self.store.room_for(None).expect("room for the beginning");
        Filler::new(&self.store, room, (head, None), (self.store.mark(), "rules".into()))
    }

    /// How many bytes are counted in all.
    fn counted(&self) -> usize {
        usize::try_from(self.store.counts().bytes()).expect("not negative")
    }
}

/// Bytes that a reader can have now; an error if it was cut off, or the answer broke off.
fn read(reader: &mut Reader) -> io::Result<usize> {
    let mut context = Context::from_waker(Waker::noop());
    let mut length = 0;
    while let Poll::Ready(Some(piece)) = reader.poll_read(&mut context) {
        length += piece?.len();
    }
    Ok(length)
}

#[test]
fn what_a_slow_reader_lacks_is_counted_until_it_goes_also_after_the_end() {
    let world = World::new(64 * MIB);
    let (mut filler, mut leader) = world.fill();
    let mut slow = filler.fill.join().expect("the beginning is there");
    let piece = vec![b'x'; PIECE_BYTES_MAX];
    filler.push(&world.store, &piece).expect("no length was announced");
    read(&mut slow).expect("not cut off");
    while filler.refused().is_none() {
        filler.push(&world.store, &piece).expect("no length was announced");
        read(&mut leader).expect("never cut off");
    }
    assert_eq!(filler.end().expect("no length was announced"), None, "too large");
    drop(leader);
    let held = match &slow.fill.lock().memory {
        Memory::Window(held) => held.len(),
        Memory::Pages(_) | Memory::Whole(_) => panic!("it is not kept"),
    };
    assert!(world.counted() >= held && held >= 2 * MIB, "{} of {held}", world.counted());
    assert!(read(&mut slow).expect("not cut off") >= 2 * MIB);
    drop(slow);
    assert_eq!(world.counted(), 0);
}

#[test]
fn memory_of_a_reader_that_lags_does_not_grow_and_it_is_cut_off() {
    let world = World::new(64 * MIB);
    let (mut filler, mut leader) = world.fill();
    let mut slow = filler.fill.join().expect("the beginning is there");
    let piece = vec![b'x'; PIECE_BYTES_MAX];
    let most = world.store.entry_bytes_max() + PIECE_BYTES_MAX;
    for _ in 0..100 {
        filler.push(&world.store, &piece).expect("no length was announced");
        read(&mut leader).expect("never cut off");
        assert!(world.counted() <= most, "{}", world.counted());
    }
    assert!(read(&mut slow).is_err());
}

#[test]
fn who_has_read_all_there_was_is_not_cut_off_where_no_room_is_left() {
    let world = World::new(8 * MIB);
    let (mut filler, mut leader) = world.fill();
    let mut follower = filler.fill.join().expect("the beginning is there");
    let mut others = Vec::new();
    while let Ok(room) = world.store.room_for(None) {
        others.push(room);
    }
    // The first piece is a little more than there was room for.
    for length in [UNKNOWN_BYTES_MIN + 1, PIECE_BYTES_MAX, PIECE_BYTES_MAX, PIECE_BYTES_MAX] {
        filler.push(&world.store, &vec![b'x'; length]).expect("no length was announced");
        assert_eq!(filler.refused(), Some(NotStored::NoRoom));
        for reader in [&mut leader, &mut follower] {
            assert_eq!(read(reader).expect("never cut off"), length);
        }
    }
}

#[test]
fn what_is_kept_is_counted_by_the_store_alone() {
    let world = World::new(64 * MIB);
    let (mut filler, reader) = world.fill();
    filler.push(&world.store, b"all of it").expect("no length was announced");
    assert!(world.counted() >= UNKNOWN_BYTES_MIN);
    let body = filler.end().expect("no length was announced");
    assert_eq!(body.as_deref(), Some(&b"all of it"[..]));
    assert_eq!(world.counted(), 0);
    drop(reader);
}
