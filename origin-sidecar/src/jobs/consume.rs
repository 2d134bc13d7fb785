//! The consumer's loop: it receives only messages whose jobs it can start.

use super::attempt;
use super::consumer::{Consumer, PAUSE};
use super::context::JobWorker;
use super::destinations::destinations;
use super::limits::TenantLimits;
use super::presence::{Presence, ReceiveAllowance};
use super::receives::{ROUND, receives};
use crate::drain::DrainState;
use crate::secrets::random_hex;
use rules::{Rules, document};
use std::sync::Arc;
use std::time::Duration;
use stores::queue::{Queue, Received};
use stores::results::Results;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The duration of a long poll. The drain waits for a poll in flight (an aborted one would hide its
/// messages for a whole visibility timeout), so it is shorter than SQS's 20 s.
const LONG_POLL: Duration = Duration::from_secs(5);
/// The duration of a long poll of a billed queue that has been [`Quiet`]: SQS's maximum, at a
/// quarter of the cost.
const LONG_POLL_IDLE: Duration = Duration::from_secs(20);
/// How long nothing must have arrived or run before polls become that long.
const IDLE_AFTER: Duration = Duration::from_secs(60);
/// Messages received at once, the limit of SQS.
const RECEIVE_MAX: usize = 10;
/// Messages in hand for each slot: one more may wait for its route or its tenant.
const IN_HAND_PER_SLOT: usize = 2;
/// Further messages in hand: those of a busy route must not keep others from being received. Each
/// holds its body, 1 MiB at most, and is invisible to consumers that may be idle.
const IN_HAND_MORE: usize = 32;
/// Ended jobs whose receivers are being notified. A receiver that hangs is given up after about two
/// minutes; further ended jobs keep their place in hand.
const TELLING_MAX: usize = 256;
/// Jobs in hand that have waited for a shard map. They leave the other places to jobs whose ranges do not move;
/// each holds its body, 1 MiB at most.
const OF_MAPS_MAX: usize = 64;
/// The part of the grace period that is reserved for returning messages: one call to the queue and
/// one to the store.
const GIVE_BACK: Duration = Duration::from_secs(3);
/// The visibility timeout where the rules no longer contain the queue.
const VISIBILITY_UNKNOWN: Duration = Duration::from_secs(60);

/// Schedules looks through the queue while no job can be executed, so that jobs which have waited
/// too long still end.
struct Looks {
    next: Instant,
    is_looking: bool,
}

impl Looks {
    fn new() -> Self {
        Self { next: Instant::now() + ROUND, is_looking: false }
    }

    fn put_off(&mut self) {
        *self = Self::new();
    }

    /// Whether messages are received now. A look lasts until no message comes.
    fn is_due(&mut self) -> bool {
        if self.next <= Instant::now() {
            *self = Self { is_looking: true, ..Self::new() };
        }
        self.is_looking
    }
}

/// Since when no message has come and no job runs.
struct Quiet(Option<Instant>);

impl Quiet {
    fn note(&mut self, is_quiet: bool) {
        self.0 = is_quiet.then(|| self.0.unwrap_or_else(Instant::now));
    }

    /// How long the next poll may take. No job runs during a long poll, so a drain that begins
    /// meanwhile can use the whole grace period for it: the poll takes no longer than that.
    fn wait(&self, is_billed: bool, grace: Duration) -> Duration {
        match self.0 {
            Some(since) if is_billed && since.elapsed() >= IDLE_AFTER => {
                LONG_POLL_IDLE.min(grace).max(LONG_POLL)
            }
            _ => LONG_POLL,
        }
    }
}

impl Consumer {
    /// Builds the consumer of a queue.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(
        worker: Arc<JobWorker>,
        name: &str,
        queue: Arc<dyn Queue>,
        results: Arc<dyn Results>,
        presence: Arc<Presence>,
    ) -> std::io::Result<Self> {
        let concurrency = worker
            .context
            .active
            .rules()
            .document
            .queues
            .get(name)
            .map_or(1, |queue| queue.concurrency);
        Ok(Self {
            worker,
            name: name.to_owned(),
            queue,
            results,
            presence,
            holder: random_hex(8)?,
            limits: TenantLimits::default(),
            is_until_empty: false,
            slots: Arc::new(Semaphore::new(usize::try_from(concurrency).unwrap_or(1))),
            telling: Semaphore::new(TELLING_MAX),
            of_maps: Arc::new(Semaphore::new(OF_MAPS_MAX)),
            giving_up: watch::channel(false).0,
        })
    }

    /// Consumes until the drain, or until the queue is empty. Then it waits for running jobs, for
    /// the grace period at most once the process ends, and returns all other messages.
    pub async fn run(self: Arc<Self>, grace: Duration) {
        self.check_receives();
        let mut draining = self.worker.context.drain.draining();
        let in_hand = self.slots.available_permits() * IN_HAND_PER_SLOT + IN_HAND_MORE;
        let in_hand = Arc::new(Semaphore::new(in_hand));
        let mut running = JoinSet::new();
        let (mut looks, mut quiet) = (Looks::new(), Quiet(None));
        while !*draining.borrow() {
            let free = tokio::select! {
                biased;
                free = self.free(&in_hand, &mut looks) => free,
                () = DrainState::begun(&mut draining) => break,
            };
            while running.try_join_next().is_some() {}
            quiet.note(running.is_empty());
            let wait = quiet.wait(self.queue.is_billed(), grace);
            // A queue that can't be asked is not empty.
            let Some(received) = self.receive(free, wait).await else { continue };
            let is_empty = received.is_empty();
            quiet.note(is_empty);
            looks.is_looking &= !is_empty;
            for received in received {
                if *draining.borrow() || self.is_stopped() {
                    // The message came with the last poll: the application may be gone before its
                    // job is done, or outcomes could not be stored.
                    self.give_back(&received, Duration::ZERO).await;
                    continue;
                }
                // A permit is available, because nobody else takes any, and the semaphore is never
                // closed.
                let place = Arc::clone(&in_hand).acquire_owned().await;
                // A job in hand may have got its turn meanwhile, and taken the slot.
                let slot = Arc::clone(&self.slots).try_acquire_owned().ok();
                let this = Arc::clone(&self);
                running.spawn(async move {
                    // The semaphore is never closed, so there is one.
                    if let Ok(place) = place {
                        attempt::work(&this, received, slot, place).await;
                    }
                });
            }
            while running.try_join_next().is_some() {}
            if self.is_until_empty && is_empty && running.is_empty() {
                break;
            }
        }
        let mut ending = self.worker.context.drain.ending();
        let over = async {
            DrainState::begun(&mut ending).await;
            tokio::time::sleep(grace.saturating_sub(GIVE_BACK)).await;
        };
        let is_finished = tokio::select! {
            biased;
            () = async { while running.join_next().await.is_some() {} } => true,
            () = over => false,
        };
        if is_finished {
            return;
        }
        tracing::warn!(
            queue = self.name,
            "jobs still running at the end of the grace period; returned to the queue"
        );
        self.giving_up.send_replace(true);
        let given_back = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(GIVE_BACK, given_back).await.is_err() {
            tracing::warn!(
                queue = self.name,
                "some messages were not returned; they reappear after the visibility timeout"
            );
        }
    }

    /// Warns of a queue that drops messages sooner than a job may take.
    fn check_receives(&self) {
        let (queue, needed) = (&self.name, receives(self.document().as_ref()));
        let Some(max) = self.queue.receives_max().filter(|max| *max < needed) else { return };
        tracing::warn!(
            queue,
            max,
            needed,
            reason = "receives-too-few",
            "the queue's maxReceiveCount is too small for the job's attempts and waits: raise it"
        );
    }

    /// Whether nothing is received, because outcomes could not be stored or there are no rules.
    fn is_stopped(&self) -> bool {
        self.worker.context.backends.soundness.of_receiving(&self.name).is_some()
    }

    /// Waits until a job can be started, and returns how many. Messages whose jobs can't be started
    /// would time out in a buffer.
    async fn free(&self, in_hand: &Arc<Semaphore>, looks: &mut Looks) -> usize {
        loop {
            // The permits are returned at once: only waiting is intended.
            let _ = in_hand.acquire().await;
            let _ = self.slots.acquire().await;
            let free = self.slots.available_permits().min(in_hand.available_permits());
            let rules = self.rules();
            if self.is_stopped() {
                // The failure is logged there, and the queue is asked again.
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            match self.presence.room(destinations(&self.worker.context, &rules, &self.name)) {
                ReceiveAllowance::Many => {
                    looks.put_off();
                    return free.clamp(1, RECEIVE_MAX);
                }
                ReceiveAllowance::One => return 1,
                ReceiveAllowance::None if looks.is_due() => return free.clamp(1, RECEIVE_MAX),
                ReceiveAllowance::None => self.presence.news().await,
            }
        }
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        self.worker.context.active.rules()
    }

    pub(super) fn document(&self) -> Option<document::Queue> {
        self.rules().document.queues.get(&self.name).cloned()
    }

    async fn receive(&self, max: usize, wait: Duration) -> Option<Vec<Received>> {
        let visibility =
            self.document().map_or(VISIBILITY_UNKNOWN, |queue| Duration::from(queue.visibility));
        match self.queue.receive(max, wait, visibility).await {
            Ok(received) => {
                self.note_age(&received);
                Some(received)
            }
            Err(error) => {
                tracing::warn!(queue = self.name, %error, "receive failed");
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    /// Records the age of the first message: SQS does not tell that of its oldest one.
    fn note_age(&self, received: &[Received]) {
        let now = self.worker.context.clock.now();
        let oldest = received.iter().filter(|it| it.receives == 1).map(|it| it.sent).min();
        let age = oldest.map_or(0, |sent| (now - sent).as_secs());
        let gauge = &self.worker.context.metrics.jobs.received_age_seconds;
        let gauge = gauge.with_label_values(&[self.name.as_str()]);
        gauge.set(i64::try_from(age).unwrap_or(i64::MAX));
    }

    pub(super) fn count(&self, outcome: &str, reason: &str) {
        self.worker.context.metrics.jobs.ended(&self.name, outcome, reason);
    }

    /// Pauses before the store is asked again. `None` when the drain began.
    pub(super) async fn pause(&self) -> Option<()> {
        if *self.worker.context.drain.draining().borrow() {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
        Some(())
    }

    pub(super) async fn give_back(&self, received: &Received, delay: Duration) {
        if let Err(error) = self.queue.set_visibility(&received.receipt, delay).await {
            tracing::debug!(message = received.id, %error, "message not returned to the queue; it reappears after the visibility timeout");
        }
    }

    pub(super) async fn delete(&self, received: &Received) {
        if let Err(error) = self.queue.delete(&received.receipt).await {
            tracing::warn!(message = received.id, %error, "could not delete the message; its duplicate will be deleted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_poll_is_long_after_a_quiet_minute_and_no_longer_than_a_drain_may_take() {
        const CHART: Duration = Duration::from_secs(285);
        let mut quiet = Quiet(None);
        quiet.note(true);
        tokio::time::advance(IDLE_AFTER - Duration::from_millis(1)).await;
        assert_eq!(quiet.wait(true, CHART), LONG_POLL);
        quiet.note(true);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(quiet.wait(true, CHART), LONG_POLL_IDLE);
        assert_eq!(quiet.wait(true, Duration::from_secs(12)), Duration::from_secs(12));
        assert_eq!(quiet.wait(true, Duration::ZERO), LONG_POLL);
        assert_eq!(quiet.wait(false, CHART), LONG_POLL, "a folder costs nothing");
        quiet.note(false);
        quiet.note(true);
        assert_eq!(quiet.wait(true, CHART), LONG_POLL, "a job has come, or runs");
    }
}
