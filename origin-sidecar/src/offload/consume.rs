//! The worker's loop: receive, run, store, notify, delete.

use super::envelope::{self, Job, NotAJob};
use super::lease::Taken;
use super::notify::{self, Notice};
use super::record::{self, Outcome, Terminal, outcome_key};
use super::run::{self, Ended, Verdict};
use crate::app::App;
use crate::proxy::Worker;
use crate::queue::{Queue, Received};
use crate::results::Results;
use crate::secrets::random_hex;
use rules::{Rules, document};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// One long poll. A poll under way is awaited at the drain (an aborted one would hide its
/// messages for a whole visibility time-out), so it is shorter than SQS's 20 s.
const LONG_POLL: Duration = Duration::from_secs(5);
/// Before the next receive after the queue failed.
const RECEIVE_PAUSE: Duration = Duration::from_secs(1);
/// Messages taken at once, the limit of SQS.
const RECEIVE_MAX: usize = 10;
/// The lease and the visibility are renewed after a third of their time.
const HEARTBEAT_PART: u32 = 3;

/// What came of a message's turn.
enum Done {
    /// With the outcome's label.
    Stored(&'static str),
    Retry(Duration),
    NotStored,
    Cancelled,
}

/// One queue's consumer.
pub struct Consumer {
    pub worker: Arc<Worker>,
    pub name: String,
    pub queue: Arc<dyn Queue>,
    pub results: Arc<dyn Results>,
    /// Names this process in leases.
    pub holder: String,
}

impl Consumer {
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(
        worker: Arc<Worker>,
        name: &str,
        queue: Arc<dyn Queue>,
        results: Arc<dyn Results>,
    ) -> std::io::Result<Self> {
        Ok(Self { worker, name: name.to_owned(), queue, results, holder: random_hex(8)? })
    }

    /// Consumes until the drain; then lets running jobs finish within the grace period and gives
    /// the rest back.
    pub async fn run(self: Arc<Self>, grace: Duration) {
        let mut draining = self.worker.app.draining();
        let concurrency = self.document().map_or(1, |queue| queue.concurrency);
        let slots = Arc::new(Semaphore::new(usize::try_from(concurrency).unwrap_or(1)));
        let mut running = JoinSet::new();
        while !*draining.borrow() {
            // Never receive what can't be started: it would run out in a buffer.
            let slot = tokio::select! {
                biased;
                slot = Arc::clone(&slots).acquire_owned() => slot,
                () = App::drained(&mut draining) => break,
            };
            drop(slot);
            let free = slots.available_permits().clamp(1, RECEIVE_MAX);
            for received in self.receive(free).await {
                if *draining.borrow() {
                    // Came with the last poll: the app may be gone before it would be done.
                    self.give_back(&received, Duration::ZERO).await;
                    continue;
                }
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
                let this = Arc::clone(&self);
                running.spawn(async move {
                    this.work(received).await;
                    drop(slot);
                });
            }
            while running.try_join_next().is_some() {}
        }
        let finished = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, finished).await.is_err() {
            tracing::warn!(
                queue = self.name,
                "jobs were still running at the end of the grace period; they will be delivered again"
            );
        }
    }

    fn rules(&self) -> Arc<Rules> {
        self.worker.app.rules()
    }

    fn document(&self) -> Option<document::Queue> {
        self.rules().document.queues.get(&self.name).cloned()
    }

