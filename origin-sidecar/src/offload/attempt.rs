//! One delivery of a message: decode, take the lease, run, store, tell; then delete or give back.

use super::consume::{Consumer, PAUSE};
use super::envelope::{self, Job, NotAJob};
use super::lease::{Held, Lost};
use super::notify::{self, Notice};
use super::record::{self, Copy, End, Outcome, Terminal, failed_key};
use super::run::{self, Ended, Verdict};
use super::store;
use super::turn::Slot;
use crate::app::App;
use crate::queue::Received;
use crate::results::Condition;
use crate::telemetry;
use rules::{Rules, document};
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// The lease and the visibility are renewed after a third of their time.
pub(super) const HEARTBEAT_PART: u32 = 3;
/// How soon a cancellation closes the connection to the app: one look at the store each time.
const CANCEL_POLL: Duration = Duration::from_secs(2);

/// What becomes of the message.
enum After {
    /// The job has ended: its lease goes with the message, and what nobody needs in the store.
    Close(Held, Vec<String>),
    GiveBack(Duration),
    /// Not ours any more, or for the dead letters.
    Leave,
}

/// The drain: whatever has not begun is for others.
const DRAINED: After = After::GiveBack(Duration::ZERO);

/// What came of running the job.
enum Done {
    Stored(Outcome),
    /// A duplicate of a finished job, or its message outlived its consumer.
    Over(Outcome),
    Undecodable(String),
    Retry(Duration),
    NotStored,
    /// Somebody else wrote an outcome: the caller cancelled it, as a rule.
    Overtaken,
    /// Another attempt has the lease.
    Lost,
    /// The grace period ended.
    GivenUp,
}

/// Why a job has no body.
enum Unloaded {
    Undecodable(String),
    Gone,
    /// The drain began while the store was in trouble.
    Drained,
}

/// How an outcome is to be written, and how many executions there were before an operator's retry.
type Open = (Condition, u64);

/// One message in hand, and what it is run by.
pub(super) struct Delivery<'a> {
    pub consumer: &'a Consumer,
    pub rules: &'a Rules,
    pub queue: &'a document::Queue,
    pub received: &'a Received,
    pub visibility: Duration,
}

