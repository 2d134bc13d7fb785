//! `when = "slow"`: the request is executed at once, and when that takes too long the client gets
//! its 202 while **the same execution** goes on. Nothing is ever run twice.

use super::accept::{Offered, Tools, outgoing, tools};
use super::id::{self, Kind};
use super::latency::Executing;
use super::notify::{self, Notice};
use super::receipt::Receipt;
use super::record::{self, Adopted, Outcome, Terminal, adopted_key};
use super::run::Ended;
use super::store::{self, Ending, Whole};
use crate::body::Body;
use crate::proxy::Worker;
use crate::proxy::forward::{self, Failure, Outgoing};
use crate::proxy::handle::{Refused, shard_failed};
use crate::results::{Condition, Results};
use http::Response;
use rules::offload::Reason;
use rules::offload::learned::Sample;
use rules::shard::Resolved;
use rules::{Problem, Rules};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a lease lasts without being renewed, and so how long the store may be away from us. A
/// crash shows within this and 10 s.
const LEASE_MS: u64 = 20_000;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// Writing the lease must not keep the client waiting for long.
const LEASE_BUDGET: Duration = Duration::from_secs(3);

/// How a request is to be adopted.
pub(super) struct Wanted {
    pub reason: Reason,
    /// How long the client waits for the head of the answer.
    pub after: Duration,
    /// Requests of one class are alike in how long they take.
    pub class: String,
}

/// Who answers the client: settled once, under the lock.
enum Side {
    Undecided,
    /// The answer came first.
    Answered,
    /// The client has its 202; the answer goes to the store.
    Adopted(String),
}

struct Execution {
    worker: Arc<Worker>,
    side: Mutex<Side>,
    results: Arc<dyn Results>,
    rules: Arc<Rules>,
    /// What the lease says, and the notification is made from.
    about: Adopted,
    /// Path and query.
    target: String,
    class: String,
    began: Instant,
    /// How long it had taken when it was recorded as a slow one.
    sample: Mutex<Option<Sample>>,
}

