//! One delivery of a message: decode, take the lease, run, store, tell, delete.

use super::consume::{Consumer, PAUSE};
use super::envelope::{self, Job, NotAJob};
use super::lease::{self, Held, Lost, Taken};
use super::limits::Shares;
use super::notify::{self, Notice};
use super::record::{self, Copy, End, Outcome, Terminal, failed_key, lease_key, payload_key};
use super::run::{self, Ended, Verdict};
use super::store;
use crate::app::App;
use crate::metrics::Running;
use crate::queue::Received;
use crate::results::Condition;
use rules::{Rules, document};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// The lease and the visibility are renewed after a third of their time.
const HEARTBEAT_PART: u32 = 3;
/// How soon a cancellation closes the connection to the app: one look at the store each time.
const CANCEL_POLL: Duration = Duration::from_secs(2);

/// What came of running the job.
enum Done {
    Stored(Outcome),
    Retry(Duration),
    NotStored,
    /// Somebody else wrote an outcome: the caller cancelled it, as a rule.
    Overtaken,
    /// Another attempt has the lease.
    Lost,
    /// The grace period ended.
    GivenUp,
}

/// One message in hand, and what it is run by.
struct Delivery<'a> {
    consumer: &'a Consumer,
    rules: &'a Rules,
    queue: &'a document::Queue,
    received: &'a Received,
    visibility: Duration,
}

/// What a job holds while it runs; given back when it is dropped.
struct Places {
    _shares: Shares,
    _slot: Option<OwnedSemaphorePermit>,
    _running: Running,
}

/// `slot` is a place among the jobs that run at once.
pub(super) async fn work(consumer: &Consumer, received: Received, slot: OwnedSemaphorePermit) {
    let rules = consumer.rules();
    let Some(queue) = rules.document.queues.get(&consumer.name) else { return };
    let visibility = Duration::from_millis(queue.visibility);
    let delivery = Delivery { consumer, rules: &rules, queue, received: &received, visibility };
    match delivery.unpack().await {
        Some(Ok(job)) => delivery.attempt(&job, slot).await,
        Some(Err(why)) => {
            consumer.count("undecodable", "undecodable");
            let (queue, message) = (&consumer.name, &received.id);
            tracing::warn!(queue, message, why, "message left for the dead letters");
        }
        None => consumer.give_back(&received, Duration::ZERO).await,
    }
}