    async fn receive(&self, max: usize) -> Vec<Received> {
        let visibility = self
            .document()
            .map_or(Duration::from_secs(60), |queue| Duration::from_millis(queue.visibility));
        match self.queue.receive(max, LONG_POLL, visibility).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(queue = self.name, %error, "receive failed");
                tokio::time::sleep(RECEIVE_PAUSE).await;
                Vec::new()
            }
        }
    }

    fn count(&self, outcome: &str) {
        self.worker
            .app
            .metrics
            .jobs
            .finished
            .with_label_values(&[self.name.as_str(), outcome])
            .inc();
    }

    async fn work(&self, received: Received) {
        let rules = self.rules();
        let Some(queue) = rules.document.queues.get(&self.name) else { return };
        let visibility = Duration::from_millis(queue.visibility);
        let unpacked = loop {
            match envelope::unpack(&received, queue, self.results.as_ref()).await {
                Err(NotAJob::Store(error)) => {
                    tracing::warn!(message = received.id, %error, "claim check not read; the job waits");
                    if self.hold(&received, visibility).await.is_none() {
                        return self.give_back(&received, Duration::ZERO).await;
                    }
                }
                Err(NotAJob::Undecodable(why)) => break Err(why),
                Ok(job) => break Ok(job),
            }
        };
        let job = match unpacked {
            Ok(job) => job,
            Err(why) => {
                self.count("undecodable");
                tracing::warn!(
                    queue = self.name,
                    message = received.id,
                    why,
                    "message left for the dead letters"
                );
                return;
            }
        };
        let running = self.worker.app.metrics.jobs.running.with_label_values(&[self.name.as_str()]);
        running.inc();
        self.attempt(&rules, queue, &job, &received).await;
        running.dec();
    }

    async fn attempt(
        &self,
        rules: &Rules,
        queue: &document::Queue,
        job: &Job,
        received: &Received,
    ) {
        let visibility = Duration::from_millis(queue.visibility);
        match self.outcome(job, received, visibility).await {
            // A duplicate of a finished job, or its message outlived us: finish what is left.
            Some(Some(outcome)) => return self.close(rules, queue, job, received, &outcome).await,
            Some(None) => {}
            None => return self.give_back(received, Duration::ZERO).await,
        }
        let holder = self.holder_of(received);
        match self.take_lease(job, received, &holder, visibility).await {
            Taken::Ours => {}
            Taken::Others(rest) => {
                self.count("duplicate");
                return self.give_back(received, rest).await;
            }
            Taken::Draining => return self.give_back(received, Duration::ZERO).await,
        }
        let done = self.run_with_heartbeat(rules, queue, job, received, visibility).await;
        self.drop_lease(&job.id, &holder).await;
        match done {
            Done::Cancelled => {
                self.count("cancelled");
                self.delete(received).await;
            }
            Done::Retry(delay) => {
                self.count("retried");
                self.give_back(received, delay).await;
            }
            Done::NotStored => {
                self.count("not-stored");
                self.give_back(received, RECEIVE_PAUSE).await;
            }
            Done::Stored(label) => {
                self.count(label);
                if let Some(Some(outcome)) = self.outcome(job, received, visibility).await {
                    self.close(rules, queue, job, received, &outcome).await;
                }
            }
        }
    }

    /// The outcome of the job, if it has one. While the store is in trouble the message is kept in
    /// hand: each time it were given back would count as an attempt. `None` when the drain began.
    async fn outcome(
        &self,
        job: &Job,
        received: &Received,
        visibility: Duration,
    ) -> Option<Option<Outcome>> {
        loop {
            match record::read::<Outcome>(self.results.as_ref(), &outcome_key(&job.id)).await {
                Ok(found) => return Some(found.map(|(outcome, _)| outcome)),
                Err(error) => {
                    tracing::warn!(job = job.id, %error, "the result store does not answer; the job waits");
                    self.hold(received, visibility).await?;
                }
            }
        }
    }

    /// Keeps the message ours for another while; `None` when the drain began.
    pub(super) async fn hold(&self, received: &Received, visibility: Duration) -> Option<()> {
        if *self.worker.app.draining().borrow() {
            return None;
        }
        self.give_back(received, visibility).await;
        tokio::time::sleep(RECEIVE_PAUSE).await;
        Some(())
    }

    /// Runs the job and stores its outcome.
    async fn execute(
        &self,
        rules: &Rules,
        queue: &document::Queue,
        job: &Job,
        received: &Received,
    ) -> Done {
        let ended = if received.receives > queue.max_receives {
            // Every attempt took its consumer with it: say so before the queue buries the job.
            Ended::failed("attempts-exhausted")
        } else {
            match run::execute(&self.worker, rules, job, queue, received).await {
                Verdict::Ended(ended) => ended,
                Verdict::Retry { last, .. } if received.receives >= queue.max_receives => last,
                Verdict::Retry { delay, .. } => return Done::Retry(delay),
            }
        };
        let label = ended.label();
        let app = &self.worker.app;
        let in_time = Duration::from_millis(queue.job_timeout);
        let attempt = received.receives;
        match run::store_outcome(app, &self.results, &job.id, attempt, ended, in_time).await {
            true => Done::Stored(label),
            false => Done::NotStored,
        }
    }

    async fn close(
        &self,
        rules: &Rules,
        queue: &document::Queue,
        job: &Job,
        received: &Received,
        outcome: &Outcome,
    ) {
        if outcome.status != Terminal::Cancelled {
            let base = &rules.document.jobs.base;
            let user = run::user(job, rules);
            let notice = Notice { queue_name: &self.name, queue, outcome, user, base };
            notify::send(&self.worker, self.results.as_ref(), &notice).await;
        }
        tracing::info!(
            queue = self.name,
            job = job.id,
            outcome = outcome.status.as_str(),
            reason = outcome.reason,
            "job finished"
        );
        self.delete(received).await;
        if received.attributes.contains_key("ExtendedPayloadSize")
            && let Err(error) = self.results.delete(&record::payload_key(&job.id)).await
        {
            tracing::debug!(job = job.id, %error, "claim check not removed");
        }
    }

    /// Head, body and outcome: all of it under the heartbeat. When somebody else wrote an outcome
    /// meanwhile (a cancellation), the connection to the app is closed.
    async fn run_with_heartbeat(
        &self,
        rules: &Rules,
        queue: &document::Queue,
        job: &Job,
        received: &Received,
        visibility: Duration,
    ) -> Done {
        let metrics = &self.worker.app.metrics.jobs;
        let labels = [self.name.as_str()];
        if received.receives == 1 {
            let waited = self.worker.app.clock.now().saturating_sub(received.sent);
            metrics.wait_seconds.with_label_values(&labels).observe(waited as f64 / 1000.0);
        }
        let started = Instant::now();
        let mut running = std::pin::pin!(self.execute(rules, queue, job, received));
        let done = loop {
            tokio::select! {
                biased;
                done = &mut running => break done,
                () = tokio::time::sleep(visibility / HEARTBEAT_PART) => {
                    self.beat(job, received, visibility).await;
                    let found = record::read::<Outcome>(self.results.as_ref(), &outcome_key(&job.id)).await;
                    if matches!(&found, Ok(Some((outcome, _))) if outcome.status == Terminal::Cancelled) {
                        break Done::Cancelled;
                    }
                }
            }
        };
        metrics.run_seconds.with_label_values(&labels).observe(started.elapsed().as_secs_f64());
        done
    }

    pub(super) async fn give_back(&self, received: &Received, delay: Duration) {
        if let Err(error) = self.queue.set_visibility(&received.receipt, delay).await {
            tracing::debug!(message = received.id, %error, "message not given back; it will come by itself");
        }
    }

    async fn delete(&self, received: &Received) {
        if let Err(error) = self.queue.delete(&received.receipt).await {
            tracing::warn!(message = received.id, %error, "message not deleted; its duplicate will be");
        }
    }
}
