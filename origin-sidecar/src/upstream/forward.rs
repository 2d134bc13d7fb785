//! Sending a request on to an upstream and taking its answer.

use super::client::Client;
use super::health::Health;
use super::lane::Lane;
use super::limits::Places;
use super::network::{Network, Upstreams, Way};
use super::server::{Protocol, Upstream};
use super::{hop, multiplexed};
use crate::message::body::{Body, Collected, Passed, collect};
use crate::message::fields::{AsReceived, Map, View};
use crate::message::grpc;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body::Body as _;
use http1::block::Block;
use http1::client::{self, Answer, Connection};
use http1::lines;
use http1::pool::{For, Pool};
use http1::received::Received;
use http1::server::Exchange;
use rules::Problem;
use rules::document::Route;
use rules::hygiene;
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

/// Bytes of the body of a PUT or DELETE that is read before it is sent: most are smaller. A larger one
/// that meets a closing connection is answered 502.
const REPEATABLE_BYTES_MAX: u64 = 64 * 1024;
/// Further connections for a request of which nothing was sent, because each that it was given had just
/// ended.
const UNSENT_TRIES_MAX: u32 = 2;
/// A connection that takes longer is worth a stale answer, where one may be served.
const STALE_AFTER: Duration = Duration::from_secs(1);

type Unanswered = client::Unanswered<Body>;

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
    pub lane: Option<Arc<Lane>>,
    /// Called when connecting takes more than a moment.
    pub slow: Option<Slow>,
}

impl Outgoing {
    /// Whether doing it twice does no harm (RFC 9110 section 9.2.2). A request that names another method
    /// in a field may be that one.
    pub fn may_repeat(&self) -> bool {
        self.method.is_idempotent() && !hygiene::overrides_method(&View::of(&self.headers))
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

/// Sends the request as it is, if the limits of its route and upstream let it; `headers` must be
/// clean of hop-by-hop fields.
///
/// # Errors
/// `overloaded` and `route-busy`; when the upstream can't be reached, is too slow, or its answer is
/// not HTTP.
pub async fn send(client: &Client, outgoing: &mut Outgoing) -> Result<Response<Body>, Failure> {
    let Some(lane) = outgoing.lane.take() else { return unlimited(client, outgoing).await };
    let refused =
        |problem: Problem| Failure { problem, detail: problem.title().to_owned(), is_unsent: true };
    let place = lane.places.as_ref().map(Places::take).transpose().map_err(refused)?;
    let waiting = client.limits.enter(lane.limit, &outgoing.upstream.name).map_err(refused)?;
    let sent = unlimited(client, outgoing).await;
    let has_answered = match &sent {
        Ok(_) => true,
        // Not one that was refused or broken off: that says nothing of how long it takes.
        Err(failure) => failure.problem == Problem::UpstreamTimeout,
    };
    if let Some(waiting) = waiting.filter(|_| has_answered) {
        waiting.answered(&outgoing.upstream.name, &lane.name);
    }
    Ok(sent?.map(|body| body.placed(place)))
}

async fn unlimited(client: &Client, outgoing: &mut Outgoing) -> Result<Response<Body>, Failure> {
    let may_switch = lines::has(&outgoing.headers, &header::UPGRADE);
    hop::pass_on(&outgoing.upstream, &mut outgoing.added);
    // The client's `Expect` is answered when its body is first read.
    lines::take(&mut outgoing.headers, &header::EXPECT);
    let failure = match call(client, outgoing).await {
        // What follows is no answer, and the client would take it for one.
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS && !may_switch => {
            Failure {
                problem: Problem::UpstreamInvalid,
                detail: "it changed protocols without being asked to".to_owned(),
                is_unsent: false,
            }
        }
        Ok(mut response) => {
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                hygiene::remove_hop_by_hop(&mut Map(response.headers_mut()));
            }
            return Ok(response);
        }
        Err(failure) => failure,
    };
    if matches!(failure.problem, Problem::BodyTooLarge | Problem::BadRequest) {
        return Err(failure);
    }
    let (metrics, name) = (&client.metrics, &*outgoing.upstream.name);
    metrics.http.upstream_errors.with_label_values(&[name, failure.problem.name()]).inc();
    Err(failure)
}

async fn call(client: &Client, outgoing: &mut Outgoing) -> Result<Response<Body>, Failure> {
    let network = match &client.upstreams {
        Upstreams::Network(network) => network,
        Upstreams::Local(answer) => {
            let answered = answer(request(outgoing)?);
            return in_time(outgoing, Instant::now(), answered).await?;
        }
    };
    if !lines::has(&outgoing.headers, &header::HOST)
        && let Ok(host) = HeaderValue::from_str(outgoing.upstream.authority.as_str())
    {
        outgoing.headers.insert(header::HOST, host);
    }
    match network.way(&outgoing.upstream)? {
        Way::Http1 { pool, health } => {
            health.sent();
            one_at_a_time(client, outgoing, &Http1 { network, pool, health }).await
        }
        // In a box, as all that is seldom: what every request holds is as large as the largest way.
        Way::Http2 { links, health } => {
            let way = multiplexed::Way { network, links, health };
            Box::pin(multiplexed::send(client, &way, outgoing)).await
        }
    }
}

/// Connections that carry one request each at a time.
struct Http1<'a> {
    network: &'a Network,
    pool: &'a Arc<Pool>,
    health: &'a Health,
}

