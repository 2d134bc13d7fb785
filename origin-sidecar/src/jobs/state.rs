//! The state of a job.

use super::context::{JobContext, JobWorker};
use super::leases::LEASE;
use super::record::{
    self, Accepted, Adopted, JobEnd, JobProgress, Lease, Outcome, StoredAnswer, accepted_key,
    adopted_key, lease_key,
};
use super::{id, leases, terminate};
use crate::message::refused::Refused;
use crate::request::inbound::Inbound;
use crate::upstream::route_state::RouteState;
use http::{HeaderMap, Method};
use rules::{Millis, Problem, UnixMillis};
use stores::results::{Results, StoreError};

pub struct JobRequest<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub inbound: &'a Inbound,
    /// The path after `/jobs/`: an id, or an id and `/result`.
    pub job: &'a str,
}

impl JobRequest<'_> {
    pub(super) fn is_get(&self) -> bool {
        matches!(*self.method, Method::GET | Method::HEAD)
    }
}

/// The state of a job.
pub(super) enum JobState {
    Queued,
    Running { attempt: u64, progress: Option<JobProgress> },
    Ended(Outcome),
}

impl JobState {
    /// The application's answer, once there is one.
    pub(super) fn answer(&self) -> Option<&StoredAnswer> {
        match self {
            Self::Ended(outcome) => outcome.answer.as_deref(),
            Self::Queued | Self::Running { .. } => None,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running { .. } => "running",
            Self::Ended(outcome) => outcome.status.as_str(),
        }
    }
}

impl JobState {
    /// Whether the caller can no longer expect anything. A job that neither runs nor has ended may
    /// still wait, or have been removed: nobody can tell.
    pub(super) fn has_expired(&self, accepted: UnixMillis, ttl: Millis, now: UnixMillis) -> bool {
        let from = match self {
            Self::Queued => accepted,
            Self::Running { .. } => return false,
            Self::Ended(outcome) => outcome.finished.max(accepted),
        };
        now > from + ttl
    }
}

/// Logs that the state is unavailable, where a person sees a page that reloads itself.
pub(super) fn note_unavailable(worker: &JobWorker, detail: &str) {
    let in_force = worker.context.active.in_force();
    note_instead(worker, in_force.reserved(), Problem::OffloadUnavailable, detail);
}

/// Counts and logs a refusal that a person sees as a page instead.
pub(super) fn note_instead(
    worker: &JobWorker,
    route_state: &RouteState,
    problem: Problem,
    detail: &str,
) {
    let (route, problem) = (&*route_state.name, problem.name());
    worker.context.metrics.http.problems.with_label_values(&[route, problem]).inc();
    tracing::info!(route, problem, detail, "refused; the answer was a page or a redirect");
}

pub(super) fn unknown() -> Refused {
    Refused::from(Problem::JobUnknown)
}

pub(super) fn unavailable(error: StoreError) -> Refused {
    // The store's message goes to the log only: it may name accounts and addresses.
    tracing::warn!(%error, "the result store failed");
    Refused::new(Problem::OffloadUnavailable, error.name.to_owned())
}

pub(super) async fn state(
    context: &JobContext,
    results: &dyn Results,
    id: &str,
) -> Result<JobState, StoreError> {
    if let JobEnd::Is(outcome) = record::end(results, id).await? {
        return Ok(JobState::Ended(outcome));
    }
    let now = context.clock.now();
    if id::JobKind::of(id) == id::JobKind::Adopted {
        return match record::read::<Adopted>(results, &adopted_key(id)).await? {
            Some((lease, _)) if !leases::is_lost(&lease, now) => {
                Ok(JobState::Running { attempt: 1, progress: None })
            }
            // The process that executed the request is gone: nobody will ever know how it ended.
            _ => terminate::lost(results, id, now).await.map(JobState::Ended),
        };
    }
    if id::is_keyed(id)
        && let Some(state) = running(results, id, now).await?
    {
        return Ok(state);
    }
    match record::read::<Lease>(results, &lease_key(id)).await? {
        Some((lease, _)) if lease.until > now => {
            let progress = record::read::<JobProgress>(results, &record::progress_key(id)).await?;
            let progress = progress.map(|(progress, _)| progress);
            Ok(JobState::Running { attempt: lease.attempt, progress })
        }
        _ => Ok(JobState::Queued),
    }
}

/// The state of a request with a key that has not ended; `None` for a queued one.
///
/// # Errors
/// The store fails.
pub(super) async fn running(
    results: &dyn Results,
    id: &str,
    now: UnixMillis,
) -> Result<Option<JobState>, StoreError> {
    let accepted = record::read::<Accepted>(results, &accepted_key(id)).await?;
    let executed = accepted.filter(|(accepted, _)| accepted.executed && !accepted.released);
    let Some((accepted, _)) = executed else { return Ok(None) };
    let lease = record::read::<Adopted>(results, &adopted_key(id)).await?;
    // Until the first lease is written, the record counts as one.
    let until = lease.map_or(accepted.at + LEASE, |(lease, _)| lease.until);
    Ok(Some(if leases::is_over(until, now) {
        JobState::Ended(terminate::lost(results, id, now).await?)
    } else {
        JobState::Running { attempt: 1, progress: None }
    }))
}

/// Whether somebody got 202 for a request that was executed at once.
pub(super) async fn is_promised(results: &dyn Results, id: &str) -> bool {
    match record::read::<Accepted>(results, &accepted_key(id)).await {
        Ok(found) => found.is_some_and(|(accepted, _)| accepted.promised),
        // An unneeded notification does no harm.
        Err(_) => true,
    }
}