/// `place` is what the message takes up of those in hand.
pub(super) async fn work(
    consumer: &Consumer,
    received: Received,
    slot: Slot,
    place: OwnedSemaphorePermit,
) {
    let rules = consumer.rules();
    let Some(queue) = rules.document.queues.get(&consumer.name) else { return };
    let visibility = Duration::from_millis(queue.visibility);
    let delivery = Delivery { consumer, rules: &rules, queue, received: &received, visibility };
    // Beside everything else: a store that hangs must not cost us the message.
    let after = tokio::select! {
        biased;
        after = delivery.process(slot, place) => after,
        never = delivery.keep() => match never {},
    };
    match after {
        After::Close(held, parts) => {
            // The message first: without it nobody needs the rest.
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
    /// Keeps the message out of sight of others.
    async fn keep(&self) -> Infallible {
        loop {
            tokio::time::sleep(self.visibility / HEARTBEAT_PART).await;
            self.consumer.give_back(self.received, self.visibility).await;
        }
    }

    async fn process(&self, slot: Slot, place: OwnedSemaphorePermit) -> After {
        let job = match envelope::unpack(self.received, self.queue) {
            Ok(job) => job,
            Err(why) => return self.undecodable(&why),
        };
        let Some((places, mut held)) = self.begin(&job, slot).await else { return DRAINED };
        let done = self.run_with_heartbeat(&job, &mut held).await;
        drop(places);
        self.finish(&job, held, done, place).await
    }

    fn undecodable(&self, why: &str) -> After {
        let (queue, message) = (&self.consumer.name, &self.received.id);
        self.consumer.count("undecodable", "undecodable");
        tracing::warn!(queue, message, why, "message left for the dead letters");
        After::Leave
    }

    /// The job with its body.
    async fn load(&self, job: Job) -> Result<Job, Unloaded> {
        let (app, results) = (&self.consumer.worker.app, self.consumer.results.as_ref());
        loop {
            match envelope::load(app, job.clone(), self.received, self.queue, results).await {
                Ok(job) => return Ok(job),
                Err(NotAJob::Undecodable(why)) => return Err(Unloaded::Undecodable(why)),
                // Somebody else's claim check is left for the dead letters, like all that is not ours.
                Err(NotAJob::Gone) if job.route.is_none() => {
                    return Err(Unloaded::Undecodable("the claim check's body is gone".to_owned()));
                }
                Err(NotAJob::Gone) => return Err(Unloaded::Gone),
                Err(NotAJob::Store(error)) => {
                    tracing::warn!(job = job.id, %error, "claim check not read; the job waits");
                    self.consumer.pause().await.ok_or(Unloaded::Drained)?;
                }
            }
        }
    }

    /// How the job ended, if it has. While the store is in trouble the message is kept in hand.
    /// `None` when the drain began.
    async fn end(&self, job: &Job) -> Option<End> {
        loop {
            match record::end(self.consumer.results.as_ref(), &job.id).await {
                Ok(end) => return Some(end),
                Err(error) => {
                    tracing::warn!(job = job.id, %error, "the result store does not answer; the job waits");
                    self.consumer.pause().await?;
                }
            }
        }
    }

    /// Head, body and outcome: all of it under the heartbeat. When somebody else wrote an outcome
    /// meanwhile (a cancellation), the connection to the app is closed.
    async fn run_with_heartbeat(&self, job: &Job, held: &mut Held) -> Done {
        let started = Instant::now();
        let mut giving_up = self.consumer.giving_up.subscribe();
        let attempt = held.attempt;
        let done = tokio::select! {
            biased;
            done = self.execute(job, attempt) => done,
            () = App::begun(&mut giving_up) => Done::GivenUp,
            Lost = self.renew(held) => Done::Lost,
            () = self.overtaken(job) => Done::Overtaken,
        };
        if !matches!(done, Done::Over(_)) {
            let seconds = &self.consumer.worker.app.metrics.jobs.run_seconds;
            let seconds = seconds.with_label_values(&[self.consumer.name.as_str()]);
            seconds.observe(started.elapsed().as_secs_f64());
        }
        done
    }

    /// How long the job waited for its first run.
    fn note_wait(&self) {
        let waited = self.consumer.worker.app.clock.now().saturating_sub(self.received.sent);
        let seconds = &self.consumer.worker.app.metrics.jobs.wait_seconds;
        let seconds = seconds.with_label_values(&[self.consumer.name.as_str()]);
        seconds.observe(waited as f64 / 1000.0);
    }

    /// Runs the job unless it has ended. The end is looked for with the lease in hand: whoever had
    /// it before may have stored one until then.
    async fn execute(&self, job: &Job, attempt: u64) -> Done {
        let open = match self.end(job).await {
            Some(End::Open { condition, attempts }) => (condition, attempts),
            Some(End::Is(outcome)) => return Done::Over(outcome),
            None => return Done::GivenUp,
        };
        // Before the body is looked for: a job that has had its chances needs none.
        if let Some(reason) = self.too_late(job, attempt) {
            return self.store(job, attempt, open, Ended::failed(reason)).await;
        }
        match self.load(job.clone()).await {
            Ok(job) => self.run(&job, attempt, open).await,
            Err(Unloaded::Gone) => {
                self.store(job, attempt, open, Ended::failed("payload-gone")).await
            }
            Err(Unloaded::Undecodable(why)) => Done::Undecodable(why),
            Err(Unloaded::Drained) => Done::GivenUp,
        }
    }

    /// Why the job is not to be run any more.
    fn too_late(&self, job: &Job, attempt: u64) -> Option<&'static str> {
        if attempt > self.queue.max_attempts {
            // Every attempt took its consumer with it: say so before the queue buries the job.
            return Some("attempts-exhausted");
        }
        let now = self.consumer.worker.app.clock.now();
        job.deadline.is_some_and(|deadline| deadline < now).then_some("deadline")
    }

    /// Keeps the lease until another attempt has it.
    async fn renew(&self, held: &mut Held) -> Lost {
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
            if matches!(end, Ok(End::Is(outcome)) if outcome.status == Terminal::Cancelled) {
                return;
            }
        }
    }

    /// Runs the job and stores its outcome.
    async fn run(&self, job: &Job, attempt: u64, open: Open) -> Done {
        if attempt == 1 {
            self.note_wait();
        }
        let worker = &self.consumer.worker;
        let (received, queue_name) = (self.received, self.consumer.name.as_str());
        let turn = run::Turn { received, queue_name, attempt: open.1 + attempt };
        let ended = match run::execute(worker, self.rules, job, self.queue, &turn).await {
            Verdict::Ended(ended) => ended,
            Verdict::Retry { last, .. } if attempt >= self.queue.max_attempts => last,
            Verdict::Retry { delay, .. } => return Done::Retry(delay),
        };
        self.store(job, attempt, open, ended).await
    }

    async fn store(
        &self,
        job: &Job,
        attempt: u64,
        (condition, before): Open,
        ended: Ended,
    ) -> Done {
        let worker = &self.consumer.worker;
        if ended.is_failure() {
            self.keep_copy(job).await;
        }
        let ending = store::Ending {
            id: &job.id,
            queue: &self.consumer.name,
            route: job.route.as_deref(),
            attempt: before + attempt,
            condition,
            in_time: Duration::from_millis(self.queue.job_timeout),
        };
        match store::outcome(&worker.app, &self.consumer.results, &ending, ended).await {
            Some(outcome) => Done::Stored(outcome),
            None => Done::NotStored,
        }
    }

    /// What a retry by hand is made from. Without it the job can't be retried, no more.
    async fn keep_copy(&self, job: &Job) {
        let copy = Copy {
            body: self.received.body.clone(),
            attributes: self.received.attributes.clone(),
            group: self.received.group.clone(),
        };
        let key = failed_key(&job.id);
        let results = self.consumer.results.as_ref();
        if let Err(error) = record::write(results, &key, &copy, Condition::Always).await {
            tracing::warn!(job = job.id, ?error, "a failed job can't be retried by hand");
        }
    }

    async fn finish(
        &self,
        job: &Job,
        held: Held,
        done: Done,
        place: OwnedSemaphorePermit,
    ) -> After {
        let consumer = self.consumer;
        match done {
            Done::Stored(outcome) => {
                let reason = outcome.reason.as_deref().unwrap_or_default();
                consumer.count(outcome.status.as_str(), reason);
                self.close(job, held, &outcome, place).await
            }
            Done::Over(outcome) => self.close(job, held, &outcome, place).await,
            Done::Undecodable(why) => {
                held.release().await;
                self.undecodable(&why)
            }
            Done::Overtaken => match self.end(job).await {
                Some(End::Is(outcome)) => {
                    consumer.count(outcome.status.as_str(), "overtaken");
                    self.close(job, held, &outcome, place).await
                }
                _ => DRAINED,
            },
            Done::Retry(delay) => {
                held.release().await;
                consumer.count("retried", "retried");
                After::GiveBack(delay)
            }
            Done::NotStored => {
                held.release().await;
                consumer.count("not-stored", "not-stored");
                After::GiveBack(PAUSE)
            }
            Done::GivenUp => {
                held.release().await;
                consumer.count("given-back", "drain");
                DRAINED
            }
            Done::Lost => {
                consumer.count("duplicate", "lease-lost");
                After::Leave
            }
        }
    }

    /// The job has ended: tell, then nothing is left to do but remove what it needed.
    async fn close(
        &self,
        job: &Job,
        held: Held,
        outcome: &Outcome,
        place: OwnedSemaphorePermit,
    ) -> After {
        let consumer = self.consumer;
        if outcome.status != Terminal::Cancelled && !self.tell(job, outcome, place).await {
            // The next delivery goes on telling.
            return DRAINED;
        }
        let (queue, job_id, end) = (&consumer.name, &job.id, outcome.status.as_str());
        let reason = outcome.reason.as_deref();
        let trace = telemetry::trace_of(&job.headers);
        tracing::info!(queue, job = job_id, outcome = end, reason, trace, "job finished");
        // Of a failed job they are needed to run it again.
        let is_needed = outcome.status == Terminal::Failed;
        let parts = envelope::parts_in_store(&self.received.attributes, &job.id);
        After::Close(held, if is_needed { Vec::new() } else { parts })
    }

    /// Tells the receivers; `false` when the grace period ended first. Receivers that hang must not
    /// keep other jobs from being received: the place in hand is left as soon as this may begin.
    async fn tell(&self, job: &Job, outcome: &Outcome, place: OwnedSemaphorePermit) -> bool {
        let consumer = self.consumer;
        let notice = Notice {
            queue_name: &consumer.name,
            queue: self.queue,
            outcome,
            user: run::user(job, self.rules),
            base: &self.rules.document.jobs.base,
        };
        let mut giving_up = consumer.giving_up.subscribe();
        tokio::select! {
            biased;
            () = async {
                let _telling = consumer.telling.acquire().await;
                drop(place);
                notify::send(&consumer.worker, consumer.results.as_ref(), &notice).await;
            } => true,
            () = App::begun(&mut giving_up) => false,
        }
    }
}
