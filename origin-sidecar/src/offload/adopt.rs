//! `when = "slow"`: the request is executed at once, and when that takes too long the client gets
//! its 202 while **the same execution** goes on. Nothing is ever run twice.

use super::accept::{Offered, Tools, outgoing, tools};
use super::id;
use super::notify::{self, Notice};
use super::receipt::Receipt;
use super::record::{self, Lease, Outcome, Terminal, lease_key, outcome_key};
use super::run::{self, Ended};
use crate::body::Body;
use crate::proxy::Worker;
use crate::proxy::forward::{self, Failure, Outgoing};
use crate::proxy::handle::{Refused, shard_failed};
use crate::results::{Condition, Results};
use http::Response;
use rules::Rules;
use rules::offload::Reason;
use rules::shard::Resolved;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a lease lasts without being renewed; a crash shows within this and 10 s.
const LEASE_MS: u64 = 15_000;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// Writing the lease must not keep the client waiting for long.
const LEASE_BUDGET: Duration = Duration::from_secs(3);

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
    outgoing: Outgoing,
    side: Arc<Mutex<Side>>,
    results: Arc<dyn Results>,
    about: About,
}

/// What the end of an adopted job needs to be told.
struct About {
    rules: Arc<Rules>,
    queue: String,
    user: Option<String>,
}

pub(super) async fn run(
    worker: &Arc<Worker>,
    offered: Offered<'_>,
    resolved: Option<&Resolved>,
    reason: Reason,
    after: Duration,
) -> Result<Response<Body>, Refused> {
    let Tools { results, secrets, .. } = tools(worker, offered.rule)?;
    let (results, secrets) = (Arc::clone(results), secrets.clone());
    let (route, rule) = (offered.route, offered.rule);
    let job_timeout =
        offered.clean.rules.document.queues.get(&rule.queue).map_or(0, |queue| queue.job_timeout);
    let caller = offered.allowed.caller.clone();
    let receipt = Receipt::of(&offered.clean, rule);
    let user = offered.allowed.keep.first().and_then(|(_, value)| value.to_str().ok());
    let about = About {
        rules: Arc::clone(&offered.clean.rules),
        queue: rule.queue.clone(),
        user: user.map(str::to_owned),
    };
    let mut outgoing = outgoing(worker, offered, resolved)?;
    outgoing.timeout = Duration::from_millis(job_timeout).max(outgoing.timeout);
    let side = Arc::new(Mutex::new(Side::Undecided));
    let (answer, mut answered) = oneshot::channel();
    let execution = Execution {
        worker: Arc::clone(worker),
        outgoing,
        side: Arc::clone(&side),
        results: Arc::clone(&results),
        about,
    };
    tokio::spawn(execution.run(answer));
    let offloads = &worker.app.metrics.jobs.offloads;
    tokio::select! {
        biased;
        sent = &mut answered => {
            offloads.with_label_values(&[route.name.as_str(), "inline"]).inc();
            return finish(sent, resolved);
        }
        () = tokio::time::sleep(after) => {}
    }
    let id = id::fresh(&secrets, &route.name, &caller, worker.app.clock.now());
    if let Ok(id) = &id
        && lease(worker, results.as_ref(), id).await
        && adopt(&side, id)
    {
        offloads.with_label_values(&[route.name.as_str(), "adopted"]).inc();
        tracing::info!(
            route = route.name,
            job = id,
            reason = reason.as_str(),
            "request adopted as a job"
        );
        return Ok(receipt.answer(id, "running"));
    }
    // No lease, no 202: the client goes on waiting. Or the answer came at the last moment.
    let sent = answered.await;
    if let Ok(id) = &id
        && let Err(error) = results.delete(&lease_key(id)).await
    {
        tracing::debug!(job = id, %error, "unused lease not removed");
    }
    offloads.with_label_values(&[route.name.as_str(), "inline"]).inc();
    finish(sent, resolved)
}

type Sent = Result<Result<Response<Body>, Failure>, oneshot::error::RecvError>;

