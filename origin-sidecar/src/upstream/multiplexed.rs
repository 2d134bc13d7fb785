//! Sends requests over HTTP/2 connections, which carry many at once.
//!
//! A call that the upstream says it did not process (RFC 9113 section 8.7) is sent again over
//! another connection, whatever its method. Otherwise each connection that is closed in good order,
//! as gRPC servers with a `max_connection_age` do, would fail the calls that were on their way to
//! it.

use super::circuit_breaker::CircuitBreaker;
use super::client::Client;
use super::links::{Link, Links, StreamPermit};
use super::outgoing::{Failure, Outgoing, in_time, late, noticed, request, unreachable};
use super::upload::Upload;
use crate::message::answered::Answered;
use crate::message::body::{Body, BodySource};
use crate::message::grpc::is_grpc;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use rules::Problem;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How often a call that the upstream did not process is sent again. An upstream that refuses more
/// often processes nothing.
const REFUSALS_MAX: u32 = 8;

/// The connections to one upstream, for one call.
pub(super) struct Multiplexed<'a> {
    pub connect_timeout: Duration,
    pub links: &'a Links,
    pub breaker: &'a CircuitBreaker,
}

/// Why an attempt got no answer.
enum AttemptError {
    /// Nothing was sent, or the upstream says that it has processed nothing.
    Unprocessed(Failure),
    Broken(Failure),
}

/// Sends a call and waits for the head of its answer.
///
/// # Errors
/// The upstream can't be reached, or does not answer in time or correctly.
pub(super) async fn send(
    client: &Client,
    way: &Multiplexed<'_>,
    outgoing: &mut Outgoing,
) -> Result<Response<Body>, Failure> {
    let began = Instant::now();
    let mut request = request(outgoing)?;
    as_http2(&mut request);
    let is_grpc = is_grpc(request.headers());
    let (parts, body) = request.into_parts();
    let mut upload = Upload::new(body);
    let mut refused: Vec<Arc<Link>> = Vec::new();
    for _ in 0..=REFUSALS_MAX {
        let to = (&*outgoing.upstream, way.breaker);
        let place = way.links.place(way.connect_timeout, to, &refused);
        let place = in_time(outgoing, began, noticed(outgoing, place)).await?;
        let place = Arc::new(place.map_err(|error| unreachable(&outgoing.upstream, &error))?);
        let request = Request::from_parts(parts.clone(), upload.body(&place));
        match attempt(outgoing, &upload, &place, request).await {
            Ok(answer) => {
                upload.answered();
                let answered = |body| Answered::new(body, is_grpc, place);
                return Ok(
                    answer.map(|body| BodySource::Multiplexed(Box::new(answered(body))).into())
                );
            }
            Err(AttemptError::Broken(failure)) => return Err(failure),
            Err(AttemptError::Unprocessed(failure)) if !upload.rewind() => return Err(failure),
            Err(AttemptError::Unprocessed(_)) => refused.push(Arc::clone(place.link())),
        }
        client.metrics.http.retries.with_label_values(&[&*outgoing.upstream.name]).inc();
    }
    Err(Failure {
        problem: Problem::UpstreamUnreachable,
        detail: format!("{} refused the call {REFUSALS_MAX} times", outgoing.upstream.authority),
        is_unsent: true,
    })
}

async fn attempt(
    outgoing: &Outgoing,
    upload: &Upload,
    place: &StreamPermit,
    request: Request<Body>,
) -> Result<Response<Incoming>, AttemptError> {
    let mut sender = place.sender();
    let mut answer = pin!(sender.try_send_request(request));
    loop {
        let end = upload.end(outgoing.timeout);
        if let Ok(answer) = timeout_at(end, answer.as_mut()).await {
            return answer.map_err(|error| lost(upload, error));
        }
        // The upstream may have taken more of the body meanwhile, which extends the time.
        if upload.end(outgoing.timeout) <= Instant::now() {
            return Err(AttemptError::Broken(late(outgoing)));
        }
    }
}

fn lost(upload: &Upload, mut error: TrySendError<Request<Body>>) -> AttemptError {
    if let Some(failure) = upload.broken() {
        return AttemptError::Broken(failure);
    }
    let is_unsent = error.take_message().is_some();
    let error = error.into_error();
    let is_unprocessed = is_unsent || is_unprocessed(&error);
    let failure = Failure {
        problem: Problem::UpstreamUnreachable,
        detail: net::https::chain(&error),
        is_unsent: is_unprocessed,
    };
    if is_unprocessed { AttemptError::Unprocessed(failure) } else { AttemptError::Broken(failure) }
}

/// Whether the upstream did not process the call: its stream comes after the last one in GOAWAY, or
/// was refused (RFC 9113 section 8.7). Streams that GOAWAY leaves alive and that end with the
/// connection have another error.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let is_refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (error.is_go_away() || is_refused);
        }
        cause = error.source();
    }
    false
}

/// Converts a request to HTTP/2: the host becomes the authority, and a gRPC call must say `te:
/// trailers`, which is hop-by-hop in HTTP/1.1.
fn as_http2(request: &mut Request<Body>) {
    if is_grpc(request.headers()) {
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let host = request.headers_mut().remove(header::HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(authority) = authority {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.authority = Some(authority);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}
