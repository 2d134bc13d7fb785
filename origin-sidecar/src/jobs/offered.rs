//! A request that may become a job, and what is needed to make it one.

use super::auth::Authorized;
use super::context::JobWorker;
use super::intake::NotRead;
use super::payload::Payload;
use super::pointer::Pointed;
use super::record::Adopted;
use crate::message::body::Body;
use crate::message::fields::View;
use crate::message::refused::Refused;
use crate::request::sanitized::SanitizedRequest;
use crate::secrets::Secrets;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::{forward, outgoing};
use http::{HeaderValue, Response, header};
use rules::document::{KeySource, Offload, Route};
use rules::offload::{self};
use rules::shard::Resolved;
use rules::{Head, Problem, UnixMillis};
use std::sync::Arc;
use std::time::Duration;
use stores::queue::Queue;
use stores::results::{Results, StoreError};

/// How long enqueueing may take, from the complete request to a durable message; then the client is
/// told to retry.
pub(super) const ENQUEUE_BUDGET: Duration = Duration::from_secs(3);

/// The backends that an offload needs. They are bound at start-up, so they always exist.
pub(super) struct Opened<'a> {
    pub queue: &'a Arc<dyn Queue>,
    pub results: &'a Arc<dyn Results>,
    pub secrets: &'a Secrets,
}

/// The backends of a rule's queue.
///
/// # Errors
/// `internal` when start-up accepted an unbound name.
pub(super) fn tools<'a>(worker: &'a JobWorker, rule: &Offload) -> Result<Opened<'a>, Refused> {
    let context = &worker.context;
    match (context.backends.queues.get(&rule.queue), &context.backends.results, &context.secrets) {
        (Some(queue), Some(results), Some(secrets)) => Ok(Opened { queue, results, secrets }),
        _ => Err(Refused::new(Problem::Internal, format!("queue {} is not bound", rule.queue))),
    }
}

/// A request that may become a job.
pub(super) struct OffloadCandidate<'a> {
    pub clean: SanitizedRequest<'a>,
    pub body: Payload,
    /// The values of the rule's sources in a body that is not in memory.
    pub pointed: Pointed,
    pub route: &'a Route,
    pub rule: &'a Offload,
    pub target: String,
    pub allowed: Authorized,
}

impl OffloadCandidate<'_> {
    /// The class of requests with similar latencies; empty where the rule names none.
    pub(super) fn class(&self) -> String {
        self.rule.class.as_ref().and_then(|source| self.value(source)).unwrap_or_default()
    }

    /// The contents of its lease as an adopted execution, and of the notification.
    pub(super) fn about(&self) -> Adopted {
        let user = self.allowed.keep.first().and_then(|(_, value)| value.to_str().ok());
        let (route, queue) = (self.route.name.clone(), self.rule.queue.clone());
        Adopted { until: UnixMillis::default(), route, queue, user: user.map(str::to_owned) }
    }

    /// The value of a source in the request.
    pub(super) fn value(&self, source: &KeySource) -> Option<String> {
        let view = View::of(self.clean.headers);
        let head =
            Head { target: &self.target, ..self.clean.inbound.head(&self.clean.method, &view) };
        let rules = &self.clean.rules;
        let path = self.target.split('?').next().unwrap_or_default();
        let parameters = rules.parameters(&head, path);
        match (&self.body, source) {
            (Payload::Spooled(_), KeySource::Body(pointer)) => self.pointed.get(pointer).cloned(),
            (Payload::Spooled(_), _) => offload::value(source, &head, &parameters, &[]),
            (Payload::Memory(body), _) => offload::value(source, &head, &parameters, body),
        }
    }
}

/// Why there is no job.
pub(super) enum NotQueued {
    Refused(Refused),
    Unavailable(&'static str, String),
}

impl NotQueued {
    /// The refusal for the client. `started` says what may have happened with the request.
    pub(super) fn refused(self, started: &str) -> Refused {
        match self {
            Self::Refused(refused) => refused,
            Self::Unavailable(name, detail) => {
                tracing::warn!(reason = name, detail, "no job");
                Refused::new(Problem::OffloadUnavailable, format!("{name}; {started}"))
            }
        }
    }
}

pub(super) fn store_failed(error: StoreError) -> NotQueued {
    NotQueued::Unavailable(error.name, error.detail)
}

/// `fallback = "inline"`: the queue is down, so the request is executed while the client waits.
pub(super) async fn inline(
    worker: &Arc<JobWorker>,
    offered: OffloadCandidate<'_>,
    resolved: Option<&Resolved>,
) -> Result<Response<Body>, Refused> {
    let mut outgoing = outgoing(worker, offered, resolved)?;
    forward::send(&worker.client, &mut outgoing).await.map_err(|failure| failure.refused(false))
}

/// The request as it would have been forwarded without offload.
pub(super) fn outgoing(
    worker: &JobWorker,
    offered: OffloadCandidate<'_>,
    resolved: Option<&Resolved>,
) -> Result<Outgoing, Refused> {
    let mut headers = std::mem::take(offered.clean.headers);
    let destination = worker.context.destinations.direct(
        &mut headers,
        offered.clean.route_state.upstream.as_ref(),
        resolved,
        offered.clean.is_forwarded(),
    )?;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(offered.body.length()));
    let body = offered.body.body().map_err(|error| NotRead::unreadable(&error).refused("", 0))?;
    let timeout = outgoing::timeout(Some(offered.route));
    Ok(Outgoing {
        headers,
        body,
        timeout,
        exchange: offered.clean.exchange,
        route_state: Some(Arc::clone(offered.clean.route_state)),
        write: offered.clean.write,
        may_be_stale: destination.may_be_stale(),
        ..Outgoing::to(Arc::clone(destination.upstream), offered.clean.method, offered.target)
    })
}
