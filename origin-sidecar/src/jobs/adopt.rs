//! `when = "slow"`: the request is executed at once. When that takes too long, the client gets its
//! 202 while **the same execution** goes on. Nothing is executed twice.

use super::caller::Caller;
use super::context::JobWorker;
use super::id::{self, JobKind};
use super::latency::Executing;
use super::leases::LEASE;
use super::notify::tell;
use super::offered::{OffloadCandidate, Opened, outgoing, tools};
use super::once::Once;
use super::receipt::Receipt;
use super::record::{self, Adopted, Outcome, adopted_key};
use super::store::{self, CompleteEnd, OutcomeTarget};
use super::verdict::ExecutionEnd;
use super::{keyed, synchronous};
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::secrets::Secrets;
use crate::upstream::forward;
use crate::upstream::outgoing::{Failure, Outgoing};
use crate::writes::WriteInFlight;
use http::Response;
use rules::offload::learned::Sample;
use rules::offload::{Reason, Wait};
use rules::shard::Resolved;
use rules::{Millis, Problem, Rules};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stores::results::{Condition, Results};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How long writing the lease may keep the client waiting.
const LEASE_BUDGET: Duration = Duration::from_secs(3);

/// The conditions under which a request is adopted.
pub(super) struct AdoptOptions {
    pub reason: Reason,
    /// How long the client waits for the head of the answer.
    pub after: Duration,
    /// Whether the request may be queued instead, where an earlier one with its key was to be
    /// queued.
    pub may_queue: bool,
    /// How long the client waits where the request is queued.
    pub wait: Wait,
    /// The request's class; requests of a class take similar times.
    pub class: String,
}

/// Who answers the client. It is decided once, under the lock.
enum Responder {
    Undecided,
    /// The answer came in time and is being sent to the client.
    Answered,
    /// The answer was sent and nothing else is done with it, or the job has its outcome.
    Over,
    /// The client has its 202, and the answer goes to the store.
    Adopted(String),
}

/// A lease, and the task that renews it.
struct Leased {
    ended: oneshot::Sender<()>,
    renewing: JoinHandle<()>,
}

impl Leased {
    /// Stops renewing and waits until no write is in flight: a write that arrived later would leave
    /// a lease that nobody removes.
    async fn end(self) {
        drop(self.ended);
        // The task can't panic; if it did, it would not write any more.
        let _ = self.renewing.await;
    }
}

pub(super) struct AdoptedExecution {
    pub worker: Arc<JobWorker>,
    side: Mutex<Responder>,
    pub results: Arc<dyn Results>,
    rules: Arc<Rules>,
    /// The contents of the lease, from which the notification is made, too.
    pub about: Adopted,
    /// The target: path and query.
    target: String,
    /// The accept record of a request with an `Idempotency-Key`.
    once: Option<Once>,
    /// Whether a lease may exist.
    pub is_leased: AtomicBool,
    class: String,
    pub began: Instant,
    /// The latency sample with which it was recorded as slow.
    sample: Mutex<Option<Sample>>,
}

pub(super) async fn run(
    worker: &Arc<JobWorker>,
    offered: OffloadCandidate<'_>,
    resolved: Option<&Resolved>,
    wanted: AdoptOptions,
    once: Option<Once>,
) -> Result<Response<Body>, Refused> {
    let AdoptOptions { reason, after, class, wait, .. } = wanted;
    let is_failure = synchronous::is_failure(offered.rule, wait);
    let Opened { results, secrets, .. } = tools(worker, offered.rule)?;
    let (results, secrets) = (Arc::clone(results), secrets.clone());
    let (route, rule) = (offered.route, offered.rule);
    let rules = Arc::clone(offered.clean.rules);
    let job_timeout =
        rules.document.queues.get(&rule.queue).map_or(Millis::ZERO, |queue| queue.job_timeout);
    let caller = offered.allowed.caller.clone();
    let receipt = Receipt::of(&offered.clean, rule);
    let about = offered.about();
    let mut outgoing = outgoing(worker, offered, resolved)?;
    outgoing.timeout = Duration::from(job_timeout).max(outgoing.timeout);
    let write = outgoing.write.as_ref().map(WriteInFlight::tag);
    let execution = Arc::new(AdoptedExecution {
        worker: Arc::clone(worker),
        side: Mutex::new(Responder::Undecided),
        results: Arc::clone(&results),
        rules,
        about,
        target: outgoing.target.clone(),
        once,
        is_leased: AtomicBool::new(false),
        class,
        began: Instant::now(),
        sample: Mutex::new(None),
    });
    let (answer, mut answered) = oneshot::channel();
    // Counted from here on, so that the next request of a burst sees it before it runs.
    let executing = worker.context.latencies.begin(&route.name);
    tokio::spawn(Arc::clone(&execution).run(outgoing, answer, executing));
    let metrics = &worker.context.metrics.jobs;
    tokio::select! {
        biased;
        sent = &mut answered => {
            metrics.offered(&route.name, "inline", reason);
            return finish(sent, resolved);
        }
        () = tokio::time::sleep(after) => {}
    }
    execution.note_slow();
    if let Ok(id) = execution.id(&secrets, &route.name, &caller) {
        // A task of its own, because the client may disconnect between the lease and the 202.
        let adopting = tokio::spawn(Arc::clone(&execution).become_job(id.clone()));
        tokio::select! {
            biased;
            Ok(true) = adopting => {
                metrics.offered(&route.name, "adopted", reason);
                if let Some(write) = write {
                    worker.context.maps.writes.adopted(write, &id);
                }
                let (route, reason_name) = (&route.name, reason.as_str());
                tracing::info!(route, job = id, reason = reason_name, "request adopted as a job");
                if is_failure {
                    return Err(synchronous::over(&execution.rules.document.jobs.base, &id));
                }
                let key = execution.once.as_ref().map(|once| &once.key);
                return Ok(keyed::marked(receipt.answer(&id, "running", reason), key));
            }
            sent = &mut answered => {
                metrics.offered(&route.name, "inline", reason);
                return finish(sent, resolved);
            }
        }
    }
    metrics.offered(&route.name, "inline", reason);
    finish(answered.await, resolved)
}