async fn one_at_a_time(
    client: &Client,
    outgoing: &mut Outgoing,
    way: &Http1<'_>,
) -> Result<Response<Body>, Failure> {
    let may_repeat = outgoing.may_repeat();
    if may_repeat {
        let body = std::mem::replace(&mut outgoing.body, Body::Empty);
        outgoing.body = repeatable(body).await.map_err(|error| of_body(&error))?;
    }
    let began = Instant::now();
    let spare = outgoing.body.again().filter(|_| may_repeat);
    let purpose = if spare.is_some() { For::Repeatable } else { For::Once };
    // One that was idle may be closed by the upstream at any moment, also as the request is sent.
    if let Some(connection) = way.pool.take(began, purpose) {
        let sent = once(connection, outgoing, way.pool, began).await;
        match (unless_unsent(sent, outgoing, way, began).await?, spare) {
            (Err(unanswered), Some(spare)) if unanswered.is_silent && way.health.may_retry() => {
                let name = &*outgoing.upstream.name;
                client.metrics.http.retries.with_label_values(&[name]).inc();
                outgoing.body = spare;
            }
            (answered, _) => return answered.map_err(|it| explain(outgoing, &it)),
        }
    }
    let connection = connected(outgoing, way, began).await?;
    let sent = once(connection, outgoing, way.pool, began).await;
    let sent = unless_unsent(sent, outgoing, way, began).await?;
    sent.map_err(|it| explain(outgoing, &it))
}

/// The same, but for a request of which no byte was sent: it is sent over another connection, whatever
/// its method.
async fn unless_unsent(
    mut sent: Result<Response<Body>, Unanswered>,
    outgoing: &Outgoing,
    way: &Http1<'_>,
    began: Instant,
) -> Result<Result<Response<Body>, Unanswered>, Failure> {
    for _ in 0..UNSENT_TRIES_MAX {
        let unsent = match sent {
            Err(client::Unanswered { unsent: Some(unsent), .. }) => unsent,
            sent => return Ok(sent),
        };
        let connection = connected(outgoing, way, began).await?;
        let exchange = outgoing.exchange.as_ref();
        sent = match client::send_unsent(unsent, connection, exchange, way.pool).await {
            Ok(answer) => response(outgoing, answer),
            Err(unanswered) => Err(unanswered),
        };
    }
    Ok(sent)
}

/// A new connection, within the time that the answer may take.
async fn connected(
    outgoing: &Outgoing,
    way: &Http1<'_>,
    began: Instant,
) -> Result<Connection, Failure> {
    // In a box: seldom needed, and every request is as large as the largest way.
    let connecting = Box::pin(way.network.connect(&outgoing.upstream, way.health));
    let connection = in_time(outgoing, began, noticed(outgoing, connecting)).await?;
    connection.map_err(|error| unreachable(&outgoing.upstream, &error))
}

/// The same; who could do without it is told when it takes long.
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

/// The same body in memory where it is small, so that it can be sent again.
async fn repeatable(body: Body) -> io::Result<Body> {
    if body.again().is_some() || body.size_hint().exact().is_none_or(|it| it > REPEATABLE_BYTES_MAX)
    {
        return Ok(body);
    }
    Ok(match collect(body, REPEATABLE_BYTES_MAX as usize).await? {
        Collected::Whole(bytes) => Body::full(bytes),
        Collected::TooLarge(body) => body,
    })
}

async fn once(
    connection: Connection,
    outgoing: &mut Outgoing,
    home: &Arc<Pool>,
    began: Instant,
) -> Result<Response<Body>, Unanswered> {
    let request = client::Outgoing {
        method: &outgoing.method,
        target: &outgoing.target,
        headers: &outgoing.headers,
        came: &outgoing.came,
        added: &outgoing.added,
        body: std::mem::replace(&mut outgoing.body, Body::Empty),
        timeout: outgoing.timeout,
        began,
    };
    let answer = client::send(connection, request, outgoing.exchange.as_ref(), home).await?;
    response(outgoing, answer)
}

fn response(outgoing: &Outgoing, answer: Answer<Body>) -> Result<Response<Body>, Unanswered> {
    if outgoing.may_pass && answer.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(passed(answer));
    }
    Ok(answer.into_response()?.map(|body| Body::Upstream(Box::new(body))))
}

/// The answer as it came, but for the fields of its connection.
fn passed(answer: Answer<Body>) -> Response<Body> {
    let Answer { status, reason, fields: received, lengths, body } = answer;
    let named = hygiene::named_by_connection(&AsReceived(&received));
    let is_dropped = |name: &[u8]| hygiene::is_of_connection(name, &named);
    let fields = Block::passed(status, &received, lengths, is_dropped).with_reason(reason);
    let mut response = Response::new(Body::Passed(Box::new(Passed::new(fields, body))));
    *response.status_mut() = status;
    response
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

fn explain(outgoing: &Outgoing, unanswered: &Unanswered) -> Failure {
    let problem = match &unanswered.error {
        http1::Error::Body(error) => return of_body(error),
        http1::Error::BodyLength => Problem::BadRequest,
        http1::Error::Refused(_) => Problem::UpstreamInvalid,
        http1::Error::TooSlow => return late(outgoing),
        http1::Error::Closed | http1::Error::Io(_) => Problem::UpstreamUnreachable,
    };
    let is_unsent = unanswered.unsent.is_some();
    Failure { problem, detail: unanswered.error.to_string(), is_unsent }
}

/// The client broke its body off, or it is over the route's `max_body`.
pub(super) fn of_body(error: &io::Error) -> Failure {
    let is_too_long =
        error.get_ref().is_some_and(|inner| inner.is::<http_body_util::LengthLimitError>());
    let problem = if is_too_long { Problem::BodyTooLarge } else { Problem::BadRequest };
    Failure { problem, detail: format!("the body could not be read: {error}"), is_unsent: false }
}