pub(super) async fn run(
    worker: &Arc<Worker>,
    offered: Offered<'_>,
    resolved: Option<&Resolved>,
    wanted: Wanted,
) -> Result<Response<Body>, Refused> {
    let Wanted { reason, after, class } = wanted;
    let Tools { results, secrets, .. } = tools(worker, offered.rule)?;
    let (results, secrets) = (Arc::clone(results), secrets.clone());
    let (route, rule) = (offered.route, offered.rule);
    let rules = Arc::clone(offered.clean.rules);
    let job_timeout = rules.document.queues.get(&rule.queue).map_or(0, |queue| queue.job_timeout);
    let caller = offered.allowed.caller.clone();
    let receipt = Receipt::of(&offered.clean, rule);
    let user = offered.allowed.keep.first().and_then(|(_, value)| value.to_str().ok());
    let about = Adopted {
        until: 0,
        route: route.name.clone(),
        queue: rule.queue.clone(),
        user: user.map(str::to_owned),
    };
    let mut outgoing = outgoing(worker, offered, resolved)?;
    outgoing.timeout = Duration::from_millis(job_timeout).max(outgoing.timeout);
    let execution = Arc::new(Execution {
        worker: Arc::clone(worker),
        side: Mutex::new(Side::Undecided),
        results: Arc::clone(&results),
        rules,
        about,
        target: outgoing.target.clone(),
        class,
        began: Instant::now(),
        sample: Mutex::new(None),
    });
    let (answer, mut answered) = oneshot::channel();
    // Counted from here on: the next request of a burst looks before this one is run.
    let executing = worker.app.latencies.begin(&route.name);
    tokio::spawn(Arc::clone(&execution).run(outgoing, answer, executing));
    let metrics = &worker.app.metrics.jobs;
    tokio::select! {
        biased;
        sent = &mut answered => {
            metrics.offered(&route.name, "inline", reason);
            return finish(sent, resolved);
        }
        () = tokio::time::sleep(after) => {}
    }
    execution.note_slow();
    let id = id::fresh(&secrets, Kind::Adopted, &route.name, &caller, worker.app.clock.now());
    if let Ok(id) = id {
        // Apart from the client, who may leave between the lease and the 202.
        let adopting = tokio::spawn(Arc::clone(&execution).become_job(id.clone()));
        tokio::select! {
            biased;
            Ok(true) = adopting => {
                metrics.offered(&route.name, "adopted", reason);
                let (route, reason_name) = (&route.name, reason.as_str());
                tracing::info!(route, job = id, reason = reason_name, "request adopted as a job");
                return Ok(receipt.answer(&id, "running", reason));
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

type Sent = Result<Result<Response<Body>, Failure>, oneshot::error::RecvError>;

fn finish(sent: Sent, resolved: Option<&Resolved>) -> Result<Response<Body>, Refused> {
    match sent {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(failure)) => Err(shard_failed(failure, resolved.is_some())),
        Err(_) => Err((Problem::Internal, "the execution was lost".to_owned())),
    }
}

impl Execution {
    /// Runs to the end whatever becomes of the client.
    async fn run(
        self: Arc<Self>,
        mut outgoing: Outgoing,
        answer: oneshot::Sender<Result<Response<Body>, Failure>>,
        _executing: Executing,
    ) {
        // In flight until its end, so that a drain waits for it.
        let _in_flight = self.worker.app.metrics.in_flight();
        let ended = {
            let mut sending = std::pin::pin!(forward::send(&self.worker, &mut outgoing));
            loop {
                tokio::select! {
                    biased;
                    ended = &mut sending => break ended,
                    () = tokio::time::sleep(RENEW) => self.renew().await,
                }
            }
        };
        self.note_end(&ended);
        let adopted = {
            let mut side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
            match std::mem::replace(&mut *side, Side::Answered) {
                Side::Adopted(id) => Some(id),
                Side::Undecided | Side::Answered => None,
            }
        };
        let Some(id) = adopted else {
            // A client that left gets nothing; the app has done its work all the same.
            let _ = answer.send(ended);
            return;
        };
        let is_stored = {
            let mut storing = std::pin::pin!(self.store(&id, ended));
            loop {
                tokio::select! {
                    biased;
                    is_stored = &mut storing => break is_stored,
                    () = tokio::time::sleep(RENEW) => { self.lease(&id).await; }
                }
            }
        };
        // Without an outcome the lease runs out, and the job has failed for an unknown reason.
        if is_stored {
            self.remove_lease(&id).await;
        }
    }

    /// Tries until there is a lease: no lease, no 202, and the client goes on waiting. False when
    /// the answer came first.
    async fn become_job(self: Arc<Self>, id: String) -> bool {
        while !(self.lease(&id).await && self.adopt(&id)) {
            if self.is_answered() {
                self.remove_lease(&id).await;
                return false;
            }
            tokio::time::sleep(RENEW).await;
        }
        true
    }

    fn is_answered(&self) -> bool {
        matches!(*self.side.lock().unwrap_or_else(PoisonError::into_inner), Side::Answered)
    }

    async fn remove_lease(&self, id: &str) {
        if let Err(error) = self.results.delete(&adopted_key(id)).await {
            tracing::debug!(job = id, %error, "lease not removed");
        }
    }

    /// True once the client's answer is the 202.
    fn adopt(&self, id: &str) -> bool {
        let mut side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*side, Side::Answered) {
            return false;
        }
        *side = Side::Adopted(id.to_owned());
        true
    }

    async fn lease(&self, id: &str) -> bool {
        let until = self.worker.app.clock.now() + LEASE_MS;
        let lease = Adopted { until, ..self.about.clone() };
        let key = adopted_key(id);
        let written = record::write(self.results.as_ref(), &key, &lease, Condition::Always);
        matches!(tokio::time::timeout(LEASE_BUDGET, written).await, Ok(Ok(_)))
    }

    async fn renew(&self) {
        let id = match &*self.side.lock().unwrap_or_else(PoisonError::into_inner) {
            Side::Adopted(id) => id.clone(),
            Side::Undecided | Side::Answered => return,
        };
        self.lease(&id).await;
    }

    /// The next requests of the class must not wait for this one's end to be known as slow.
    fn note_slow(&self) {
        let app = &self.worker.app;
        let took = millis(self.began.elapsed());
        let sample = app.latencies.record(&self.about.route, &self.class, app.clock.now(), took);
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) = Some(sample);
    }

    fn note_end(&self, ended: &Result<Response<Body>, Failure>) {
        let (app, route, class) = (&self.worker.app, &self.about.route, &self.class);
        let took = millis(self.began.elapsed());
        let sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (sample, ended) {
            (Some(sample), _) => {
                app.latencies.settle(route, class, app.clock.now(), sample, took);
            }
            (None, Ok(_)) => drop(app.latencies.record(route, class, app.clock.now(), took)),
            // An app that is down answers quickly; that says nothing of its work.
            (None, Err(_)) => {}
        }
    }

    /// Stores the outcome and tells the receivers; false when it could not be stored.
    async fn store(&self, id: &str, ended: Result<Response<Body>, Failure>) -> bool {
        let ended = match ended {
            Ok(response) => {
                let route = self.rules.route_by_name(&self.about.route);
                let rule = route.and_then(|route| route.offload.as_ref());
                Ended::by_code(response, rule, &self.target)
            }
            Err(failure) => Ended::lost(&failure),
        };
        let queue = self.rules.document.queues.get(&self.about.queue);
        let in_time = Duration::from_millis(queue.map_or(0, |queue| queue.job_timeout));
        let whole = store::whole(&self.worker.app, ended, in_time).await;
        let whole = whole.unwrap_or_else(Whole::broken_off);
        let ending = Ending {
            id,
            queue: &self.about.queue,
            route: Some(&self.about.route),
            attempt: 1,
            condition: Condition::IfAbsent,
        };
        let stored = store::outcome(&self.worker.app, &self.results, &ending, whole).await;
        let Some(outcome) = stored else {
            tracing::error!(job = id, "the outcome of an adopted request was not stored");
            return false;
        };
        let reason = outcome.reason.as_deref().unwrap_or_default();
        let status = outcome.status.as_str();
        self.worker.app.metrics.jobs.ended(&self.about.queue, status, reason);
        tell(&self.worker, self.results.as_ref(), &self.rules, &self.about, &outcome).await;
        true
    }
}

/// Tells the receivers how an adopted request ended.
pub(super) async fn tell(
    worker: &Worker,
    results: &dyn Results,
    rules: &Rules,
    about: &Adopted,
    outcome: &Outcome,
) {
    let document = &rules.document;
    let Some(queue) = document.queues.get(&about.queue) else { return };
    if outcome.status == Terminal::Cancelled {
        return;
    }
    let (user, base) = (about.user.clone(), &document.jobs.base);
    let notice = Notice { queue_name: &about.queue, queue, outcome, user, base };
    notify::send(worker, results, &notice).await;
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
