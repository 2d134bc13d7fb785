//! Sending a request over HTTP/2, on the connection that all requests of a thread share.

use super::forward::{Failure, Outgoing, in_time, late, noticed, of_body, request, unreachable};
use super::health::Health;
use super::upstreams::{Network, Shared};
use crate::body::Body;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use rules::Problem;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// # Errors
/// When the upstream can't be reached, or does not answer in time or as it should.
pub(super) async fn send(
    network: &Network,
    way: (&Shared, &Health),
    outgoing: &mut Outgoing,
) -> Result<Response<Body>, Failure> {
    let began = Instant::now();
    let mut request = request(outgoing)?;
    let upstream = &outgoing.upstream;
    let sender = async {
        let mut sender = network.sender(upstream, way).await?;
        // It may be about to end: then another is made, as nothing was sent yet.
        if sender.ready().await.is_err() {
            sender = network.sender(upstream, way).await?;
        }
        Ok(sender)
    };
    let sender = in_time(outgoing, began, noticed(outgoing, sender)).await?;
    let mut sender = sender.map_err(|error: io::Error| unreachable(upstream, &error))?;
    as_http2(&mut request);
    let (request, note) = noted(request);
    let mut answer = pin!(sender.send_request(request));
    let answer = loop {
        let end = note.end(outgoing.timeout);
        if let Ok(answer) = timeout_at(end, answer.as_mut()).await {
            break answer;
        }
        // Meanwhile it may have taken more of the body.
        if note.end(outgoing.timeout) <= Instant::now() {
            return Err(late(outgoing));
        }
    };
    let answer = answer.map_err(|error| {
        note.lock().broken.take().unwrap_or_else(|| Failure {
            problem: Problem::UpstreamUnreachable,
            detail: crate::https::chain(&error),
            is_unsent: false,
        })
    });
    Ok(answer?.map(Body::Incoming))
}

/// What is known of a body on its way.
#[derive(Clone)]
struct Note(Arc<Mutex<State>>);

struct State {
    /// Why it broke off: hyper only says that the stream was reset.
    broken: Option<Failure>,
    /// When the upstream took the last of it.
    since: Instant,
    /// It is the sender of the body that is waited for.
    is_awaited: bool,
}

impl Note {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when the upstream is waited for, as far as can be told now.
    fn end(&self, timeout: Duration) -> Instant {
        let state = self.lock();
        let since = if state.is_awaited { Instant::now() } else { state.since };
        since + timeout
    }
}

/// The same request, with a note of its body.
fn noted(request: Request<Body>) -> (Request<Body>, Note) {
    let state = State { broken: None, since: Instant::now(), is_awaited: false };
    let note = Note(Arc::new(Mutex::new(state)));
    if request.body().again().is_some() {
        return (request, note);
    }
    let own = note.clone();
    (request.map(|body| Body::boxed(Upload { body, note: own }.boxed_unsync())), note)
}

struct Upload {
    body: Body,
    note: Note,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let mut state = self.note.lock();
        state.is_awaited = frame.is_pending();
        if let Poll::Ready(frame) = &frame {
            state.since = Instant::now();
            if let Some(Err(error)) = frame {
                state.broken = Some(of_body(error));
            }
        }
        drop(state);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What HTTP/2 says in other ways: the host is the authority, and a client of gRPC must say that
/// it takes trailers, which is a field of one connection elsewhere.
fn as_http2(request: &mut Request<Body>) {
    let headers = request.headers_mut();
    let is_grpc = headers.get(header::CONTENT_TYPE);
    if is_grpc.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let host = headers.remove(header::HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(authority) = authority {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.authority = Some(authority);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}
