//! Lets a client wait for the outcome of the job that its request became.

use super::auth::{Still, Visitor};
use super::context::JobWorker;
use super::offered::OffloadCandidate;
use super::{deliver, watch};
use crate::message::body::Body;
use crate::message::refused::Refused;
use http::{HeaderValue, Response};
use rules::Problem;
use rules::document::{Offload, WaitEnds};
use rules::offload::Wait;
use std::sync::Arc;
use std::time::Duration;
use stores::results::Results;

/// The application's answer, when the job ends within the time that the client waits; `None` where
/// it gets the 202.
pub(super) async fn outcome(
    worker: &Arc<JobWorker>,
    results: &Arc<dyn Results>,
    offered: &OffloadCandidate<'_>,
    id: &str,
    wait: Wait,
) -> Option<Result<Response<Body>, Refused>> {
    let limit = match wait {
        Wait::No => return None,
        Wait::Asked(wait) | Wait::ByRule(wait) => Duration::from(wait),
    };
    let (context, results) = (&worker.context, results.as_ref());
    let clean = &offered.clean;
    let visitor = Visitor::rebuilt(worker, &offered.rule.auth, clean.headers.clone());
    let reader = visitor.known_as(offered.allowed.caller.clone());
    let is_waited = watch::end(context, results, id, limit, Some(&reader)).await;
    // A client without permission, or whose permission can't be determined, gets the 202 and asks
    // again.
    let is_allowed = reader.still().await == Still::Authorized;
    let answer = deliver::finished(context, results, id, clean).await;
    if let Some(mut response) = answer.filter(|_| is_allowed) {
        if let Wait::Asked(asked) = wait
            && is_waited
            && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", asked.as_secs()))
        {
            response.headers_mut().insert("preference-applied", applied);
        }
        return Some(Ok(response));
    }
    // A client that found no place to wait, or waited during a drain, has not waited as long as the
    // rule says.
    let is_over =
        is_waited && !*context.drain.draining().borrow() && is_failure(offered.rule, wait);
    is_over.then(|| Err(over(&offered.clean.rules.document.jobs.base, id)))
}

/// Whether a client whose wait ended without an outcome gets a refusal instead of the 202.
pub(super) fn is_failure(rule: &Offload, wait: Wait) -> bool {
    matches!(wait, Wait::ByRule(_)) && rule.wait_ends == WaitEnds::GatewayTimeout
}

pub(super) fn over(base: &str, id: &str) -> Refused {
    Refused::new(Problem::WaitOver, format!("the job goes on: {base}/jobs/{id}"))
}
