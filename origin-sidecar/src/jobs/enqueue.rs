//! Enqueues a request as a job: the client gets 202 when the queue has it.

use super::context::JobWorker;
use super::id::{self, JobKind};
use super::offered::{ENQUEUE_BUDGET, NotQueued, OffloadCandidate, Opened, inline, tools};
use super::receipt::Receipt;
use super::record::{self, Lease, Outcome, Terminal, lease_key, outcome_key};
use super::sending::send;
use super::{keyed, refused, repeat, synchronous};
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::soundness::is_definite;
use http::{HeaderValue, Response};
use rules::offload::{Reason, Wait};
use rules::shard::Resolved;
use rules::{Millis, Problem};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stores::results::Condition;

pub(super) async fn enqueue(
    worker: &Arc<JobWorker>,
    offered: OffloadCandidate<'_>,
    resolved: Option<&Resolved>,
    reason: Reason,
    wait: Wait,
) -> Result<Response<Body>, Refused> {
    let metrics = &worker.context.metrics.jobs;
    let (route, queue) = (offered.route.name.clone(), offered.rule.queue.clone());
    let tools = tools(worker, offered.rule)?;
    if let Some(refusal) = worker.context.backends.soundness.of_new_jobs(&queue) {
        return refused::without_queue(worker, offered, resolved, reason, &refusal).await;
    }
    let started = Instant::now();
    // One budget covers everything: two calls of 3 s and a retry would add up to 9 s.
    let (id, key) = choose_id(worker, &offered, &tools)?;
    let put = tokio::time::timeout(ENQUEUE_BUDGET, async {
        if key.is_some() {
            return keyed::put(worker, &offered, &tools, &id).await;
        }
        send(worker, &offered, &tools, &id).await.map(|()| None)
    });
    let put = put.await.unwrap_or_else(|_| {
        Err(NotQueued::Unavailable("timeout", "the queue took too long".to_owned()))
    });
    match put {
        Ok(None) => {}
        Ok(Some(found)) => {
            let known = repeat::KnownKey { id: &id, found, reason, wait };
            let answer = repeat::answer(worker, &offered, &tools, known).await?;
            return Ok(keyed::marked(answer, key.as_ref()));
        }
        Err(NotQueued::Refused(refused)) => return Err(refused),
        Err(NotQueued::Unavailable(name, detail)) => {
            metrics.offered(&route, name, reason);
            tracing::warn!(route, queue, reason = name, detail, "job not queued");
            // A retry with the key becomes the same job: nothing needs to be withdrawn.
            let is_withdrawn = key.is_none() && withdrawn(worker, &tools, &id).await;
            // What was refused for good has not happened.
            let is_unstarted = is_withdrawn || key.is_none() && is_definite(name);
            if is_unstarted && refused::may_be_inline(offered.rule, is_definite(name)) {
                return inline(worker, offered, resolved).await;
            }
            let started = if is_unstarted { "nothing is started" } else { MAY_BE_STARTED };
            // The queue's message goes to the log only: it may name accounts and addresses.
            return Err(Refused::new(Problem::OffloadUnavailable, format!("{name}; {started}")));
        }
    }
    metrics.offered(&route, "queued", reason);
    let seconds = started.elapsed().as_secs_f64();
    metrics.enqueue_seconds.with_label_values(&[route.as_str()]).observe(seconds);
    tracing::info!(route, queue, job = id, reason = reason.as_str(), "job queued");
    if let Some(answer) = synchronous::outcome(worker, tools.results, &offered, &id, wait).await {
        return answer.map(|answer| keyed::marked(answer, key.as_ref()));
    }
    let receipt = Receipt::of(&offered.clean, offered.rule).answer(&id, "queued", reason);
    Ok(keyed::marked(receipt, key.as_ref()))
}

/// Chooses the id of the new job, from the `Idempotency-Key` where there is one.
pub(super) fn choose_id(
    worker: &JobWorker,
    offered: &OffloadCandidate<'_>,
    tools: &Opened<'_>,
) -> Result<(String, Option<HeaderValue>), Refused> {
    let (caller, route) = (&offered.allowed.caller, &offered.route.name);
    if let Some(key) = keyed::of(offered)? {
        return Ok((id::keyed(tools.secrets, route, caller, &keyed::text(&key)), Some(key)));
    }
    let id = id::fresh(tools.secrets, JobKind::Queued, route, caller, worker.context.clock.now());
    Ok((id.map_err(|error| Refused::new(Problem::OffloadUnavailable, error.to_string()))?, None))
}

/// What a client is told when its message may be in the queue nevertheless.
pub(super) const MAY_BE_STARTED: &str =
    "the job may be run all the same; retry with the same Idempotency-Key";

/// Withdraws a request whose send failed, because it may be in the queue nevertheless. The job is
/// cancelled, so that a message that arrives late is not executed in addition to the client's retry
/// or the inline execution. The lease comes first: a message that arrived early is already running.
pub(super) async fn withdrawn(worker: &JobWorker, tools: &Opened<'_>, id: &str) -> bool {
    const BUDGET: Duration = Duration::from_secs(1);
    /// Longer than the budget and the clock skew, in milliseconds.
    const LEASE: Millis = Millis(15_000);
    let (now, results) = (worker.context.clock.now(), tools.results.as_ref());
    let until = now + LEASE;
    let lease = Lease { holder: "withdrawn".to_owned(), until, ..Lease::default() };
    let outcome = Outcome::without_answer(id, Terminal::Cancelled, "withdrawn", now);
    let written = async {
        record::write(results, &lease_key(id), &lease, Condition::IfAbsent).await?;
        record::write(results, &outcome_key(id), &outcome, Condition::IfAbsent).await
    };
    matches!(tokio::time::timeout(BUDGET, written).await, Ok(Ok(_)))
}
