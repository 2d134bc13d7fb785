//! Requests that write in ranges of live shard maps and have not ended.
//!
//! A range is safe to hand over when none is left. Every write of a live map is entered before it is sent, so
//! that a move also finds those that began before it was announced.

use http::Method;
use rules::shard::ShardKeys;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Slots before those of writes whose end is unknown are looked through for ones that count no longer: without
/// a move nobody else does.
const SWEEP_SLOTS_MIN: usize = 64;
/// Of those in flight, how many are named to people.
const NAMED_MAX: usize = rules::shard::protocol::NAMED_MAX;

/// All writes in flight of one process.
#[derive(Default)]
pub struct Writes {
    slots: Mutex<Slots>,
    /// Told whenever one ends.
    ended: Notify,
}

#[derive(Default)]
struct Slots {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// Entries made so far: tells an entry from a later one in the same slot.
    made: u64,
    /// Slots at which all are looked through the next time.
    sweep_at: usize,
}

struct Entry {
    serial: u64,
    map: Arc<str>,
    keys: ShardKeys,
    what: WriteKind,
    began: Instant,
    /// Until when an application may still be writing whose connection broke.
    unsettled_until: Option<Instant>,
}

/// What writes.
pub enum WriteKind {
    Request {
        route: Arc<str>,
        method: Method,
    },
    /// A request that runs on as a job of this id.
    Adopted(String),
    /// A queued job of this id.
    Job(String),
}

/// The writes of a range that have not ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InRange {
    /// Requests.
    pub requests: u64,
    /// Of them, those whose end is not known.
    pub unsettled: u64,
    pub adopted: Vec<String>,
    pub jobs: Vec<String>,
    /// Route, method and age of some requests.
    pub named: Vec<String>,
}

impl InRange {
    pub fn is_empty(&self) -> bool {
        self.requests == 0 && self.adopted.is_empty() && self.jobs.is_empty()
    }
}

/// Names one entry, also after it has ended.
#[derive(Clone, Copy)]
pub struct Tag {
    slot: usize,
    serial: u64,
}

/// One write in flight. Once it is [`WriteInFlight::sent`] and dropped without [`WriteInFlight::settled`], it stays
/// for a while: its connection broke, and the application may go on.
pub struct WriteInFlight {
    writes: Arc<Writes>,
    tag: Tag,
    settle: Duration,
    /// Nothing was sent, or its end has come.
    is_settled: bool,
}

impl Writes {
    /// Enters a write that is about to be sent. `settle` is how long it stays once its end is unknown.
    pub fn begin(
        self: &Arc<Self>,
        map: &Arc<str>,
        keys: &ShardKeys,
        what: WriteKind,
        settle: Duration,
    ) -> WriteInFlight {
        let mut slots = self.lock();
        slots.made += 1;
        let serial = slots.made;
        let entry = Entry {
            serial,
            map: Arc::clone(map),
            keys: keys.clone(),
            what,
            began: Instant::now(),
            unsettled_until: None,
        };
        if slots.free.is_empty() && slots.entries.len() >= slots.sweep_at {
            slots.sweep(Instant::now());
        }
        let slot = if let Some(slot) = slots.free.pop() {
            if let Some(place) = slots.entries.get_mut(slot) {
                *place = Some(entry);
            }
            slot
        } else {
            slots.entries.push(Some(entry));
            slots.entries.len() - 1
        };
        let tag = Tag { slot, serial };
        WriteInFlight { writes: Arc::clone(self), tag, settle, is_settled: true }
    }

    /// Says that a request runs on as a job.
    pub fn adopted(&self, tag: Tag, job: &str) {
        let mut slots = self.lock();
        let entry = slots.entries.get_mut(tag.slot).and_then(Option::as_mut);
        if let Some(entry) = entry.filter(|entry| entry.serial == tag.serial) {
            entry.what = WriteKind::Adopted(job.to_owned());
        }
    }

    /// The writes of a map whose keys lie in a range.
    pub fn in_range(&self, map: &str, is_inside: &dyn Fn(&ShardKeys) -> bool) -> InRange {
        self.look(map, is_inside).0
    }

    /// The same, and when the next of them ends that nobody will tell of.
    fn look(
        &self,
        map: &str,
        is_inside: &dyn Fn(&ShardKeys) -> bool,
    ) -> (InRange, Option<Instant>) {
        let now = Instant::now();
        let mut slots = self.lock();
        slots.sweep(now);
        let (mut found, mut next) = (InRange::default(), None::<Instant>);
        let own = slots.entries.iter().flatten();
        for entry in own.filter(|entry| &*entry.map == map && is_inside(&entry.keys)) {
            if let Some(until) = entry.unsettled_until {
                found.unsettled += 1;
                next = Some(next.map_or(until, |next| next.min(until)));
            }
            match &entry.what {
                WriteKind::Adopted(job) => found.adopted.push(job.clone()),
                WriteKind::Job(job) => found.jobs.push(job.clone()),
                WriteKind::Request { route, method } => {
                    found.requests += 1;
                    if found.named.len() < NAMED_MAX {
                        let age = now.duration_since(entry.began).as_secs();
                        let end =
                            if entry.unsettled_until.is_some() { ", end unknown" } else { "" };
                        found.named.push(format!("{method} on route {route} for {age} s{end}"));
                    }
                }
            }
        }
        (found, next)
    }

