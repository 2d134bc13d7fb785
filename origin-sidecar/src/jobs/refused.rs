//! Handles a request that can't become a job because queue or store refuse it for good.

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

/// Whether such a request is executed while its client waits. One that was expected to be quick is,
/// where there certainly can't be a job.
pub(super) fn may_be_inline(rule: &Offload, is_refused: bool) -> bool {
    rule.fallback == QueueFallback::Inline || is_refused && rule.when != When::Always
}

/// Handles a request for which it is known that there can't be a job.
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
