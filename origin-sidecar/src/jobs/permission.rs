//! Asks the application whether a request is allowed: a GET of `auth.check` with the client's own
//! fields.

use super::context::JobWorker;
use super::permissions::CHECKS_MAX;
use crate::message::refused::Refused;
use crate::secrets::hmac;
use crate::upstream::forward;
use crate::upstream::outgoing::Outgoing;
use http::{HeaderMap, HeaderName, Method};
use rules::Problem;
use rules::document::Auth;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a check may take. It precedes the 202 of every offloaded request.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a check may wait for a permit. The client has its answer within this and
/// [`CHECK_TIMEOUT`].
const CHECK_WAIT: Duration = Duration::from_secs(2);
/// Fields that say nothing about the sender, and are not sent to the application: those of the
/// absent body, conditions that do not apply to a check, and those that differ in each poll of a
/// job.
const NOT_SENT: [&str; 16] = [
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-event-id",
    "prefer",
    "range",
    "traceparent",
    "tracestate",
    "transfer-encoding",
];

/// How recent a permission must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It must be given for this request, which begins or ends something.
    Now,
    /// It may be up to five seconds old.
    Recent,
}

/// A request for permission, as the application gets it.
#[derive(Clone)]
pub(super) struct Question {
    path: String,
    headers: HeaderMap,
    /// The fields of the answer that identify the caller.
    named_by: Vec<HeaderName>,
}

impl Question {
    /// Builds the check. `headers` are those of the client's request as the application would get
    /// them. `None` where the rule has no check.
    pub(super) fn new(auth: &Auth, headers: &HeaderMap) -> Option<Self> {
        let Auth::Caller { check: Some(path), .. } = auth else { return None };
        let mut headers = headers.clone();
        for name in NOT_SENT {
            headers.remove(name);
        }
        let named_by =
            auth.said_by_check().filter_map(|name| HeaderName::try_from(name).ok()).collect();
        Some(Self { path: path.clone(), headers, named_by })
    }

    /// A hash, so that nothing of the fields stays in memory: they may contain a password.
    fn fingerprint(&self, key: &[u8]) -> Vec<u8> {
        let mut lines: Vec<(&[u8], &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
            .collect();
        // Lines of one name keep their order, which is significant.
        lines.sort_by_key(|(name, _)| *name);
        let mut message = Vec::new();
        let parts = [self.path.as_bytes()].into_iter();
        for part in parts.chain(lines.into_iter().flat_map(|(name, value)| [name, value])) {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part);
        }
        hmac(key, &message)
    }
}

/// Why the application gave no permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Denied {
    /// It refuses.
    No(String),
    /// It accepts no connection.
    Away(String),
    /// It can't decide (5xx, 429, no answer in time), or too many checks are in flight.
    Unable(String),
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::No(detail) => Refused::new(Problem::OffloadUnauthorized, detail),
            Denied::Away(detail) | Denied::Unable(detail) => {
                Refused::new(Problem::OffloadUnavailable, detail)
            }
        }
    }
}

/// Asks the application. Returns the fields of its answer: all of them for a new answer, and those
/// that identify the caller for a remembered one.
///
/// # Errors
/// A refusal, which is never remembered, or the application could not be asked.
pub(super) async fn ask(
    worker: &JobWorker,
    question: &Question,
    freshness: Freshness,
) -> Result<Arc<HeaderMap>, Denied> {
    let permissions = &worker.context.permissions;
    let count =
        |result: &str| worker.context.metrics.jobs.checks.with_label_values(&[result]).inc();
    let fingerprint = question.fingerprint(&permissions.key);
    if freshness == Freshness::Recent
        && let Some(answer) = permissions.recent(&fingerprint)
    {
        count("remembered");
        return Ok(answer);
    }
    let Ok(Ok(_place)) = timeout(CHECK_WAIT, permissions.places.acquire()).await else {
        count("busy");
        return Err(Denied::Unable(format!("{CHECKS_MAX} checks are under way")));
    };
    let asked = Instant::now();
    let response = forward::send(&worker.client, &mut outgoing(worker, question)).await;
    let response = response.map_err(|failure| {
        count("unavailable");
        let detail = format!("{} was not answered: {}", question.path, failure.problem.name());
        // A slow check of one caller says nothing about the application.
        let is_away = failure.is_unsent && failure.problem == Problem::UpstreamUnreachable;
        if is_away { Denied::Away(detail) } else { Denied::Unable(detail) }
    })?;
    let (path, status) = (&question.path, response.status());
    if status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS {
        count("unavailable");
        return Err(Denied::Unable(format!("{path} answered {status}; nobody can be let in")));
    }
    if !status.is_success() {
        count("no");
        permissions.forget(&fingerprint);
        return Err(Denied::No(format!("{path} answered {status}")));
    }
    count("yes");
    let answer = response.into_parts().0.headers;
    let mut named = HeaderMap::new();
    for name in &question.named_by {
        for value in answer.get_all(name) {
            named.append(name, value.clone());
        }
    }
    permissions.keep(fingerprint, Arc::new(named), asked);
    Ok(Arc::new(answer))
}

fn outgoing(worker: &JobWorker, question: &Question) -> Outgoing {
    Outgoing {
        headers: question.headers.clone(),
        timeout: CHECK_TIMEOUT,
        ..Outgoing::to(
            worker.context.destinations.servers.app.clone(),
            Method::GET,
            question.path.clone(),
        )
    }
}
