//! One delivery of a message: it is decoded, the lease is taken, and the job runs or waits for its
//! application.

use super::bare::Of;
use super::consumer::{Consumer, PAUSE};
use super::delivery::{Delivery, HEARTBEAT_PART};
use super::envelope::{self, NotAJob};
use super::job::Job;
use super::lease::{HeldLease, LeaseLost};
use super::malformed::Malformed;
use super::record::{self, JobEnd, Outcome, Terminal};
use super::store::{self, BrokenOff, CompleteEnd};
use super::turn::RunPermit;
use super::verdict::{
    APP_UNAVAILABLE, DEADLINE_PASSED, Executed, Execution, ExecutionVerdict, UNKNOWN, Until,
};
use super::waiting::{Waited, time_in_hand};
use super::{judge, run};
use crate::drain::DrainState;
use rules::{Millis, UnixMillis};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stores::queue::Received;
use stores::results::Condition;
use tokio::sync::OwnedSemaphorePermit;

/// How often a running job is checked for a cancellation, each time with one read of the store.
const CANCEL_POLL: Duration = Duration::from_secs(2);

/// What is done with the message after the attempt.
pub(super) enum After {
    /// The job has ended: its lease is removed with the message, and so are these keys of the
    /// store.
    Close(HeldLease, Vec<String>),
    GiveBack(Duration),
    /// The message stays: it belongs to another attempt, or goes to the dead letters.
    Leave,
}

/// The process drains: a message whose job has not begun is returned for other consumers.
pub(super) const DRAINED: After = After::GiveBack(Duration::ZERO);

/// The result of an attempt.
pub(super) enum AttemptOutcome {
    Stored(Outcome),
    /// The message is a duplicate of a finished job, or its consumer died before deleting it.
    Over(Outcome),
    Undecodable(Malformed),
    /// The job is retried after this time, for this reason.
    Retry(Duration, String),
    NotStored,
    /// Another writer stored an outcome, usually the caller's cancellation.
    Overtaken,
    /// Another attempt holds the lease.
    Lost,
    /// The drain began before the job was executed.
    NotBegun,
    /// The grace period ended.
    GivenUp,
}

/// The job was not executed, and waits for this.
struct Unexecuted(Until);

/// Why the body of a job could not be loaded.
enum Unloaded {
    Undecodable(Malformed),
    Gone,
    /// The drain began while the store failed.
    Drained,
}

/// The condition for writing the outcome, and the number of executions before an operator's retry.
pub(super) type PendingEnd = (Condition, u64);

/// One attempt to execute a job.
struct AttemptInfo<'a> {
    /// The number of the attempt, from 1.
    attempt: u64,
    /// Since when the job has been waiting for its application.
    waiting: Option<UnixMillis>,
    /// The upstream that the job has waited for, and may try now.
    let_go: Option<&'a str>,
}

impl AttemptInfo<'_> {
    /// The number of executions before this attempt.
    fn before(&self) -> u64 {
        self.attempt.saturating_sub(1)
    }
}

/// Handles a message. `place` is its permit among the messages in hand.
pub(super) async fn work(
    consumer: &Consumer,
    received: Received,
    slot: RunPermit,
    place: OwnedSemaphorePermit,
) {
    let rules = consumer.rules();
    let Some(queue) = rules.document.queues.get(&consumer.name) else {
        // A reload removed the rules meanwhile; another consumer may have them.
        consumer.count("given-back", "rules-missing");
        return consumer.give_back(&received, Duration::ZERO).await;
    };
    let visibility = Duration::from(queue.visibility);
    let delivery = Delivery { consumer, rules: &rules, queue, received: &received, visibility };
    delivery.note_receives();
    // The heartbeat runs concurrently: a hanging store must not cost us the message.
    let after = tokio::select! {
        biased;
        after = delivery.process(slot, place) => after,
        never = delivery.keep() => match never {},
    };
    match after {
        After::Close(held, parts) => {
            // The message is deleted first: without it nobody needs the rest.
            consumer.delete(&received).await;
            held.remove().await;
            for key in parts {
                if let Err(error) = consumer.results.delete(&key).await {
                    tracing::debug!(key, %error, "not removed; it expires");
                }
            }
        }
        After::GiveBack(delay) => consumer.give_back(&received, delay).await,
        After::Leave => {}
    }
}

