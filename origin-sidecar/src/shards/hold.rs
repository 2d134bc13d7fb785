//! Writes of a fenced range wait here until the move has ended.
//!
//! Only the request's head has been read, and what its key needed of the body: the rest stays in the client's
//! socket (backpressure). They go on in the order in which they came.

use super::live_maps::LiveMaps;
use crate::drain::DrainState;
use crate::message::refused::Refused;
use crate::telemetry::metrics::Metrics;
use rules::Problem;
use rules::document::Hold;
use rules::shard::object::{MapObject, MoveStage};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The requests that wait, by map.
pub struct Holds {
    queues: Mutex<BTreeMap<Arc<str>, Queue>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Queue {
    /// By arrival.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
    arrived: u64,
    /// Of bodies that were read for their keys.
    bytes: u64,
}

/// Why a write did not go on. The name is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HoldRefusal {
    /// As many wait as may.
    Requests,
    /// Bodies that were read take as much room as they may.
    Bytes,
    /// It waited as long as it may.
    Time,
    /// This process ends.
    Draining,
}

impl HoldRefusal {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Bytes => "bytes",
            Self::Time => "time",
            Self::Draining => "draining",
        }
    }
}

/// One that waits: it leaves the queue when its client does.
struct HeldRequest<'a> {
    holds: &'a Holds,
    map: &'a Arc<str>,
    number: u64,
    bytes: u64,
    began: Instant,
}

impl Drop for HeldRequest<'_> {
    fn drop(&mut self) {
        let mut queues = self.holds.lock();
        if let Some(queue) = queues.get_mut(self.map) {
            queue.waiting.remove(&self.number);
            queue.bytes = queue.bytes.saturating_sub(self.bytes);
        }
        drop(queues);
        let shards = &self.holds.metrics.shards;
        shards.held.with_label_values(&[self.map]).dec();
        let seconds = shards.held_seconds.with_label_values(&[self.map]);
        seconds.observe(self.began.elapsed().as_secs_f64());
    }
}

