//! A job that could not be executed: its application accepts no connections, or says when to come
//! back, or the range of its shard key moves. This uses up no attempt. The message stays in hand for
//! some minutes, so that a deployment or a move costs no deliveries, and is then returned for some more.

use super::delivery::Delivery;
use super::job::Job;
use super::lease::{HeldLease, LeaseLost};
use super::receives::ROUND;
use super::verdict::Until;
use crate::drain::DrainState;
use rules::{Millis, UnixMillis};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long the message of such a job is kept in hand: longer than replacing an application takes.
const KEEP: Duration = Duration::from_secs(600);
/// How long the message of a job is kept in hand that waits for a shard map: longer than a move holds writes.
const KEEP_FOR_MAP: Duration = Duration::from_secs(120);
/// For how long such a message is returned first, and at most: the time doubles with each delivery, as queues
/// count deliveries and drop a message that has had too many.
const MAP_DELAY: Duration = Duration::from_secs(5);
const MAP_DELAY_MAX: Duration = Duration::from_secs(300);
/// When a job is tried again that another sidecar refused by a newer map.
const NEWER_MAP_PAUSE: Duration = Duration::from_secs(5);
/// The shortest wait when an application says "come back at once": otherwise it would be asked ten
/// thousand times a second.
const AFTER_MIN: Duration = Duration::from_secs(1);
/// The pause before reading a job's body is tried again.
const ROOM_PAUSE: Duration = Duration::from_secs(5);
/// The log warns this many deliveries before the queue drops a message.
const RECEIVES_LEFT: u64 = 2;

/// What comes after a wait.
pub(super) enum Waited {
    /// The job is tried again. Contains the upstream that admits this job, if it was away.
    Again(Option<Arc<str>>),
    /// The message is returned for this time.
    GiveBack(Duration),
    /// The drain began: the message is left to other consumers.
    Drained,
    /// Another attempt holds the lease.
    Lost,
}

