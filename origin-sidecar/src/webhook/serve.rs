//! The webhook's port: HTTPS, one path, one kind of question.

use super::events::Events;
use super::review::{self, Verdict};
use crate::body::Body;
use crate::clock::{Clock, System};
use crate::metrics::Injections;
use crate::reply;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use inject::Options;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A review carries one object, of 3 MiB at most in an API server, and may be indented.
const REVIEW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A webhook's own time-out is 30 s at most; whoever is slower here is no API server.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a review is answered with.
pub struct Reviewer {
    pub options: Options,
    pub metrics: Injections,
    pub events: Events,
}

/// Until the process ends.
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
    let service = service_fn(move |request| {
        let reviewer = Arc::clone(&reviewer);
        async move { Ok::<_, Infallible>(reviewer.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection ended");
    }
}

impl Reviewer {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() != "/inject" {
            return reply::text(404, "POST an AdmissionReview to /inject\n");
        }
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
        match review::answer(&body, &self.options) {
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
        tracing::warn!(why, "a review that is none");
        reply::text(status, format!("{why}\n"))
    }

    fn tell(&self, body: &[u8], verdict: &Verdict) {
        tracing::debug!(result = verdict.result, reason = verdict.reason, "reviewed");
        if !verdict.message.is_empty()
            && let Ok(review) = serde_json::from_slice::<Value>(body)
        {
            let now = UNIX_EPOCH + Duration::from_millis(System.now());
            self.events.tell(&review["request"], verdict, &rfc3339(now));
        }
    }
}

/// `2026-11-24T13:28:17Z`
fn rfc3339(at: std::time::SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    let (date, clock) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (clock.hour(), clock.minute(), clock.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