    /// Waits until no write of the range is left, but no longer than until `end`; what is left then.
    pub async fn drained(
        &self,
        map: &str,
        is_inside: &(dyn Fn(&ShardKeys) -> bool + Sync),
        end: Instant,
    ) -> InRange {
        loop {
            let ended = self.ended.notified();
            let (left, next) = self.look(map, is_inside);
            if left.is_empty() || Instant::now() >= end {
                return left;
            }
            // One that ends, or one that counts no longer: in either case another look.
            let _ = timeout_at(next.map_or(end, |next| next.min(end)), ended).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Removes the writes of unknown end that count no longer.
    fn sweep(&mut self, now: Instant) {
        let over = |entry: &Entry| entry.unsettled_until.is_some_and(|until| until <= now);
        for slot in 0..self.entries.len() {
            if self.entries.get(slot).and_then(Option::as_ref).is_some_and(over) {
                self.remove(slot);
            }
        }
        let taken = self.entries.len() - self.free.len();
        // Each sweep is paid for by as many writes as it looks through.
        self.sweep_at = (2 * taken).max(SWEEP_SLOTS_MIN);
    }

    fn remove(&mut self, slot: usize) {
        if let Some(place) = self.entries.get_mut(slot)
            && place.take().is_some()
        {
            self.free.push(slot);
        }
    }
}

impl WriteInFlight {
    /// By which the write can be named later.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// From here on the application may be at it.
    pub fn sent(&mut self) {
        self.is_settled = false;
    }

    /// It has certainly ended: the answer came to its end, or nothing was sent.
    pub fn settled(&mut self) {
        self.is_settled = true;
    }
}

impl Drop for WriteInFlight {
    fn drop(&mut self) {
        let mut slots = self.writes.lock();
        if self.is_settled || self.settle.is_zero() {
            slots.remove(self.tag.slot);
        } else if let Some(Some(entry)) = slots.entries.get_mut(self.tag.slot) {
            entry.unsettled_until = Some(Instant::now() + self.settle);
        }
        drop(slots);
        self.writes.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::shard::ShardKey;

    fn write(writes: &Arc<Writes>, key: i64) -> WriteInFlight {
        let what = WriteKind::Request { route: "orders".into(), method: Method::POST };
        let (keys, settle) = (ShardKeys::One(ShardKey::Int(key)), Duration::from_secs(30));
        let mut write = writes.begin(&"m".into(), &keys, what, settle);
        write.sent();
        write
    }

    fn below_ten(keys: &ShardKeys) -> bool {
        keys.as_slice().iter().all(|key| *key < ShardKey::Int(10))
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_whose_connection_broke_counts_until_it_has_settled() {
        let writes = Arc::new(Writes::default());
        let (mut ended, broken, _elsewhere) =
            (write(&writes, 1), write(&writes, 2), write(&writes, 20));
        assert_eq!(writes.in_range("m", &below_ten).requests, 2);
        assert!(writes.in_range("n", &below_ten).is_empty());
        ended.settled();
        drop((ended, broken));
        let left = writes.in_range("m", &below_ten);
        assert_eq!((left.requests, left.unsettled), (1, 1));
        assert_eq!(left.named, ["POST on route orders for 0 s, end unknown"]);
        let began = Instant::now();
        let left = writes.drained("m", &below_ten, began + Duration::from_secs(60)).await;
        assert!(left.is_empty());
        assert_eq!(began.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_with_the_last_write_or_at_its_end() {
        let writes = Arc::new(Writes::default());
        let mut own = write(&writes, 1);
        writes.adopted(own.tag(), "j1");
        let end = Instant::now() + Duration::from_secs(3);
        assert_eq!(writes.drained("m", &below_ten, end).await.adopted, ["j1"]);
        assert_eq!(Instant::now(), end);
        let waiting = writes.drained("m", &below_ten, end + Duration::from_secs(60));
        let ending = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            own.settled();
            drop(own);
        };
        let (left, ()) = tokio::join!(waiting, ending);
        assert!(left.is_empty());
        assert_eq!(Instant::now(), end + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn writes_of_unknown_end_take_no_room_for_ever() {
        let writes = Arc::new(Writes::default());
        for _ in 0..1_000 {
            drop(write(&writes, 1));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let slots = writes.lock().entries.len();
        assert!(slots <= 2 * SWEEP_SLOTS_MIN, "{slots} slots for 30 writes that still count");
    }

    #[test]
    fn a_write_that_was_refused_before_it_was_sent_leaves_nothing() {
        let writes = Arc::new(Writes::default());
        let what = WriteKind::Job("j1".to_owned());
        let keys = ShardKeys::One(ShardKey::Int(1));
        let unsent = writes.begin(&"m".into(), &keys, what, Duration::from_secs(30));
        assert_eq!(writes.in_range("m", &below_ten).jobs, ["j1"]);
        drop(unsent);
        assert!(writes.in_range("m", &below_ten).is_empty());
    }

    #[test]
    fn a_later_write_in_the_same_slot_is_not_taken_for_an_earlier_one() {
        let writes = Arc::new(Writes::default());
        let mut first = write(&writes, 1);
        let tag = first.tag();
        first.settled();
        drop(first);
        let _second = write(&writes, 2);
        writes.adopted(tag, "j1");
        assert!(writes.in_range("m", &below_ten).adopted.is_empty());
    }
}