impl Delivery<'_> {
    /// `None` when the drain began while the store was in trouble.
    async fn unpack(&self) -> Option<Result<Job, String>> {
        let results = self.consumer.results.as_ref();
        loop {
            match envelope::unpack(self.received, self.queue, results).await {
                Ok(job) => return Some(Ok(job)),
                Err(NotAJob::Undecodable(why)) => return Some(Err(why)),
                Err(NotAJob::Store(error)) => {
                    tracing::warn!(message = self.received.id, %error, "claim check not read; the job waits");
                    self.consumer.hold(self.received, self.visibility).await?;
                }
            }
        }
    }

    async fn attempt(&self, job: &Job, slot: OwnedSemaphorePermit) {
        let consumer = self.consumer;
        let Some(places) = self.in_turn(job, slot).await else {
            return consumer.give_back(self.received, Duration::ZERO).await;
        };
        let open = match self.end(job).await {
            // A duplicate of a finished job, or its message outlived us: finish what is left.
            Some(End::Is(outcome)) => {
                drop(places);
                return self.close(job, &outcome).await;
            }
            Some(End::Open { condition, attempts }) => (condition, attempts),
            None => return consumer.give_back(self.received, Duration::ZERO).await,
        };
        let mut held = match self.lease(job).await {
            Some(Taken::Ours(held)) => held,
            Some(Taken::Others(rest)) => {
                consumer.count("duplicate", "lease-taken");
                return consumer.give_back(self.received, rest).await;
            }
            Some(Taken::Unknown) | None => {
                return consumer.give_back(self.received, Duration::ZERO).await;
            }
        };
        let done = self.run_with_heartbeat(job, &mut held, open).await;
        drop(places);
        self.finish(job, held, done).await;
    }

    /// Waits until route and tenant have room for one more; the message stays ours, but the slot
    /// is left to others meanwhile. `None` when the drain began.
    async fn in_turn(&self, job: &Job, slot: OwnedSemaphorePermit) -> Option<Places> {
        let consumer = self.consumer;
        let route = job.route.as_deref().and_then(|name| self.rules.route_by_name(name));
        let most = route.and_then(|route| route.offload.as_ref()?.concurrency);
        let route = job.route.as_deref().zip(most);
        let tenant = job.group.as_deref().zip(self.queue.tenant_concurrency);
        let mut shares = std::pin::pin!(consumer.limits.shares(route, tenant));
        let at_once = tokio::select! {
            biased;
            shares = &mut shares => Some(shares),
            () = std::future::ready(()) => None,
        };
        let running = || consumer.worker.app.metrics.jobs.run(&consumer.name);
        if let Some(shares) = at_once {
            return Some(Places { _shares: shares, _slot: Some(slot), _running: running() });
        }
        drop(slot);
        let turn = async {
            let shares = shares.await;
            // Never closed, so there is one.
            let slot = Arc::clone(&consumer.slots).acquire_owned().await.ok();
            Places { _shares: shares, _slot: slot, _running: running() }
        };
        let mut turn = std::pin::pin!(turn);
        let mut draining = consumer.worker.app.draining();
        loop {
            tokio::select! {
                biased;
                places = &mut turn => return Some(places),
                () = App::drained(&mut draining) => return None,
                () = tokio::time::sleep(self.visibility / HEARTBEAT_PART) => {
                    consumer.give_back(self.received, self.visibility).await;
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
                    self.consumer.hold(self.received, self.visibility).await?;
                }
            }
        }
    }

    async fn lease(&self, job: &Job) -> Option<Taken> {
        let Consumer { results, worker, holder, .. } = self.consumer;
        let holder = format!("{holder}.{}.{}", self.received.id, self.received.receives);
        loop {
            let holder = holder.clone();
            match lease::take(results, &worker.app.clock, &job.id, holder, self.visibility).await {
                Taken::Unknown => self.consumer.hold(self.received, self.visibility).await?,
                taken => return Some(taken),
            }
        }
    }

    /// Head, body and outcome: all of it under the heartbeat. When somebody else wrote an outcome
    /// meanwhile (a cancellation), the connection to the app is closed.
    async fn run_with_heartbeat(&self, job: &Job, held: &mut Held, open: (Condition, u64)) -> Done {
        let metrics = &self.consumer.worker.app.metrics.jobs;
        let labels = [self.consumer.name.as_str()];
        if held.attempt == 1 {
            let waited = self.consumer.worker.app.clock.now().saturating_sub(self.received.sent);
            metrics.wait_seconds.with_label_values(&labels).observe(waited as f64 / 1000.0);
        }
        let started = Instant::now();
        let beat = self.visibility / HEARTBEAT_PART;
        let (condition, before) = open;
        let mut giving_up = self.consumer.giving_up.subscribe();
        let mut next_beat = tokio::time::Instant::now() + beat;
        let mut running =
            std::pin::pin!(self.execute(job, held.attempt, before, condition.clone()));
        let done = loop {
            let next = next_beat.min(tokio::time::Instant::now() + CANCEL_POLL);
            tokio::select! {
                biased;
                done = &mut running => break done,
                () = App::drained(&mut giving_up) => break Done::GivenUp,
                () = tokio::time::sleep_until(next) => {}
            }
            if tokio::time::Instant::now() >= next_beat {
                next_beat = tokio::time::Instant::now() + beat;
                self.consumer.give_back(self.received, self.visibility).await;
                if let Err(Lost) = held.renew(self.visibility).await {
                    break Done::Lost;
                }
            }
            if self.is_overtaken(job).await {
                break Done::Overtaken;
            }
        };
        metrics.run_seconds.with_label_values(&labels).observe(started.elapsed().as_secs_f64());
        done
    }

    async fn is_overtaken(&self, job: &Job) -> bool {
        let end = record::end(self.consumer.results.as_ref(), &job.id).await;
        matches!(end, Ok(End::Is(outcome)) if outcome.status == Terminal::Cancelled)
    }

    /// Runs the job and stores its outcome.
    async fn execute(&self, job: &Job, attempt: u64, before: u64, condition: Condition) -> Done {
        let worker = &self.consumer.worker;
        let max = self.queue.max_attempts;
        let ended = if attempt > max {
            // Every attempt took its consumer with it: say so before the queue buries the job.
            Ended::failed("attempts-exhausted")
        } else if job.deadline.is_some_and(|deadline| deadline < worker.app.clock.now()) {
            Ended::failed("deadline")
        } else {
            let turn = run::Turn { received: self.received, attempt: before + attempt };
            match run::execute(worker, self.rules, job, self.queue, &turn).await {
                Verdict::Ended(ended) => ended,
                Verdict::Retry { last, .. } if attempt >= max => last,
                Verdict::Retry { delay, .. } => return Done::Retry(delay),
            }
        };
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

    async fn finish(&self, job: &Job, held: Held, done: Done) {
        let consumer = self.consumer;
        match done {
            Done::Stored(outcome) => {
                let reason = outcome.reason.as_deref().unwrap_or_default();
                consumer.count(outcome.status.as_str(), reason);
                self.close(job, &outcome).await;
            }
            Done::Overtaken => {
                if let Some(End::Is(outcome)) = self.end(job).await {
                    consumer.count(outcome.status.as_str(), "overtaken");
                    self.close(job, &outcome).await;
                }
            }
            Done::Retry(delay) => {
                held.release().await;
                consumer.count("retried", "retried");
                consumer.give_back(self.received, delay).await;
            }
            Done::NotStored => {
                held.release().await;
                consumer.count("not-stored", "not-stored");
                consumer.give_back(self.received, PAUSE).await;
            }
            Done::GivenUp => {
                held.release().await;
                consumer.count("given-back", "drain");
                consumer.give_back(self.received, Duration::ZERO).await;
            }
            Done::Lost => consumer.count("duplicate", "lease-lost"),
        }
    }

    /// The job has ended: tell, then remove what only a job that runs needs, the message last.
    async fn close(&self, job: &Job, outcome: &Outcome) {
        let consumer = self.consumer;
        if outcome.status != Terminal::Cancelled && !self.tell(job, outcome).await {
            // The next delivery goes on telling.
            return consumer.give_back(self.received, Duration::ZERO).await;
        }
        let (queue, job_id, end) = (&consumer.name, &job.id, outcome.status.as_str());
        let reason = outcome.reason.as_deref();
        tracing::info!(queue, job = job_id, outcome = end, reason, "job finished");
        self.remove(&lease_key(&job.id)).await;
        // A failed job's body is needed to run it again.
        if envelope::is_claim_check(self.received) && outcome.status != Terminal::Failed {
            self.remove(&payload_key(&job.id)).await;
        }
        consumer.delete(self.received).await;
    }

    /// Tells the receivers, with the message kept in hand; `false` when the drain began first.
    async fn tell(&self, job: &Job, outcome: &Outcome) -> bool {
        let consumer = self.consumer;
        let notice = Notice {
            queue_name: &consumer.name,
            queue: self.queue,
            outcome,
            user: run::user(job, self.rules),
            base: &self.rules.document.jobs.base,
        };
        let telling = notify::send(&consumer.worker, consumer.results.as_ref(), &notice);
        let mut telling = std::pin::pin!(telling);
        let mut giving_up = consumer.giving_up.subscribe();
        loop {
            tokio::select! {
                biased;
                () = &mut telling => return true,
                () = App::drained(&mut giving_up) => return false,
                () = tokio::time::sleep(self.visibility / HEARTBEAT_PART) => {
                    consumer.give_back(self.received, self.visibility).await;
                }
            }
        }
    }

    async fn remove(&self, key: &str) {
        if let Err(error) = self.consumer.results.delete(key).await {
            tracing::debug!(key, %error, "not removed; it expires");
        }
    }
}
