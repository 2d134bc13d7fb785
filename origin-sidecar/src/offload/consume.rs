//! The worker's loop: receive, run, store, notify, delete.

use super::envelope::{self, Job};
use super::notify::{self, Notice};
use super::record::{self, Lease, Outcome, Terminal, lease_key, outcome_key};
use super::run::{self, Ended, Verdict};
use crate::app::App;
use crate::proxy::Worker;
use crate::queue::{Queue, Received};
use crate::results::{Condition, PutError, Results};
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
                slot = Arc::clone(&slots).acquire_owned() => slot,
                () = App::drained(&mut draining) => break,
            };
            drop(slot);
            let free = slots.available_permits().clamp(1, RECEIVE_MAX);
            for received in self.receive(free).await {
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
        let job = match envelope::unpack(&received, queue, self.results.as_ref()).await {
            Ok(job) => job,
            Err(why) => {
                self.count("undecodable");
                tracing::warn!(
                    queue = self.name,
                    message = received.id,
                    why = why.0,
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
        match record::read::<Outcome>(self.results.as_ref(), &outcome_key(&job.id)).await {
            // A duplicate of a finished job, or its message outlived us: finish what is left.
            Ok(Some((outcome, _))) => {
                return self.close(rules, queue, job, received, &outcome).await;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(job = job.id, %error, "the result store does not answer; the job waits");
                return self.give_back(received, RECEIVE_PAUSE).await;
            }
        }
        if received.receives > queue.max_receives {
            // Every attempt took its consumer with it: say so before the queue buries the job.
            self.count("failed");
            let ended = Ended::failed("attempts-exhausted");
            return self.finish(rules, queue, job, received, ended).await;
        }
        let visibility = Duration::from_millis(queue.visibility);
        if let Err(rest) = self.take_lease(&job.id, received.receives, visibility).await {
            self.count("duplicate");
            return self.give_back(received, rest).await;
        }
        let metrics = &self.worker.app.metrics;
        let labels = [self.name.as_str()];
        if received.receives == 1 {
            let waited = self.worker.app.clock.now().saturating_sub(received.sent);
            metrics.jobs.wait_seconds.with_label_values(&labels).observe(waited as f64 / 1000.0);
        }
        let started = Instant::now();
        let verdict = self.run_with_heartbeat(rules, queue, job, received, visibility).await;
        metrics
            .jobs
            .run_seconds
            .with_label_values(&labels)
            .observe(started.elapsed().as_secs_f64());
        let ended = match verdict {
            None => {
                self.count("cancelled");
                self.delete(received).await;
                return;
            }
            Some(Verdict::Ended(ended)) => ended,
            Some(Verdict::Retry { last, .. }) if received.receives >= queue.max_receives => last,
            Some(Verdict::Retry { delay, .. }) => {
                self.count("retried");
                self.drop_lease(&job.id).await;
                return self.give_back(received, delay).await;
            }
        };
        self.count(ended.label());
        self.finish(rules, queue, job, received, ended).await;
    }

    /// Stores the outcome; the message goes only after that.
    async fn finish(
        &self,
        rules: &Rules,
        queue: &document::Queue,
        job: &Job,
        received: &Received,
        ended: Ended,
    ) {
        let app = &self.worker.app;
        if !run::store_outcome(app, &self.results, &job.id, received.receives, ended).await {
            self.count("not-stored");
            self.drop_lease(&job.id).await;
            return self.give_back(received, RECEIVE_PAUSE).await;
        }
        self.drop_lease(&job.id).await;
        if let Ok(Some((outcome, _))) =
            record::read::<Outcome>(self.results.as_ref(), &outcome_key(&job.id)).await
        {
            self.close(rules, queue, job, received, &outcome).await;
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

    /// `None` when the job was cancelled: the connection to the app is closed.
    async fn run_with_heartbeat(
        &self,
        rules: &Rules,
        queue: &document::Queue,
        job: &Job,
        received: &Received,
        visibility: Duration,
    ) -> Option<Verdict> {
        let mut running =
            std::pin::pin!(run::execute(&self.worker, rules, job, queue, received.receives));
        loop {
            tokio::select! {
                verdict = &mut running => return Some(verdict),
                () = tokio::time::sleep(visibility / HEARTBEAT_PART) => {
                    self.beat(job, received, visibility).await;
                    if matches!(self.results.head(&outcome_key(&job.id)).await, Ok(Some(_))) {
                        return None;
                    }
                }
            }
        }
    }

    async fn beat(&self, job: &Job, received: &Received, visibility: Duration) {
        if let Err(error) = self.queue.set_visibility(&received.receipt, visibility).await {
            tracing::warn!(job = job.id, %error, "heartbeat failed");
        }
        let lease = self.lease(received.receives, visibility);
        if let Err(error) =
            record::write(self.results.as_ref(), &lease_key(&job.id), &lease, Condition::Always)
                .await
        {
            tracing::warn!(job = job.id, ?error, "lease not renewed");
        }
    }

    fn lease(&self, attempt: u64, visibility: Duration) -> Lease {
        let for_ms = u64::try_from(visibility.as_millis()).unwrap_or(u64::MAX);
        let until = self.worker.app.clock.now().saturating_add(for_ms);
        Lease { holder: self.holder.clone(), until, attempt, adopted: false }
    }

    /// # Errors
    /// How long another's lease still lasts.
    async fn take_lease(
        &self,
        id: &str,
        attempt: u64,
        visibility: Duration,
    ) -> Result<(), Duration> {
        let key = lease_key(id);
        let lease = self.lease(attempt, visibility);
        let condition = match record::read::<Lease>(self.results.as_ref(), &key).await {
            Ok(None) => Condition::IfAbsent,
            Ok(Some((other, etag))) => {
                let now = self.worker.app.clock.now();
                if other.until > now && other.holder != self.holder {
                    return Err(Duration::from_millis(other.until - now));
                }
                Condition::IfMatch(etag)
            }
            Err(_) => return Err(RECEIVE_PAUSE),
        };
        match record::write(self.results.as_ref(), &key, &lease, condition).await {
            Ok(_) => Ok(()),
            Err(PutError::Precondition) => Err(visibility),
            Err(PutError::Failed(_)) => Err(RECEIVE_PAUSE),
        }
    }

    async fn drop_lease(&self, id: &str) {
        if let Err(error) = self.results.delete(&lease_key(id)).await {
            tracing::debug!(job = id, %error, "lease not removed");
        }
    }

    async fn give_back(&self, received: &Received, delay: Duration) {
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
