//! A request that can't become a job, as is known: queue or store refuse it for good.

use super::context::JobWorker;
use super::keyed;
use super::offered::{OffloadCandidate, inline};
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::soundness::RefusedCall;
use http::Response;
use rules::Problem;
use rules::document::{Offload, QueueFallback, When};
use rules::offload::Reason;
use rules::shard::Resolved;
use std::sync::Arc;

/// Whether a request that is no job is executed while its client waits. One that was meant to be quick
/// is, where it is sure that there can't be a job.
pub(super) fn may_be_inline(rule: &Offload, is_refused: bool) -> bool {
    rule.fallback == QueueFallback::Inline || is_refused && rule.when != When::Always
}

/// It is known that there can't be a job: none is begun.
pub(super) async fn without_queue(
    worker: &Arc<JobWorker>,
    offered: OffloadCandidate<'_>,
    resolved: Option<&Resolved>,
    reason: Reason,
    refusal: &RefusedCall,
) -> Result<Response<Body>, Refused> {
    let (route, name) = (&offered.route.name, refusal.reason);
    worker.context.metrics.jobs.offered(route, name, reason);
    // With a key it may be a job already.
    if keyed::of(&offered)?.is_none() && may_be_inline(offered.rule, true) {
        return inline(worker, offered, resolved).await;
    }
    tracing::warn!(route, queue = offered.rule.queue, reason = name, "job not queued");
    Err(Refused::new(Problem::OffloadUnavailable, format!("{name}; nothing is started")))
}
