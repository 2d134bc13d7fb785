//! Executes requests with an `Idempotency-Key`: once for all requests with the key, and adopted
//! when it takes long.

use super::context::JobWorker;
use super::keyed::{self, Handling, KeyClaim, Record};
use super::offered::{NotQueued, OffloadCandidate, tools};
use super::once::{Once, RECORD_BUDGET, release};
use super::record::{self, Accepted, accepted_key};
use super::{adopt, enqueue, id, offered, repeat};
use crate::message::body::Body;
use crate::message::refused::Refused;
use http::Response;
use rules::Problem;
use rules::document::QueueFallback;
use rules::shard::Resolved;
use std::sync::Arc;
use std::time::Duration;
use stores::results::Results;
use tokio::time::timeout;

/// How long withdrawing the record may take.
pub(super) const WITHDRAW_BUDGET: Duration = Duration::from_secs(1);

/// Executes the request, unless an earlier one with its key was executed.
pub(super) async fn run(
    worker: &Arc<JobWorker>,
    offered: OffloadCandidate<'_>,
    resolved: Option<&Resolved>,
    wanted: adopt::AdoptOptions,
) -> Result<Response<Body>, Refused> {
    let Some(key) = keyed::of(&offered)? else {
        return adopt::run(worker, offered, resolved, wanted, None).await;
    };
    let tools = tools(worker, offered.rule)?;
    let (route, reason) = (offered.route.name.as_str(), wanted.reason);
    let id = id::keyed(tools.secrets, route, &offered.allowed.caller, &keyed::text(&key));
    let own = keyed::record(worker, &offered, &tools, Handling::Execute).await;
    let own = own.map_err(|why| why.refused("nothing is started"))?;
    let holder = own.holder.clone();
    let claim = keyed::claim(&offered, &tools, &id, own);
    let claimed = timeout(RECORD_BUDGET, claim).await.unwrap_or_else(|_| {
        Err(NotQueued::Unavailable("timeout", "the store took too long".to_owned()))
    });
    match claimed {
        Ok(KeyClaim::Ours(record)) => {
            let once = Once { id, key, record };
            adopt::run(worker, offered, resolved, wanted, Some(once)).await
        }
        Ok(KeyClaim::Unsent(_)) if !wanted.may_queue => {
            Err(Refused::new(Problem::CrossSite, "nothing was queued"))
        }
        Ok(KeyClaim::Unsent(_)) => {
            enqueue::enqueue(worker, offered, resolved, reason, wanted.wait).await
        }
        Ok(KeyClaim::Known(found)) => {
            let known = repeat::KnownKey { id: &id, found, reason, wait: wanted.wait };
            let answer = repeat::answer(worker, &offered, &tools, known).await?;
            Ok(keyed::marked(answer, Some(&key)))
        }
        Err(NotQueued::Refused(refused)) => Err(refused),
        Err(NotQueued::Unavailable(name, detail)) => {
            worker.context.metrics.jobs.offered(route, name, reason);
            tracing::warn!(route, reason = name, detail, "could not write the accept record");
            if offered.rule.fallback == QueueFallback::Inline {
                // Whatever became of the record: with it the job is `unknown`, and is not executed
                // again.
                return offered::inline(worker, offered, resolved).await;
            }
            // Otherwise a retry would be told of an execution that never happened.
            let withdrawing = withdraw(tools.results.as_ref(), &id, &holder);
            if timeout(WITHDRAW_BUDGET, withdrawing).await.is_err() {
                tracing::debug!(job = id, "accept record not taken back");
            }
            Err(Refused::new(Problem::OffloadUnavailable, format!("{name}; nothing is started")))
        }
    }
}

/// Withdraws a record whose write got no answer, in case it was written.
pub(super) async fn withdraw(results: &dyn Results, id: &str, holder: &str) {
    let Ok(Some((accepted, etag))) = record::read::<Accepted>(results, &accepted_key(id)).await
    else {
        return;
    };
    if accepted.holder == holder && !accepted.promised {
        release(results, id, Record { accepted, etag }).await;
    }
}
