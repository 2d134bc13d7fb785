//! Sends a request to an upstream and receives its answer.

use super::circuit_breaker::CircuitBreaker;
use super::client::Client;
use super::limits::RouteLimit;
use super::network::{Network, UpstreamConnections, Upstreams};
use super::outgoing::{Failure, Outgoing, in_time, late, noticed, of_body, request, unreachable};
use super::{hop, multiplexed};
use crate::message::body::{Body, BodySource, Collected, Passed, collect};
use crate::message::fields::{AsReceived, Map};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use http1::block::Block;
use http1::client::{self, Answer, Connection};
use http1::lines;
use http1::pool::{For, Pool};
use rules::Problem;
use rules::hygiene;
use std::io;
use std::sync::Arc;
use tokio::time::Instant;

/// The body of a PUT or DELETE up to this size is buffered, so that the request can be repeated.
/// Most are smaller; a larger one that meets a closing connection is answered with 502.
const REPEATABLE_BYTES_MAX: u64 = 64 * 1024;
/// Further connections that are tried for a request of which nothing was sent, because each
/// connection had just been closed.
const UNSENT_TRIES_MAX: u32 = 2;
type Unanswered = client::Unanswered<Body>;

/// Sends the request, if the limits of its route and upstream allow it. `headers` must not contain
/// hop-by-hop fields.
///
/// # Errors
/// `overloaded` and `route-busy`; the upstream can't be reached, is too slow, or its answer is not
/// HTTP.
pub async fn send(client: &Client, outgoing: &mut Outgoing) -> Result<Response<Body>, Failure> {
    let mut write = outgoing.write.take();
    if let Some(write) = &mut write {
        write.sent();
    }
    let sent = limited(client, outgoing).await;
    if let (Err(Failure { is_unsent: true, .. }), Some(write)) = (&sent, &mut write) {
        write.settled();
    }
    Ok(sent?.map(|body| body.writing(write)))
}

async fn limited(client: &Client, outgoing: &mut Outgoing) -> Result<Response<Body>, Failure> {
    let Some(route_state) = outgoing.route_state.take() else {
        return unlimited(client, outgoing).await;
    };
    let refused =
        |problem: Problem| Failure { problem, detail: problem.title().to_owned(), is_unsent: true };
    let place = route_state.places.as_ref().map(RouteLimit::take).transpose().map_err(refused)?;
    let waiting =
        client.limits.enter(route_state.limit, outgoing.upstream.slot).map_err(refused)?;
    let sent = unlimited(client, outgoing).await;
    let has_answered = match &sent {
        Ok(_) => true,
        // A refused or broken connection says nothing about how long a request takes.
        Err(failure) => failure.problem == Problem::UpstreamTimeout,
    };
    if let Some(waiting) = waiting.filter(|_| has_answered) {
        waiting.answered(&outgoing.upstream.name, &route_state.name);
    }
    Ok(sent?.map(|body| body.placed(place)))
}

async fn unlimited(client: &Client, outgoing: &mut Outgoing) -> Result<Response<Body>, Failure> {
    let may_switch = lines::has(&outgoing.headers, &header::UPGRADE);
    hop::pass_on(&outgoing.upstream, &mut outgoing.added);
    // The `Expect` of the client is answered when its body is first read.
    lines::take(&mut outgoing.headers, &header::EXPECT);
    let failure = match call(client, outgoing).await {
        // A client would take the bytes after an unwanted 101 for an answer.
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS && !may_switch => {
            Failure {
                problem: Problem::UpstreamInvalid,
                detail: "it changed protocols without being asked to".to_owned(),
                is_unsent: false,
            }
        }
        Ok(response) if outgoing.may_be_stale && hop::is_stale(&response) => {
            let detail = format!("{} follows a newer shard map", outgoing.upstream.name);
            return Err(Failure { problem: Problem::StaleEpoch, detail, is_unsent: true });
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
        UpstreamConnections::Http1 { pool, breaker } => {
            breaker.sent();
            one_at_a_time(client, outgoing, &Http1 { network, pool, breaker }).await
        }
        // Boxed, because HTTP/2 is seldom used: the future of every request is as large as its
        // largest branch.
        UpstreamConnections::Http2 { links, breaker } => {
            let way = multiplexed::Multiplexed {
                connect_timeout: network.connect_timeout(),
                links,
                breaker,
            };
            Box::pin(multiplexed::send(client, &way, outgoing)).await
        }
    }
}

/// Connections that carry one request at a time.
struct Http1<'a> {
    network: &'a Network,
    pool: &'a Arc<Pool>,
    breaker: &'a CircuitBreaker,
}

async fn one_at_a_time(
    client: &Client,
    outgoing: &mut Outgoing,
    way: &Http1<'_>,
) -> Result<Response<Body>, Failure> {
    let may_repeat = outgoing.may_repeat();
    if may_repeat {
        let body = outgoing.body.take();
        outgoing.body = repeatable(body).await.map_err(|error| of_body(&error))?;
    }
    let began = Instant::now();
    let spare = outgoing.body.again().filter(|_| may_repeat);
    let purpose = if spare.is_some() { For::Repeatable } else { For::Once };
    // The upstream may close an idle connection at any moment, even while the request is being
    // sent.
    if let Some(connection) = way.pool.take(began, purpose) {
        let sent = once(connection, outgoing, way.pool, began).await;
        match (unless_unsent(sent, outgoing, way, began).await?, spare) {
            (Err(unanswered), Some(spare)) if unanswered.is_silent && way.breaker.may_retry() => {
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

/// Sends a request, and repeats it over another connection where no byte of it was sent, whatever
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

/// Opens a new connection, within the time that the answer may take.
async fn connected(
    outgoing: &Outgoing,
    way: &Http1<'_>,
    began: Instant,
) -> Result<Connection, Failure> {
    // Boxed, because it is seldom needed: the future of every request is as large as its largest
    // branch.
    let connecting = Box::pin(way.network.connect(&outgoing.upstream, way.breaker));
    let connection = in_time(outgoing, began, noticed(outgoing, connecting)).await?;
    connection.map_err(|error| unreachable(&outgoing.upstream, &error))
}

/// Reads a small body into memory, so that the request can be repeated.
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
        body: outgoing.body.take(),
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
    Ok(answer.into_response()?.map(|body| BodySource::Upstream(Box::new(body)).into()))
}

/// The answer as received, without its hop-by-hop fields.
fn passed(answer: Answer<Body>) -> Response<Body> {
    let Answer { status, reason, fields: received, lengths, body } = answer;
    let named = hygiene::named_by_connection(&AsReceived(&received));
    let is_dropped = |name: &[u8]| hygiene::is_of_connection(name, &named);
    let fields = Block::passed(status, &received, lengths, is_dropped).with_reason(reason);
    let mut response =
        Response::new(BodySource::Passed(Box::new(Passed::new(fields, body))).into());
    *response.status_mut() = status;
    response
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