impl Delivery<'_> {
    /// Keeps the message invisible to other consumers.
    async fn keep(&self) -> Infallible {
        loop {
            tokio::time::sleep(self.visibility / HEARTBEAT_PART).await;
            self.consumer.give_back(self.received, self.visibility).await;
        }
    }

    async fn process(&self, mut slot: RunPermit, mut place: OwnedSemaphorePermit) -> After {
        let (name, secrets) =
            (&self.consumer.name, self.consumer.worker.context.secrets.as_deref());
        let job = match envelope::unpack(self.received, Of { name, queue: self.queue, secrets }) {
            Ok(job) => job,
            Err(why) => return self.undecodable(&why),
        };
        let (mut waiting_since, mut let_go, mut is_of_map) = (None, None, false);
        loop {
            let Some((places, mut held)) = self.begin(&job, slot.take()).await else {
                return DRAINED;
            };
            let done = self.run_with_heartbeat(&job, &mut held, let_go.as_deref()).await;
            drop(places);
            let until = match done {
                Ok(done) => return self.finish(&job, held, done, place).await,
                Err(Unexecuted(until)) => until,
            };
            let began = *waiting_since.get_or_insert_with(tokio::time::Instant::now);
            let mut keep = time_in_hand(&until);
            if until.is_of_map() && !is_of_map {
                match Arc::clone(&self.consumer.of_maps).try_acquire_owned() {
                    Ok(own) => (place, is_of_map) = (own, true),
                    Err(_) => keep = Duration::ZERO,
                }
            }
            let_go = match self.wait(&job, &mut held, &until, (began, began + keep)).await {
                Waited::Again(let_go) => let_go,
                Waited::GiveBack(delay) => return After::GiveBack(delay),
                Waited::Drained => return DRAINED,
                Waited::Lost => return self.lost(),
            };
        }
    }

    /// Loads the job's body.
    async fn load(&self, job: Job) -> Result<Job, Unloaded> {
        let (context, results) = (&self.consumer.worker.context, self.consumer.results.as_ref());
        loop {
            match envelope::load(context, job.clone(), self.received, self.queue, results).await {
                Ok(job) => return Ok(job),
                Err(NotAJob::Undecodable(why)) => return Err(Unloaded::Undecodable(why)),
                // A claim check of another system is left for the dead letters, like every foreign
                // message.
                Err(NotAJob::Gone) if job.route.is_none() => {
                    return Err(Unloaded::Undecodable(Malformed::BodyGone));
                }
                Err(NotAJob::Gone) => return Err(Unloaded::Gone),
                Err(NotAJob::Store(error)) => {
                    tracing::warn!(job = job.id, %error, "could not read the claim check; the job waits");
                    self.consumer.pause().await.ok_or(Unloaded::Drained)?;
                }
            }
        }
    }

    /// The end of the job, if it has ended. While the store fails, the message stays in hand.
    /// `None` when the drain began.
    pub(super) async fn end(&self, job: &Job) -> Option<JobEnd> {
        loop {
            match record::end(self.consumer.results.as_ref(), &job.id).await {
                Ok(end) => return Some(end),
                Err(error) => {
                    tracing::warn!(job = job.id, %error, "the result store did not answer; the job waits");
                    self.consumer.pause().await?;
                }
            }
        }
    }

    /// Runs the job from head to outcome under the heartbeat. When another writer stores an outcome
    /// meanwhile (a cancellation), the connection to the application is closed.
    async fn run_with_heartbeat(
        &self,
        job: &Job,
        held: &mut HeldLease,
        let_go: Option<&str>,
    ) -> Result<AttemptOutcome, Unexecuted> {
        let started = Instant::now();
        let mut giving_up = self.consumer.giving_up.subscribe();
        let about = AttemptInfo { attempt: held.attempt, waiting: held.waiting, let_go };
        let done = tokio::select! {
            biased;
            done = self.execute(job, &about) => done,
            () = DrainState::begun(&mut giving_up) => Ok(AttemptOutcome::GivenUp),
            LeaseLost = self.renew(held) => Ok(AttemptOutcome::Lost),
            () = self.overtaken(job) => Ok(AttemptOutcome::Overtaken),
        };
        if !matches!(done, Ok(AttemptOutcome::Over(_) | AttemptOutcome::NotBegun) | Err(_)) {
            let seconds = &self.consumer.worker.context.metrics.jobs.run_seconds;
            let seconds = seconds.with_label_values(&[self.consumer.name.as_str()]);
            seconds.observe(started.elapsed().as_secs_f64());
        }
        done
    }

    /// Records how long the job waited for its first execution.
    fn note_wait(&self, waited: Millis) {
        let seconds = &self.consumer.worker.context.metrics.jobs.wait_seconds;
        let seconds = seconds.with_label_values(&[self.consumer.name.as_str()]);
        seconds.observe(waited.0 as f64 / 1000.0);
    }

    /// Executes the job unless it has ended. The end is checked while holding the lease, because
    /// the previous holder may have stored one until then.
    async fn execute(
        &self,
        job: &Job,
        about: &AttemptInfo<'_>,
    ) -> Result<AttemptOutcome, Unexecuted> {
        let open = match self.end(job).await {
            Some(JobEnd::Open { condition, attempts }) => (condition, attempts),
            Some(JobEnd::Is(outcome)) => {
                return Ok(match self.is_anothers(job).await {
                    Some(true) => AttemptOutcome::Undecodable(Malformed::IdOfAnother),
                    Some(false) => AttemptOutcome::Over(outcome),
                    None => AttemptOutcome::NotBegun,
                });
            }
            None => return Ok(AttemptOutcome::NotBegun),
        };
        // Checked before the body is loaded: a job without attempts left needs none.
        if let Some(reason) = self.too_late(job, about) {
            return Ok(self.store(job, about.before(), open, CompleteEnd::failed(reason)).await);
        }
        match self.load(job.clone()).await {
            Ok(job) => {
                if self.note_owner(&job).await.is_none() {
                    return Ok(AttemptOutcome::NotBegun);
                }
                match self.is_anothers(&job).await {
                    Some(true) => Ok(AttemptOutcome::Undecodable(Malformed::IdOfAnother)),
                    Some(false) => self.run(&job, about, open).await,
                    None => Ok(AttemptOutcome::NotBegun),
                }
            }
            Err(Unloaded::Gone) => {
                Ok(self.store(job, about.before(), open, CompleteEnd::failed("payload-gone")).await)
            }
            Err(Unloaded::Undecodable(why)) => Ok(AttemptOutcome::Undecodable(why)),
            Err(Unloaded::Drained) => Ok(AttemptOutcome::NotBegun),
        }
    }

    /// Why the job must not be executed any more.
    fn too_late(&self, job: &Job, about: &AttemptInfo<'_>) -> Option<&'static str> {
        if about.attempt > self.queue.max_attempts {
            // Each attempt crashed its consumer: this is recorded before the queue drops the
            // message.
            return Some("attempts-exhausted");
        }
        let now = self.consumer.worker.context.clock.now();
        let reason = if about.waiting.is_some() { APP_UNAVAILABLE } else { DEADLINE_PASSED };
        job.deadline.is_some_and(|deadline| deadline < now).then_some(reason)
    }

    /// Renews the lease until another attempt takes it.
    async fn renew(&self, held: &mut HeldLease) -> LeaseLost {
        let mut pause = self.visibility / HEARTBEAT_PART;
        loop {
            tokio::time::sleep(pause).await;
            pause = match held.renew(self.visibility).await {
                Ok(true) => self.visibility / HEARTBEAT_PART,
                Ok(false) => PAUSE,
                Err(lost) => return lost,
            };
        }
    }

    /// Resolves when the job is cancelled.
    async fn overtaken(&self, job: &Job) {
        loop {
            tokio::time::sleep(CANCEL_POLL).await;
            let end = record::end(self.consumer.results.as_ref(), &job.id).await;
            if matches!(end, Ok(JobEnd::Is(outcome)) if outcome.status == Terminal::Cancelled) {
                return;
            }
        }
    }

    /// Runs the job and stores its outcome.
    async fn run(
        &self,
        job: &Job,
        about: &AttemptInfo<'_>,
        open: PendingEnd,
    ) -> Result<AttemptOutcome, Unexecuted> {
        let (worker, number) = (&self.consumer.worker, about.attempt);
        let execution = Execution {
            attempt: open.1 + number,
            number,
            received: self.received,
            queue_name: &self.consumer.name,
            presence: &self.consumer.presence,
            let_go: about.let_go,
        };
        let waited = worker.context.clock.now() - self.received.sent;
        let Executed { verdict, is_repeatable } =
            run::execute(worker, self.rules, job, self.queue, &execution).await;
        if number == 1 && !matches!(verdict, ExecutionVerdict::Later { .. }) {
            self.note_wait(waited);
        }
        let is_last = number >= self.queue.max_attempts;
        let (ended, executions) = match verdict {
            ExecutionVerdict::Later { until, .. } if !self.has_waited(job, about, &until) => {
                return Err(Unexecuted(until));
            }
            ExecutionVerdict::Retry { delay, last } if !is_last => {
                return Ok(AttemptOutcome::Retry(delay, last.reason.unwrap_or_default()));
            }
            ExecutionVerdict::Later { last, .. } => (last, about.before()),
            ExecutionVerdict::Retry { last, .. } | ExecutionVerdict::Ended(last) => (last, number),
        };
        let in_time = Duration::from(self.queue.job_timeout);
        let whole = match store::whole(&worker.context, ended, in_time).await {
            Ok(whole) => whole,
            Err(BrokenOff) if is_repeatable && !is_last => {
                return Ok(AttemptOutcome::Retry(judge::backoff(&execution), UNKNOWN.to_owned()));
            }
            Err(broken_off) => CompleteEnd::broken_off(broken_off),
        };
        Ok(self.store(job, executions, open, whole).await)
    }

    /// Whether the job has waited for as long as allowed.
    fn has_waited(&self, job: &Job, about: &AttemptInfo<'_>, until: &Until) -> bool {
        let since = about.waiting.unwrap_or_else(|| self.waiting_since(until));
        let now = self.consumer.worker.context.clock.now();
        self.wait_end(job, since, until).is_some_and(|end| end <= now)
    }
}
