//! Requests with an `Idempotency-Key` that are executed at once: an accept record is written before, so
//! that a retry never executes them again.

use super::accept::{self, NotQueued, Offered, tools};
use super::context::JobWorker;
use super::keyed::{self, Claim, Record, Way};
use super::record::{self, Accepted, accepted_key};
use super::{adopt, id, repeat};
use crate::message::body::Body;
use crate::message::refused::Refused;
use http::{HeaderValue, Response};
use rules::Problem;
use rules::document::Fallback;
use rules::shard::Resolved;
use std::sync::Arc;
use std::time::Duration;
use stores::results::{Condition, PutError, Results};
use tokio::time::{sleep, timeout};

/// Writing the accept record, which the execution waits for.
const RECORD_BUDGET: Duration = Duration::from_secs(3);
/// Taking it back.
const WITHDRAW_BUDGET: Duration = Duration::from_secs(1);
/// How often it is asked what became of a release, some minutes in all.
const SETTLE_TRIES: usize = 60;
const SETTLE_PAUSE: Duration = Duration::from_secs(5);

/// A request that nobody else executes.
pub(super) struct Once {
    pub id: String,
    pub key: HeaderValue,
    record: Record,
}

/// Executes the request, unless an earlier one with its key was.
pub(super) async fn run(
    worker: &Arc<JobWorker>,
    offered: Offered<'_>,
    resolved: Option<&Resolved>,
    wanted: adopt::Wanted,
) -> Result<Response<Body>, Refused> {
    let Some(key) = keyed::of(&offered)? else {
        return adopt::run(worker, offered, resolved, wanted, None).await;
    };
    let tools = tools(worker, offered.rule)?;
    let (route, reason) = (offered.route.name.as_str(), wanted.reason);
    let id = id::keyed(tools.secrets, route, &offered.allowed.caller, &keyed::text(&key));
    let own = keyed::record(worker, &offered, &tools, Way::Execute).await;
    let own = own.map_err(|why| why.refused("nothing is started"))?;
    let holder = own.holder.clone();
    let claim = keyed::claim(&offered, &tools, &id, own);
    let claimed = timeout(RECORD_BUDGET, claim).await.unwrap_or_else(|_| {
        Err(NotQueued::Unavailable("timeout", "the store took too long".to_owned()))
    });
    match claimed {
        Ok(Claim::Ours(record)) => {
            let once = Once { id, key, record };
            adopt::run(worker, offered, resolved, wanted, Some(once)).await
        }
        Ok(Claim::Unsent(_)) if !wanted.may_queue => {
            Err(Refused::new(Problem::CrossSite, "nothing was queued"))
        }
        Ok(Claim::Unsent(_)) => {
            accept::enqueue(worker, offered, resolved, reason, wanted.wait).await
        }
        Ok(Claim::Known(found)) => {
            let known = repeat::Known { id: &id, found, reason, wait: wanted.wait };
            let answer = repeat::answer(worker, &offered, &tools, known).await?;
            Ok(keyed::marked(answer, Some(&key)))
        }
        Err(NotQueued::Refused(refused)) => Err(refused),
        Err(NotQueued::Unavailable(name, detail)) => {
            worker.context.metrics.jobs.offered(route, name, reason);
            tracing::warn!(route, reason = name, detail, "accept record not written");
            if offered.rule.fallback == Fallback::Inline {
                // Whatever became of the record: with it the job is `unknown`, and not run again.
                return accept::inline(worker, offered, resolved).await;
            }
            // Without it, the retry would be told of an execution that never was.
            let withdrawing = withdraw(tools.results.as_ref(), &id, &holder);
            if timeout(WITHDRAW_BUDGET, withdrawing).await.is_err() {
                tracing::debug!(job = id, "accept record not taken back");
            }
            Err(Refused::new(Problem::OffloadUnavailable, format!("{name}; nothing is started")))
        }
    }
}

/// Takes a record back whose writing was not answered, if it was written.
async fn withdraw(results: &dyn Results, id: &str, holder: &str) {
    let Ok(Some((accepted, etag))) = record::read::<Accepted>(results, &accepted_key(id)).await
    else {
        return;
    };
    if accepted.holder == holder && !accepted.promised {
        release(results, id, Record { accepted, etag }).await;
    }
}

/// Whether a key is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freed {
    Yes,
    /// Somebody was promised the job meanwhile.
    No,
    /// The store did not say. What was written may still arrive.
    Unknown,
}

/// Gives the key free: nothing was done.
async fn release(results: &dyn Results, id: &str, record: Record) -> Freed {
    let Record { accepted, etag } = record;
    let released = Accepted { released: true, ..accepted };
    let key = accepted_key(id);
    match record::write(results, &key, &released, Condition::IfMatch(etag)).await {
        Ok(_) => Freed::Yes,
        Err(PutError::Precondition) => Freed::No,
        Err(PutError::Failed(_)) => Freed::Unknown,
    }
}

impl Once {
    /// The same, for an execution that the application did not begin, or says it did not.
    pub(super) async fn release(&self, results: &dyn Results) -> Freed {
        let releasing = release(results, &self.id, self.record.clone());
        timeout(RECORD_BUDGET, releasing).await.unwrap_or(Freed::Unknown)
    }

    /// Finds out whether a release got through, and sees to it that it does not from now on: the job's
    /// end is stored next. `Unknown` while the store is away for long.
    pub(super) async fn settle(&self, results: &dyn Results) -> Freed {
        let key = accepted_key(&self.id);
        for _ in 0..SETTLE_TRIES {
            let Record { accepted, etag } = self.record.clone();
            // Another etag is all that it needs.
            let settled = Accepted { holder: format!("{}-", accepted.holder), ..accepted };
            match record::write(results, &key, &settled, Condition::IfMatch(etag)).await {
                Ok(_) => return Freed::No,
                Err(PutError::Precondition) => {
                    if let Ok(found) = record::read::<Accepted>(results, &key).await {
                        let is_free = found.is_none_or(|(found, _)| found.released);
                        return if is_free { Freed::Yes } else { Freed::No };
                    }
                }
                Err(PutError::Failed(_)) => {}
            }
            sleep(SETTLE_PAUSE).await;
        }
        Freed::Unknown
    }
}
