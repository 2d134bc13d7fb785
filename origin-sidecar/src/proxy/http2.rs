//! HTTP/2 from clients: with prior knowledge (h2c), or negotiated in TLS.

use super::context::ProxyContext;
use super::front::Front;
use super::handle::{IdleTimeout, handle};
use crate::drain::DrainState;
use crate::message::body::{Body, BodySource};
use crate::message::readers::Readers;
use crate::telemetry::in_flight::{Carried, Carrier};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http1::head::RequestHead;
use http1::pace::IDLE_TIMEOUT;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};

/// Concurrent requests of one connection; browsers and gRPC clients want 100 (RFC 9113 section
/// 6.5.2).
const STREAMS_MAX: u32 = 128;
/// Bytes of one request's body that are received before somebody reads them: with [`STREAMS_MAX`]
/// they bound the memory of a connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A connection that is silent for this long is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that may be reset before they were answered (CVE-2023-44487, rapid reset).
const RESET_STREAMS_MAX: usize = 32;

/// Serves one connection until either side closes it, or until the process leaves and all its
/// requests are answered. Clients are told at once that it leaves (GOAWAY), and keep their open
/// streams.
///
/// # Errors
/// Why the connection ended.
pub async fn serve<S>(stream: S, front: Arc<Front>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let goodbye = Goodbye::of(&front.worker.context);
    let first = Arc::clone(&goodbye.first);
    let carrier = Arc::new(Carrier::new(&front.worker.context.metrics));
    let (peer, slow) = (front.peer.address, front.slow_peer());
    let head_bytes = front.head.bytes;
    let readers = Arc::new(Readers::default());
    let begun = Arc::clone(&readers);
    let service = service_fn(move |request| {
        let (front, readers) = (Arc::clone(&front), Arc::clone(&begun));
        let carrier = Arc::clone(&carrier);
        first.notify_one();
        async move {
            let answer = answer(&front, request).await;
            let idle = answer.extensions().get::<IdleTimeout>().map_or(IDLE_TIMEOUT, |own| own.0);
            let carried = |body: Body| body.carried(|| Carried::new(&carrier));
            Ok::<_, Infallible>(answer.map(|body| carried(body).read_by(readers.begin(idle))))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::from(head_bytes))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = async {
        tokio::select! {
            served = connection.as_mut() => served,
            () = goodbye.due() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    tokio::select! {
        served = served => served,
        () = readers.too_slow(&slow) => {
            tracing::debug!(%peer, "closed: the client does not read its answers");
            Ok(())
        }
    }
}

/// When a connection is told to send further requests to another pod.
struct Goodbye {
    leaving: watch::Receiver<bool>,
    draining: watch::Receiver<bool>,
    /// Notified by the first request.
    first: Arc<Notify>,
}

impl Goodbye {
    fn of(context: &ProxyContext) -> Self {
        Self {
            leaving: context.drain.leaving(),
            draining: context.drain.draining(),
            first: Arc::default(),
        }
    }

    /// Resolves when the process leaves. A client that connects only then knows of no other pod
    /// yet: it is told after its first request, or it would reconnect again and again.
    async fn due(mut self) {
        if !*self.leaving.borrow() {
            return DrainState::begun(&mut self.leaving).await;
        }
        tokio::select! {
            () = self.first.notified() => {}
            () = DrainState::begun(&mut self.draining) => {}
        }
    }
}

async fn answer(front: &Front, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Parts { method, uri, version, headers, .. } = parts;
    let mut head = RequestHead::new(method, uri, version, headers);
    as_http1(&mut head.headers, head.target.authority.as_deref());
    handle(
        &front.worker,
        &mut head,
        Body::from(BodySource::Incoming(body)).paced(front.slow_peer()),
        &front.peer,
        None,
    )
    .await
}

/// Converts the fields to HTTP/1.1, which the rules and most applications know.
fn as_http1(headers: &mut HeaderMap, authority: Option<&str>) {
    if let Some(authority) = authority
        && !headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(authority)
    {
        headers.insert(header::HOST, host);
    }
    // Cookies may arrive in separate lines (RFC 9113 section 8.2.3), and must be one field in
    // HTTP/1.1.
    if headers.get_all(header::COOKIE).iter().count() > 1 {
        let all: Vec<&[u8]> =
            headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(header::COOKIE, joined);
        }
    }
}
