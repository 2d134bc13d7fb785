//! Answers a repeated request with an `Idempotency-Key` from the state of the first one.

use super::context::JobWorker;
use super::keyed::Record;
use super::leases::LEASE;
use super::lines::Lines;
use super::offered::{OffloadCandidate, Opened};
use super::receipt::Receipt;
use super::record::{self, Accepted, Adopted, Outcome, StoredAnswer, accepted_key, adopted_key};
use super::state::{JobState, unavailable};
use super::{state, synchronous};
use crate::message::body::Body;
use crate::message::refused::Refused;
use http::{HeaderValue, Method, Response, StatusCode, header};
use rules::Problem;
use rules::offload::{Reason, Wait};
use std::sync::Arc;
use std::time::Duration;
use stores::results::{Condition, PutError, Results, StoreError};
use tokio::time::timeout;

/// How long reading the store may take before the answer.
const BUDGET: Duration = Duration::from_secs(3);

/// A key that was used before.
pub(super) struct KnownKey<'a> {
    pub id: &'a str,
    pub found: Record,
    pub reason: Reason,
    pub wait: Wait,
}

/// The answer that the first client got, or 202 if it got none or has none yet.
pub(super) async fn answer(
    worker: &Arc<JobWorker>,
    offered: &OffloadCandidate<'_>,
    tools: &Opened<'_>,
    known: KnownKey<'_>,
) -> Result<Response<Body>, Refused> {
    let KnownKey { id, found, reason, wait } = known;
    let result = if found.accepted.executed { "adopted" } else { "queued" };
    worker.context.metrics.jobs.offered(&offered.route.name, result, reason);
    let late = |_| Refused::new(Problem::OffloadUnavailable, "timeout");
    let state = timeout(BUDGET, state(worker, offered, tools, id, found)).await.map_err(late)?;
    let state = state.map_err(unavailable)?;
    if let JobState::Ended(outcome) = &state
        && outcome.answered
    {
        return again(tools.results.as_ref(), id, outcome, &offered.clean.method).await;
    }
    if let Some(answer) = synchronous::outcome(worker, tools.results, offered, id, wait).await {
        return answer;
    }
    Ok(Receipt::of(&offered.clean, offered.rule).answer(id, state.name(), reason))
}

/// The state of the first request. If it is running, this client is promised its end, which is
/// recorded first.
async fn state(
    worker: &Arc<JobWorker>,
    offered: &OffloadCandidate<'_>,
    tools: &Opened<'_>,
    id: &str,
    found: Record,
) -> Result<JobState, StoreError> {
    let (context, results) = (&worker.context, tools.results.as_ref());
    let state = state::state(context, results, id).await?;
    match state {
        // It is not queued: its key was released at this moment.
        JobState::Queued if found.accepted.executed => return Err(race()),
        JobState::Running { .. } if found.accepted.executed => {}
        state => return Ok(state),
    }
    let until = found.accepted.at + LEASE;
    promise(results, id, found).await?;
    // The reaper finds executions whose process is gone by their leases.
    let lease = Adopted { until, ..offered.about() };
    let key = adopted_key(id);
    let is_new = match record::write(results, &key, &lease, Condition::IfAbsent).await {
        Ok(_) => true,
        Err(PutError::Precondition) => false,
        Err(PutError::Failed(error)) => return Err(error),
    };
    let state = state::state(context, results, id).await?;
    if is_new && matches!(state, JobState::Ended(_)) {
        // It ended and removed its lease meanwhile: nobody needs this one.
        results.delete(&key).await?;
    }
    Ok(state)
}

fn race() -> StoreError {
    StoreError { name: "store-race", detail: "try again".to_owned() }
}

async fn promise(results: &dyn Results, id: &str, found: Record) -> Result<(), StoreError> {
    let Record { accepted, etag } = found;
    if accepted.promised {
        return Ok(());
    }
    let promised = Accepted { promised: true, ..accepted };
    match record::write(results, &accepted_key(id), &promised, Condition::IfMatch(etag)).await {
        Ok(_) => Ok(()),
        // Another retry has promised it, or the key was released at this moment.
        Err(PutError::Precondition) => {
            let found = record::read::<Accepted>(results, &accepted_key(id)).await?;
            let is_promised = found.is_some_and(|(accepted, _)| accepted.promised);
            if is_promised { Ok(()) } else { Err(race()) }
        }
        Err(PutError::Failed(error)) => Err(error),
    }
}

/// The answer that the first client got.
async fn again(
    results: &dyn Results,
    id: &str,
    outcome: &Outcome,
    method: &Method,
) -> Result<Response<Body>, Refused> {
    let Some(StoredAnswer { code, headers, length, object, .. }) = outcome.answer.as_deref() else {
        let detail = format!("job {id}: it was answered, with more than is kept of an answer");
        return Err(Refused::new(Problem::AlreadyAnswered, detail));
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(*code).unwrap_or(StatusCode::OK);
    Lines(headers.clone()).put_into(response.headers_mut());
    if *length > 0 && method != Method::HEAD {
        let object = results.get(object, None).await.map_err(unavailable)?;
        let gone = || Refused::new(Problem::JobExpired, "the answer is gone");
        *response.body_mut() = Body::boxed(object.ok_or_else(gone)?.body);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(*length));
    }
    Ok(response)
}
