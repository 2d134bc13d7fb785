//! The webhook's port: HTTPS with one path for reviews.

use super::events::{self, EventSender};
use super::review::{self, ReviewResult};
use crate::message::body::Body;
use crate::message::reply;
use crate::telemetry::metrics::Injections;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use inject::Options;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

/// The largest review in bytes. It contains one object, of 3 MiB at most in an API server, and may
/// be indented.
const REVIEW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a handshake may take. A webhook's own timeout is 30 s at most; an API server is faster.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a head may take, on idle connections too: API servers close theirs after 90 s, and must
/// be the first to do so.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(120);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The options with which reviews are answered.
pub struct Reviewer {
    pub options: Options,
    /// The options for namespaces whose pods have to opt in.
    pub opt_in: Options,
    pub metrics: Injections,
    pub events: EventSender,
    pub drain: WebhookDrain,
}

/// How connections end. API servers keep them, use them at any moment, and do not repeat a review:
/// a connection that is closed during a review costs a pod its sidecar.
#[derive(Clone)]
pub struct WebhookDrain {
    /// Becomes true once; each answer closes its connection from then on.
    pub begun: watch::Receiver<bool>,
    /// How long an idle connection is kept after that.
    pub idle: Duration,
}

impl WebhookDrain {
    /// Resolves when a connection that was opened now, and has been idle since the drain began, is
    /// to be closed.
    async fn idle_is_over(&self) {
        let came = Instant::now();
        // The sender lives as long as the process, so this can't fail.
        let _ = self.begun.clone().wait_for(|begun| *begun).await;
        sleep_until(came.max(Instant::now()) + self.idle).await;
    }
}

/// Serves until the process ends.
pub async fn run(listener: TcpListener, acceptor: TlsAcceptor, reviewer: Arc<Reviewer>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&reviewer)));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, reviewer: Arc<Reviewer>) {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "no TLS"),
        Err(_) => return,
    };
    let drain = reviewer.drain.clone();
    let service = service_fn(move |request| {
        let reviewer = Arc::clone(&reviewer);
        async move {
            let mut answer = reviewer.answer(request).await;
            if *reviewer.drain.begun.borrow() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.idle_is_over() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

impl Reviewer {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let options = match request.uri().path() {
            "/inject" | "/services" => &self.options,
            "/inject/opt-in" => &self.opt_in,
            _ => return reply::text(404, "POST an AdmissionReview to /inject\n"),
        };
        if request.method() != Method::POST {
            return reply::text(405, "POST only\n");
        }
        let body = Limited::new(request.into_body(), REVIEW_BYTES_MAX).collect();
        let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return self.malformed(413, &format!("more than {REVIEW_BYTES_MAX} bytes"));
            }
            Ok(Err(error)) => return self.malformed(400, &error.to_string()),
            Err(_) => return self.malformed(408, "the review did not come to its end"),
        };
        let started = Instant::now();
        match review::answer(&body, options) {
            Ok((answer, verdict)) => {
                self.metrics.reviewed(verdict.result, verdict.reason, started.elapsed());
                self.tell(&body, &verdict);
                reply::json(200, &answer)
            }
            Err(error) => self.malformed(400, &error),
        }
    }

    fn malformed(&self, status: u16, why: &str) -> Response<Body> {
        self.metrics.reviewed("malformed", "", Duration::ZERO);
        tracing::warn!(why, "not a valid AdmissionReview");
        reply::text(status, format!("{why}\n"))
    }

    fn tell(&self, body: &[u8], verdict: &ReviewResult) {
        tracing::debug!(result = verdict.result, reason = verdict.reason, "reviewed");
        if !verdict.message.is_empty()
            && let Ok(review) = serde_json::from_slice::<Value>(body)
        {
            self.events.tell(&review["request"], verdict, &events::now());
        }
    }
}
