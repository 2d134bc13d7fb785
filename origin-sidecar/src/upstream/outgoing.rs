//! A request on its way to an upstream, and why there may be no answer.

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

/// An answer's head must come within this, unless the route has a `timeout`: load balancers give
/// up after 60 s.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// How long an answer's head is waited for.
pub fn timeout(route: Option<&Route>) -> Duration {
    route.and_then(|route| route.timeout).map_or(TIMEOUT_DEFAULT, Duration::from_millis)
}

/// A call of gRPC has no time limit but the client's deadline, which the app is told, unless the route
/// has a `timeout`; this one is there so that there is one.
const CALL_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Whether it is a call of gRPC to an app that speaks HTTP/2. What a client merely calls so before
/// another app is a request like any other.
pub fn is_call(upstream: &Upstream, headers: &HeaderMap) -> bool {
    matches!(upstream.protocol, Protocol::Http2) && grpc::is_grpc(headers)
}

/// How long the head of a call's answer is waited for.
pub fn timeout_of_call(route: Option<&Route>) -> Duration {
    route.and_then(|route| route.timeout).map_or(CALL_TIMEOUT, Duration::from_millis)
}

/// A connection that takes longer is worth a stale answer, where one may be served.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// Tells whoever could do without the answer that even the connection is slow.
pub type Slow = Arc<dyn Fn() + Send + Sync>;

pub struct Outgoing {
    pub upstream: Arc<Upstream>,
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    /// Where the headers were read from, so that they go on in the spelling and order they came in.
    pub came: Received,
    /// Further fields as they are sent: each a line with its end.
    pub added: String,
    pub body: Body,
    /// Until the head of the answer is there. The time in which a body is sent does not count, as long
    /// as the upstream goes on taking it.
    pub timeout: Duration,
    /// To whom interim answers go, if anybody waits.
    pub exchange: Option<Exchange>,
    /// Nobody looks at the answer's fields: they may go on as they came, encoded.
    pub may_pass: bool,
    /// Whose limits count; none for what Spillway itself asks, and for jobs, whose number is the
    /// queue's affair.
    pub route_state: Option<Arc<RouteState>>,
    /// Called when connecting takes more than a moment.
    pub slow: Option<Slow>,
    /// Of a write in a live shard map: in flight until its end.
    pub write: Option<WriteInFlight>,
    /// Whether another sidecar gets it that may follow a newer shard map.
    pub may_be_stale: bool,
}

impl Outgoing {
    /// A request without fields and body, which waits for the head of its answer as long as any does.
    pub fn to(upstream: Arc<Upstream>, method: Method, target: String) -> Self {
        Self {
            upstream,
            method,
            target,
            headers: HeaderMap::new(),
            came: Received::default(),
            added: String::new(),
            body: Body::Empty,
            timeout: TIMEOUT_DEFAULT,
            exchange: None,
            may_pass: false,
            route_state: None,
            slow: None,
            write: None,
            may_be_stale: false,
        }
    }

    /// Whether doing it twice does no harm (RFC 9110 section 9.2.2). A request that names another method
    /// in a field may be that one.
    pub fn may_repeat(&self) -> bool {
        self.method.is_idempotent() && !overrides_method(&View::of(&self.headers))
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub problem: Problem,
    pub detail: String,
    /// Nothing reached the upstream, so it is safe to try again elsewhere.
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

/// What comes of connecting; who could do without the answer is told when it takes long.
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

/// What comes of something within the time that the answer may take.
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

/// As one that is sent through a library or answered in this process.
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
    let mut request = Request::new(std::mem::replace(&mut outgoing.body, Body::Empty));
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The client broke its body off, or it is over the route's `max_body`.
pub(super) fn of_body(error: &io::Error) -> Failure {
    let is_too_long =
        error.get_ref().is_some_and(|inner| inner.is::<http_body_util::LengthLimitError>());
    let problem = if is_too_long { Problem::BodyTooLarge } else { Problem::BadRequest };
    let limit = if is_too_long { "max_body: " } else { "" };
    let detail = format!("{limit}the body could not be read: {error}");
    Failure { problem, detail, is_unsent: false }
}