type ForwardResult = Result<Result<Response<Body>, Failure>, oneshot::error::RecvError>;

fn finish(sent: ForwardResult, resolved: Option<&Resolved>) -> Result<Response<Body>, Refused> {
    match sent {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(failure)) => Err(failure.refused(resolved.is_some())),
        Err(_) => Err(Refused::new(Problem::Internal, "the execution was lost")),
    }
}

impl AdoptedExecution {
    /// The id under which it becomes a job: that of its key, or a new one.
    fn id(&self, secrets: &Secrets, route: &str, caller: &Caller) -> std::io::Result<String> {
        match &self.once {
            Some(once) => Ok(once.id.clone()),
            None => {
                let now = self.worker.context.clock.now();
                id::fresh(secrets, JobKind::Adopted, route, caller, now)
            }
        }
    }

    /// Runs to the end, even when the client disconnects.
    async fn run(
        self: Arc<Self>,
        mut outgoing: Outgoing,
        answer: oneshot::Sender<Result<Response<Body>, Failure>>,
        _executing: Executing,
    ) {
        // It counts as in flight until its end, so that a drain waits for it.
        let _in_flight = self.worker.context.metrics.in_flight();
        let leased = Arc::clone(&self).keep_leased();
        let ended = forward::send(&self.worker.client, &mut outgoing).await;
        self.note_end(&ended);
        let adopted = {
            let mut side = self.lock();
            match std::mem::replace(&mut *side, Responder::Answered) {
                Responder::Adopted(id) => Some(id),
                Responder::Undecided | Responder::Answered | Responder::Over => None,
            }
        };
        let stored = match (adopted, &self.once) {
            (Some(id), _) => self.store(&id, ended).await.then_some(id),
            (None, Some(once)) => self.keep(once, answer, ended).await.then(|| once.id.clone()),
            (None, None) => {
                // A client that has disconnected gets nothing, but the application has executed the
                // request.
                let _ = answer.send(ended);
                None
            }
        };
        *self.lock() = Responder::Over;
        leased.end().await;
        // Without an outcome the lease expires, and the job has failed for an unknown reason.
        if let Some(id) = stored.filter(|_| self.is_leased.load(Ordering::Acquire)) {
            self.remove_lease(&id).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Responder> {
        self.side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews the lease until [`Leased::end`]. It is a task of its own, because a hanging store
    /// must not keep the answer from its client.
    fn keep_leased(self: Arc<Self>) -> Leased {
        let (ended, mut is_ended) = oneshot::channel();
        let renewing = tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    _ = &mut is_ended => return,
                    () = tokio::time::sleep(RENEW) => self.renew().await,
                }
            }
        });
        Leased { ended, renewing }
    }

    /// Tries until the lease is written: without it there is no 202, and the client goes on
    /// waiting. False when the answer came first.
    async fn become_job(self: Arc<Self>, id: String) -> bool {
        loop {
            if self.lease(&id).await && self.adopt(&id) {
                return true;
            }
            let is_over = match &*self.lock() {
                Responder::Undecided | Responder::Adopted(_) => None,
                // The code that stores the answer needs the lease, and removes it.
                Responder::Answered => Some(false),
                Responder::Over => Some(true),
            };
            match is_over {
                None => tokio::time::sleep(RENEW).await,
                Some(is_over) => {
                    if is_over {
                        self.remove_lease(&id).await;
                    }
                    return false;
                }
            }
        }
    }

    async fn remove_lease(&self, id: &str) {
        if let Err(error) = self.results.delete(&adopted_key(id)).await {
            tracing::debug!(job = id, %error, "lease not removed");
        }
    }

    /// Decides that the client gets 202. False where the answer came first.
    fn adopt(&self, id: &str) -> bool {
        let mut side = self.lock();
        if matches!(*side, Responder::Answered | Responder::Over) {
            return false;
        }
        *side = Responder::Adopted(id.to_owned());
        true
    }

    async fn lease(&self, id: &str) -> bool {
        self.is_leased.store(true, Ordering::Release);
        let until = self.worker.context.clock.now() + LEASE;
        let lease = Adopted { until, ..self.about.clone() };
        let key = adopted_key(id);
        let written = record::write(self.results.as_ref(), &key, &lease, Condition::Always);
        matches!(tokio::time::timeout(LEASE_BUDGET, written).await, Ok(Ok(_)))
    }

    async fn renew(&self) {
        let adopted = match &*self.lock() {
            Responder::Adopted(id) => Some(id.clone()),
            Responder::Undecided | Responder::Answered | Responder::Over => None,
        };
        // A retry with the same key may have been promised the outcome of an execution that is not
        // adopted.
        if let Some(id) = adopted.or_else(|| self.once.as_ref().map(|once| once.id.clone())) {
            self.lease(&id).await;
        }
    }

    /// Records a slow sample now: the next requests of the class must not wait for the end of this
    /// one.
    fn note_slow(&self) {
        let context = &self.worker.context;
        let took = Millis::from(self.began.elapsed());
        let sample =
            context.latencies.record(&self.about.route, &self.class, context.clock.now(), took);
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) = Some(sample);
    }

    fn note_end(&self, ended: &Result<Response<Body>, Failure>) {
        let (route, class) = (&self.about.route, &self.class);
        let (latencies, now) = (&self.worker.context.latencies, self.worker.context.clock.now());
        let took = Millis::from(self.began.elapsed());
        let sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (sample, ended) {
            (Some(sample), _) => latencies.settle(route, class, now, sample, took),
            (None, Ok(_)) => {
                let _sample = latencies.record(route, class, now, took);
            }
            // An application that is down answers quickly, which says nothing about its latency.
            (None, Err(_)) => {}
        }
    }

    /// The end of the job according to the answer's status code.
    pub(super) fn judged(&self, response: Response<Body>) -> ExecutionEnd {
        let route = self.rules.route_by_name(&self.about.route);
        let rule = route.and_then(|route| route.offload.as_ref());
        ExecutionEnd::by_code(response, rule, &self.target)
    }

    /// Stores the outcome and notifies the receivers. False when it could not be stored.
    async fn store(&self, id: &str, ended: Result<Response<Body>, Failure>) -> bool {
        let ended = match ended {
            Ok(response) => self.judged(response),
            Err(failure) => ExecutionEnd::lost(&failure),
        };
        let whole = store::whole(&self.worker.context, ended, self.job_timeout()).await;
        let whole = whole.unwrap_or_else(CompleteEnd::broken_off);
        let Some(outcome) = self.outcome(id, whole, false).await else { return false };
        self.told(&outcome).await;
        true
    }

    /// Stores the outcome; none when it could not be stored.
    pub(super) async fn outcome(
        &self,
        id: &str,
        whole: CompleteEnd,
        answered: bool,
    ) -> Option<Outcome> {
        let ending = OutcomeTarget {
            id,
            queue: &self.about.queue,
            route: Some(&self.about.route),
            bare: None,
            attempt: 1,
            condition: Condition::IfAbsent,
            answered,
        };
        let clock = self.worker.context.clock.as_ref();
        let stored = store::outcome(clock, &self.results, &ending, whole).await;
        if stored.is_none() {
            tracing::error!(job = id, "could not store the outcome of an adopted request");
        }
        stored
    }

    pub(super) fn job_timeout(&self) -> Duration {
        let queue = self.rules.document.queues.get(&self.about.queue);
        Duration::from(queue.map_or(Millis::ZERO, |queue| queue.job_timeout))
    }

    /// Counts the end of a job, and notifies the receivers.
    pub(super) async fn told(&self, outcome: &Outcome) {
        let reason = outcome.reason.as_deref().unwrap_or_default();
        let status = outcome.status.as_str();
        self.worker.context.metrics.jobs.ended(&self.about.queue, status, reason);
        tell(&self.worker, self.results.as_ref(), &self.rules, &self.about, outcome).await;
    }
}