fn finish(sent: Sent, resolved: Option<&Resolved>) -> Result<Response<Body>, Refused> {
    match sent {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(failure)) => Err(shard_failed(failure, resolved.is_some())),
        Err(_) => Err((rules::Problem::Internal, "the execution was lost".to_owned())),
    }
}

fn adopt(side: &Mutex<Side>, id: &str) -> bool {
    let mut side = side.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*side, Side::Answered) {
        return false;
    }
    *side = Side::Adopted(id.to_owned());
    true
}

async fn lease(worker: &Worker, results: &dyn Results, id: &str) -> bool {
    let until = worker.app.clock.now() + LEASE_MS;
    let lease = Lease { holder: "adopted".to_owned(), until, attempt: 1, adopted: true };
    let key = lease_key(id);
    let written = record::write(results, &key, &lease, Condition::Always);
    matches!(tokio::time::timeout(LEASE_BUDGET, written).await, Ok(Ok(_)))
}

impl Execution {
    /// Runs to the end whatever becomes of the client.
    async fn run(self, answer: oneshot::Sender<Result<Response<Body>, Failure>>) {
        let Self { worker, outgoing, side, results, about } = self;
        // In flight until its end, so that a drain waits for it.
        let _in_flight = worker.app.metrics.in_flight();
        let ended = {
            let mut sending = std::pin::pin!(forward::send(&worker, outgoing));
            loop {
                tokio::select! {
                    biased;
                    ended = &mut sending => break ended,
                    () = tokio::time::sleep(RENEW) => renew(&worker, results.as_ref(), &side).await,
                }
            }
        };
        let adopted = {
            let mut side = side.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut storing = std::pin::pin!(store(&worker, &results, &id, ended, &about));
        loop {
            tokio::select! {
                biased;
                () = &mut storing => break,
                () = tokio::time::sleep(RENEW) => { lease(&worker, results.as_ref(), &id).await; }
            }
        }
    }
}

async fn renew(worker: &Worker, results: &dyn Results, side: &Mutex<Side>) {
    let id = match &*side.lock().unwrap_or_else(PoisonError::into_inner) {
        Side::Adopted(id) => id.clone(),
        Side::Undecided | Side::Answered => return,
    };
    lease(worker, results, &id).await;
}

async fn store(
    worker: &Worker,
    results: &Arc<dyn Results>,
    id: &str,
    ended: Result<Response<Body>, Failure>,
    about: &About,
) {
    let ended = match ended {
        Ok(response) if response.status().is_success() => {
            Ended::answered(Terminal::Succeeded, None, response)
        }
        Ok(response) => {
            let reason = format!("http-{}", response.status().as_u16());
            Ended::answered(Terminal::Failed, Some(reason), response)
        }
        Err(failure) => Ended::failed(failure.problem.name()),
    };
    worker.app.metrics.jobs.finished.with_label_values(&[&about.queue, ended.label()]).inc();
    let queue = about.rules.document.queues.get(&about.queue);
    let in_time = Duration::from_millis(queue.map_or(0, |queue| queue.job_timeout));
    if !run::store_outcome(&worker.app, results, id, 1, ended, in_time).await {
        // The lease runs out, and the job is seen as failed for an unknown reason.
        tracing::error!(job = id, "the outcome of an adopted request was not stored");
        return;
    }
    if let Err(error) = results.delete(&lease_key(id)).await {
        tracing::debug!(job = id, %error, "lease not removed");
    }
    notify(worker, results.as_ref(), id, about).await;
}

async fn notify(worker: &Worker, results: &dyn Results, id: &str, about: &About) {
    let Ok(Some((outcome, _))) = record::read::<Outcome>(results, &outcome_key(id)).await else {
        return;
    };
    let document = &about.rules.document;
    let Some(queue) = document.queues.get(&about.queue) else { return };
    if outcome.status == Terminal::Cancelled {
        return;
    }
    let notice = Notice {
        queue_name: &about.queue,
        queue,
        outcome: &outcome,
        user: about.user.clone(),
        base: &document.jobs.base,
    };
    notify::send(worker, results, &notice).await;
}