impl Delivery<'_> {
    /// Since when a job waits that was not known to wait. It waited in the
    /// queue already if its application was away then.
    pub(super) fn waiting_since(&self, until: &Until) -> UnixMillis {
        let now = self.consumer.worker.context.clock.now();
        let Until::Back(name) = until else { return now };
        let away = Millis::from(self.consumer.presence.away_for(name));
        (now - away).max(self.received.sent).min(now)
    }

    /// When a job has waited for as long as it may: until its deadline, and for its application as long as the
    /// rules allow. A wait for a shard map ends no job otherwise.
    pub(super) fn wait_end(
        &self,
        job: &Job,
        since: UnixMillis,
        until: &Until,
    ) -> Option<UnixMillis> {
        let by_rule = (!until.is_of_map()).then(|| since + self.queue.wait_for_app);
        job.deadline.or(by_rule)
    }

    /// Releases the lease and waits with the message in hand. `began` is when this delivery's first
    /// such wait began, and `kept_until` when its message is returned.
    pub(super) async fn wait(
        &self,
        job: &Job,
        held: &mut HeldLease,
        until: &Until,
        (began, kept_until): (Instant, Instant),
    ) -> Waited {
        let consumer = self.consumer;
        consumer.count("waiting", until.reason());
        let since = held.waiting.unwrap_or_else(|| self.waiting_since(until));
        // The time of a move is none that the application was away.
        held.waiting = (!until.is_of_map()).then_some(since);
        held.take_back_attempt();
        let after = match until {
            Until::Back(_) | Until::Moved(_) | Until::KnownMap => Duration::ZERO,
            Until::After(after) => (*after).max(AFTER_MIN),
            Until::Room => ROOM_PAUSE,
            Until::NewerMap => NEWER_MAP_PAUSE,
        };
        held.note_again(until.reason(), after);
        loop {
            match held.lay_down().await {
                Ok(true) => break,
                Err(LeaseLost) => return Waited::Lost,
                Ok(false) if consumer.pause().await.is_none() => return Waited::Drained,
                Ok(false) => {}
            }
        }
        let end = self.wait_end(job, since, until);
        let left = end.map(|end| Duration::from(end - consumer.worker.context.clock.now()));
        let end = left.map(|left| Instant::now() + left);
        let give_back = || match until.is_of_map() {
            true => self.give_back_for_map(job, until),
            false => self.give_back_for(job, since, began, after),
        };
        if Instant::now() + after >= kept_until && end.is_none_or(|end| end > kept_until) {
            return give_back();
        }
        let mut draining = consumer.worker.context.drain.draining();
        tokio::select! {
            biased;
            () = DrainState::begun(&mut draining) => Waited::Drained,
            // One more try, which ends the job.
            () = sleep_until(end.unwrap_or(kept_until)), if end.is_some() => Waited::Again(None),
            let_go = self.over(until, after) => Waited::Again(let_go),
            () = sleep_until(kept_until) => give_back(),
        }
    }

    /// Resolves when the job may be tried again; with the upstream that admits it, if that was away.
    async fn over(&self, until: &Until, after: Duration) -> Option<Arc<str>> {
        let consumer = self.consumer;
        match until {
            Until::Back(name) => {
                consumer.presence.opened(name).await;
                return Some(Arc::clone(name));
            }
            Until::Moved(map) => consumer.worker.context.maps.settled(map).await,
            Until::After(_) | Until::Room | Until::NewerMap | Until::KnownMap => {
                tokio::time::sleep(after).await;
            }
        }
        None
    }

    fn give_back_for_map(&self, job: &Job, until: &Until) -> Waited {
        let consumer = self.consumer;
        let receives = self.received.receives;
        let delay = map_delay(receives);
        consumer.count("given-back", until.reason());
        tracing::info!(
            queue = consumer.name,
            job = job.id,
            reason = until.reason(),
            seconds = delay.as_secs(),
            receives,
            "the job waits for its shard map; message returned to the queue for a while"
        );
        Waited::GiveBack(delay)
    }

    fn give_back_for(
        &self,
        job: &Job,
        since: UnixMillis,
        began: Instant,
        after: Duration,
    ) -> Waited {
        let consumer = self.consumer;
        let delay = ROUND.saturating_sub(began.elapsed()).max(after).min(ROUND);
        consumer.count("given-back", "app-unavailable");
        tracing::warn!(
            queue = consumer.name,
            job = job.id,
            since = since.0,
            seconds = delay.as_secs(),
            receives = self.received.receives,
            "the application is away; message returned to the queue for a while"
        );
        Waited::GiveBack(delay)
    }

    /// Warns before the queue drops the message: the queue counts deliveries, whatever their
    /// results.
    pub(super) fn note_receives(&self) {
        let receives = self.received.receives;
        let Some(max) = self.consumer.queue.receives_max() else { return };
        if receives.saturating_add(RECEIVES_LEFT) >= max {
            tracing::warn!(
                queue = self.consumer.name,
                message = self.received.id,
                reason = "receives-exhausted",
                receives,
                max,
                "the message has almost reached the queue's maxReceiveCount"
            );
        }
    }
}

/// How long the message of a job is kept in hand. Only another delivery reads the rules again, in which an unknown
/// map is known by then.
pub(super) fn time_in_hand(until: &Until) -> Duration {
    match until {
        Until::Back(_) | Until::After(_) | Until::Room => KEEP,
        Until::Moved(_) | Until::NewerMap => KEEP_FOR_MAP,
        Until::KnownMap => Duration::ZERO,
    }
}

/// For how long a message is returned at its delivery with this number, from 1.
fn map_delay(receives: u64) -> Duration {
    let doublings = u32::try_from(receives.saturating_sub(1)).unwrap_or(u32::MAX);
    MAP_DELAY.saturating_mul(2_u32.saturating_pow(doublings)).min(MAP_DELAY_MAX)
}
