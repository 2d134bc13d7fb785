//! A job that could not be executed: its application accepts no connections, or says when to come
//! back. This uses up no attempt. The message stays in hand for some minutes, so that a deployment
//! costs no deliveries, and is then returned for some more.

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

    /// When a job has waited for its application for as long as it may.
    pub(super) fn wait_end(&self, job: &Job, since: UnixMillis) -> UnixMillis {
        job.deadline.unwrap_or_else(|| since + self.queue.wait_for_app)
    }

    /// Releases the lease and waits with the message in hand. `began` is when this delivery's first
    /// such wait began.
    pub(super) async fn wait(
        &self,
        job: &Job,
        held: &mut HeldLease,
        until: &Until,
        began: Instant,
    ) -> Waited {
        let consumer = self.consumer;
        consumer.count("waiting", until.reason());
        let since = *held.waiting.get_or_insert_with(|| self.waiting_since(until));
        held.take_back_attempt();
        let after = match until {
            Until::Back(_) => Duration::ZERO,
            Until::After(after) => (*after).max(AFTER_MIN),
            Until::Room => ROOM_PAUSE,
            Until::Moved(_) => Duration::ZERO,
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
        let left = self.wait_end(job, since) - consumer.worker.context.clock.now();
        let end = Instant::now() + Duration::from(left);
        let kept_until = began + KEEP;
        if Instant::now() + after > kept_until && end > kept_until {
            return self.give_back_for(job, since, began, after);
        }
        let again = async {
            match until {
                Until::Back(name) => {
                    consumer.presence.opened(name).await;
                    Some(Arc::clone(name))
                }
                Until::Moved(map) => {
                    consumer.worker.context.maps.settled(map).await;
                    None
                }
                Until::After(_) | Until::Room => {
                    tokio::time::sleep(after).await;
                    None
                }
            }
        };
        let mut draining = consumer.worker.context.drain.draining();
        tokio::select! {
            biased;
            () = DrainState::begun(&mut draining) => Waited::Drained,
            // One more try, which ends the job.
            () = sleep_until(end) => Waited::Again(None),
            let_go = again => Waited::Again(let_go),
            () = sleep_until(kept_until) => self.give_back_for(job, since, began, after),
        }
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
