//! A request to an upstream, and why it may get no answer.

use super::route_state::RouteState;
use super::server::{Protocol, Upstream};
use crate::message::body::Body;
use crate::message::fields::View;
use crate::message::grpc;
use crate::message::refused::Refused;
use crate::writes::WriteInFlight;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http1::received::Received;
use http1::server::Exchange;
use rules::Problem;
use rules::document::Route;
use rules::head::overrides_method;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the head of an answer may take, unless the route has a `timeout`: load balancers give
/// up after 60 s.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// How long the head of an answer may take on this route.
pub fn timeout(route: Option<&Route>) -> Duration {
    route.and_then(|route| route.timeout).map_or(TIMEOUT_DEFAULT, Duration::from)
}

/// How long a gRPC call may take without a `timeout` of its route. The client's deadline, which the
/// application gets, is the real limit; this one only makes sure that there is one.
const CALL_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Whether the request is a gRPC call to an upstream that speaks HTTP/2. Before any other upstream,
/// one that merely looks like a call is an ordinary request.
pub fn is_call(upstream: &Upstream, headers: &HeaderMap) -> bool {
    matches!(upstream.protocol, Protocol::Http2) && grpc::is_grpc(headers)
}

/// How long the head of a call's answer may take.
pub fn timeout_of_call(route: Option<&Route>) -> Duration {
    route.and_then(|route| route.timeout).map_or(CALL_TIMEOUT, Duration::from)
}

/// When connecting takes longer, a stale answer is served where allowed.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// Called when even the connection is slow, for those who could do without the answer.
pub type Slow = Arc<dyn Fn() + Send + Sync>;

pub struct Outgoing {
    pub upstream: Arc<Upstream>,
    pub method: Method,
    /// The target: path and query.
    pub target: String,
    pub headers: HeaderMap,
    /// The received head, so that fields are forwarded in their original spelling and order.
    pub came: Received,
    /// Further field lines, each with its line end.
    pub added: String,
    pub body: Body,
    /// How long the head of the answer may take. Sending the body does not count, as long as the
    /// upstream goes on reading it.
    pub timeout: Duration,
    /// Receives interim answers (1xx), if a client waits for them.
    pub exchange: Option<Exchange>,
    /// Whether the answer's fields may be forwarded in encoded form, because nobody reads them.
    pub may_pass: bool,
    /// The route whose limits apply. None for requests of Spillway itself, and for jobs, whose
    /// number the queue limits.
    pub route_state: Option<Arc<RouteState>>,
    /// Called when connecting takes more than a moment.
    pub slow: Option<Slow>,
    /// Of a write in a live shard map: in flight until its end.
    pub write: Option<WriteInFlight>,
    /// Whether another sidecar gets it that may follow a newer shard map.
    pub may_be_stale: bool,
}

impl Outgoing {
    /// A request without fields and body, with the longest allowed timeout.
    pub fn to(upstream: Arc<Upstream>, method: Method, target: String) -> Self {
        Self {
            upstream,
            method,
            target,
            headers: HeaderMap::new(),
            came: Received::default(),
            added: String::new(),
            body: Body::empty(),
            timeout: TIMEOUT_DEFAULT,
            exchange: None,
            may_pass: false,
            route_state: None,
            slow: None,
            write: None,
            may_be_stale: false,
        }
    }

    /// Whether repeating the request does no harm (RFC 9110 section 9.2.2). One that names another
    /// method in a field may not be idempotent.
    pub fn may_repeat(&self) -> bool {
        self.method.is_idempotent() && !overrides_method(&View::of(&self.headers))
    }
}

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub problem: Problem,
    pub detail: String,
    /// Whether nothing reached the upstream, so that the request is safe to retry elsewhere.
    pub is_unsent: bool,
}

impl Failure {
    /// Why the request is refused. An unreachable shard is not a broken gateway: other keys are still
    /// served. And what one sidecar tells another is not for clients.
    pub fn refused(self, is_sharded: bool) -> Refused {
        match self.problem {
            Problem::UpstreamUnreachable if is_sharded => {
                Refused::new(Problem::ShardUnavailable, self.detail)
            }
            Problem::StaleEpoch => Refused::new(Problem::MapBehind, self.detail),
            problem => Refused::new(problem, self.detail),
        }
    }
}

/// Awaits a connection attempt, and calls `slow` when it takes long.
pub(super) async fn noticed<T>(outgoing: &Outgoing, connecting: impl Future<Output = T>) -> T {
    let Some(slow) = &outgoing.slow else { return connecting.await };
    let mut connecting = pin!(connecting);
    match timeout_at(Instant::now() + STALE_AFTER, connecting.as_mut()).await {
        Ok(connected) => connected,
        Err(_) => {
            slow();
            connecting.await
        }
    }
}

/// Awaits something within the time that the answer may take.
pub(super) async fn in_time<T>(
    outgoing: &Outgoing,
    began: Instant,
    coming: impl Future<Output = T>,
) -> Result<T, Failure> {
    timeout_at(began + outgoing.timeout, coming).await.map_err(|_| late(outgoing))
}

pub(super) fn late(outgoing: &Outgoing) -> Failure {
    let (name, timeout) = (&outgoing.upstream.name, outgoing.timeout);
    Failure {
        problem: Problem::UpstreamTimeout,
        detail: format!("no answer from {name} within {timeout:?}"),
        is_unsent: false,
    }
}

pub(super) fn unreachable(upstream: &Upstream, error: &dyn std::fmt::Display) -> Failure {
    Failure {
        problem: Problem::UpstreamUnreachable,
        detail: format!("{}: {error}", upstream.authority),
        is_unsent: true,
    }
}

/// Builds the request for a library, or for an application in this process.
pub(super) fn request(outgoing: &mut Outgoing) -> Result<Request<Body>, Failure> {
    let uri = Uri::builder()
        .scheme("http")
        .authority(outgoing.upstream.authority.clone())
        .path_and_query(&*rules::path::legal(&outgoing.target))
        .build()
        .map_err(|error| Failure {
            problem: Problem::BadRequest,
            detail: error.to_string(),
            is_unsent: true,
        })?;
    let mut headers = std::mem::take(&mut outgoing.headers);
    for (name, value) in outgoing.added.lines().filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    let mut request = Request::new(outgoing.body.take());
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The failure when the client broke its body off, or exceeded the route's `max_body`.
pub(super) fn of_body(error: &io::Error) -> Failure {
    let is_too_long =
        error.get_ref().is_some_and(|inner| inner.is::<http_body_util::LengthLimitError>());
    let problem = if is_too_long { Problem::BodyTooLarge } else { Problem::BadRequest };
    let limit = if is_too_long { "max_body: " } else { "" };
    let detail = format!("{limit}the body could not be read: {error}");
    Failure { problem, detail, is_unsent: false }
}