impl Holds {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { queues: Mutex::default(), metrics }
    }

    /// Waits until the map has changed so that the range is not fenced any more. `bytes` were read of the
    /// request's body; `until` is when its time is over; `is_fenced_still` looks at the map in force.
    ///
    /// # Errors
    /// `range-fenced` when there is no room to wait, or it has waited too long.
    pub async fn wait(
        &self,
        map: &Arc<str>,
        (limits, bytes): (Hold, u64),
        until: Instant,
        drain: &DrainState,
        is_fenced_still: impl FnOnce() -> bool,
    ) -> Result<(), Refused> {
        let entered = self.enter(map, limits, bytes);
        let (_waiting, released) = entered.map_err(|given| self.refused(map, given))?;
        // The move may have ended since the map was looked at: then nobody will let this go on.
        if !is_fenced_still() {
            return Ok(());
        }
        let mut leaving = drain.leaving();
        tokio::select! {
            biased;
            // The sender is dropped with the queue only, which lives as long as the process.
            _ = released => Ok(()),
            () = DrainState::begun(&mut leaving) => Err(self.refused(map, HoldRefusal::Draining)),
            () = tokio::time::sleep_until(until) => Err(self.refused(map, HoldRefusal::Time)),
        }
    }

    fn enter<'a>(
        &'a self,
        map: &'a Arc<str>,
        limits: Hold,
        bytes: u64,
    ) -> Result<(HeldRequest<'a>, oneshot::Receiver<()>), HoldRefusal> {
        let mut queues = self.lock();
        let queue = queues.entry(Arc::clone(map)).or_default();
        if queue.waiting.len() as u64 >= limits.requests {
            return Err(HoldRefusal::Requests);
        }
        if bytes > 0 && queue.bytes.saturating_add(bytes) > limits.bytes {
            return Err(HoldRefusal::Bytes);
        }
        let (release, released) = oneshot::channel();
        queue.arrived += 1;
        queue.bytes += bytes;
        let number = queue.arrived;
        queue.waiting.insert(number, release);
        drop(queues);
        self.metrics.shards.held.with_label_values(&[map]).inc();
        let waiting = HeldRequest { holds: self, map, number, bytes, began: Instant::now() };
        Ok((waiting, released))
    }

    fn refused(&self, map: &str, given: HoldRefusal) -> Refused {
        let name = given.name();
        self.metrics.shards.hold_refused.with_label_values(&[map, name]).inc();
        let detail =
            format!("the data of this request moves to another shard ({name}); nothing was sent");
        Refused::new(Problem::RangeFenced, detail)
    }

    /// Lets all go on that wait in a map.
    fn release(&self, map: &str) {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(map) else { return };
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queues);
        for release in waiting.into_values() {
            // Whoever does not wait any more needs no word.
            let _ = release.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fenced(object: &MapObject) -> bool {
    object.moving.as_ref().is_some_and(|moving| moving.stage == MoveStage::Fenced)
}

/// Watches the maps until the process ends, and lets requests go on whose range is not fenced any more.
pub async fn watch(maps: Arc<LiveMaps>, holds: Arc<Holds>) {
    let mut changes = maps.active.changes();
    loop {
        for name in maps.names() {
            if !maps.object(&name).is_some_and(|object| is_fenced(&object)) {
                holds.release(&name);
            }
        }
        // The sender lives as long as the process.
        if changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::Millis;
    use std::time::Duration;

    const LIMITS: Hold = Hold { time: Millis(5_000), requests: 2, bytes: 100 };

    fn holds() -> Holds {
        Holds::new(Arc::new(Metrics::new().expect("one of each")))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn requests_go_on_in_the_order_in_which_they_came() {
        let (holds, map, drain) = (holds(), Arc::from("m"), DrainState::default());
        let order = Mutex::new(Vec::new());
        let wait = |number: u32| {
            let (holds, map, drain, order) = (&holds, &map, &drain, &order);
            async move {
                holds.wait(map, (LIMITS, 0), soon(), drain, || true).await.expect("released");
                order.lock().expect("not poisoned").push(number);
            }
        };
        let release = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(holds.metrics.shards.held.with_label_values(&["m"]).get(), 2);
            holds.release("m");
        };
        tokio::join!(wait(1), wait(2), release);
        assert_eq!(*order.lock().expect("not poisoned"), [1, 2]);
        assert_eq!(holds.metrics.shards.held.with_label_values(&["m"]).get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_that_ended_before_the_wait_began_is_not_waited_for() {
        let (holds, map, drain) = (holds(), Arc::from("m"), DrainState::default());
        let began = Instant::now();
        let waited = holds.wait(&map, (LIMITS, 0), soon(), &drain, || false).await;
        assert!(waited.is_ok() && began.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_or_waits_too_long_is_refused_by_name() {
        let (holds, map, drain) = (holds(), Arc::from("m"), DrainState::default());
        let began = Instant::now();
        let first = holds.wait(&map, (LIMITS, 60), soon(), &drain, || true);
        let too_much = async { holds.wait(&map, (LIMITS, 60), soon(), &drain, || true).await };
        let second = async { holds.wait(&map, (LIMITS, 0), soon(), &drain, || true).await };
        let third = async { holds.wait(&map, (LIMITS, 0), soon(), &drain, || true).await };
        let why = |given: Result<(), Refused>| {
            let refused = given.expect_err("refused");
            assert_eq!(refused.problem, Problem::RangeFenced);
            refused.detail.split(['(', ')']).nth(1).expect("a name").to_owned()
        };
        let (first, too_much, second, third) = tokio::join!(first, too_much, second, third);
        assert_eq!([too_much, third].map(why), ["bytes", "requests"]);
        assert_eq!([first, second].map(why), ["time", "time"]);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_makes_room_and_a_drain_ends_the_wait() {
        let (holds, map, drain) = (holds(), Arc::from("m"), DrainState::default());
        let one = Hold { requests: 1, ..LIMITS };
        let left = tokio::time::timeout(
            Duration::from_secs(1),
            holds.wait(&map, (one, 0), soon(), &drain, || true),
        );
        left.await.expect_err("its client left");
        let began = Instant::now();
        let leave = async { drain.leave() };
        let (given, _) = tokio::join!(holds.wait(&map, (one, 0), soon(), &drain, || true), leave);
        assert!(given.expect_err("refused").detail.contains("(draining)"));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
