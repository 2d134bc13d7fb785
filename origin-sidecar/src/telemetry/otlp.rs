//! Exports spans to an OpenTelemetry collector: OTLP over HTTP with JSON, through our own client.
//!
//! Exporting never blocks: a full queue and an unresponsive collector lose spans, which are
//! counted.

use super::spans::{Span, SpanEnd};
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use net::https::{self, HttpsClient};
use prometheus::IntCounterVec;
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Spans in the queue, about 2 MB at 1 KB each.
const QUEUE_MAX: usize = 2_048;
/// Spans of one request, as in the OpenTelemetry SDKs.
const BATCH_MAX: usize = 512;
/// How long a batch waits to become full.
const BATCH_WAIT: Duration = Duration::from_secs(5);
/// How long sending may take. A collector is near, and the queue holds what comes meanwhile.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// The side of an operation that a span describes (the protocol's numbers).
#[derive(Debug, Clone, Copy)]
enum SpanKind {
    Server = 2,
    Consumer = 5,
}

enum ExportCommand {
    Span(Value),
    /// Sends all queued spans, then confirms.
    Flush(oneshot::Sender<()>),
}

/// The exporter's handle.
pub struct Exporter {
    orders: mpsc::Sender<ExportCommand>,
    spans: IntCounterVec,
}

struct SpanSender {
    client: HttpsClient,
    uri: Uri,
    service: String,
    spans: IntCounterVec,
}

impl Exporter {
    /// Creates an exporter from the standard environment variables of OpenTelemetry; `None` when
    /// they name no collector.
    ///
    /// # Errors
    /// The address is invalid.
    pub fn from_environment(spans: &IntCounterVec) -> Result<Option<Self>, String> {
        const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let Ok(endpoint) = std::env::var(ENDPOINT) else { return Ok(None) };
        let service = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "spillway".to_owned());
        let uri: Result<Uri, _> = format!("{}/v1/traces", endpoint.trim_end_matches('/')).parse();
        let uri = uri.ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let uri = uri.ok_or_else(|| format!("{ENDPOINT}={endpoint}: write http://host:4318"))?;
        let (orders, waiting) = mpsc::channel(QUEUE_MAX);
        let sender = SpanSender { client: https::client(), uri, service, spans: spans.clone() };
        tokio::spawn(sender.run(waiting));
        Ok(Some(Self { orders, spans: spans.clone() }))
    }

    pub fn answered(&self, span: &Span, ended: &SpanEnd<'_>) {
        self.enqueue(encoded(span, ended, SpanKind::Server));
    }

    pub fn executed(&self, span: &Span, ended: &SpanEnd<'_>) {
        self.enqueue(encoded(span, ended, SpanKind::Consumer));
    }

    fn enqueue(&self, span: Value) {
        if self.orders.try_send(ExportCommand::Span(span)).is_err() {
            self.spans.with_label_values(&["queue-full"]).inc();
        }
    }

    /// Waits until all earlier spans are sent, or lost.
    pub async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        if self.orders.send(ExportCommand::Flush(done)).await.is_ok() {
            // This fails only when the exporting task is gone, and the spans with it.
            let _ = sent.await;
        }
    }
}

impl SpanSender {
    async fn run(self, mut waiting: mpsc::Receiver<ExportCommand>) {
        // The first span opens a batch; a flush or the end of its time closes it.
        while let Some(first) = waiting.recv().await {
            let mut batch = Vec::new();
            let flushed = self.collect(first, &mut batch, &mut waiting).await;
            self.send(batch).await;
            if let Some(done) = flushed {
                // The caller may have stopped waiting.
                let _ = done.send(());
            }
        }
    }

    async fn collect(
        &self,
        first: ExportCommand,
        batch: &mut Vec<Value>,
        waiting: &mut mpsc::Receiver<ExportCommand>,
    ) -> Option<oneshot::Sender<()>> {
        let until = tokio::time::Instant::now() + BATCH_WAIT;
        let mut order = first;
        loop {
            match order {
                ExportCommand::Flush(done) => return Some(done),
                ExportCommand::Span(span) => batch.push(span),
            }
            if batch.len() >= BATCH_MAX {
                return None;
            }
            order = match tokio::time::timeout_at(until, waiting.recv()).await {
                Ok(Some(next)) => next,
                Ok(None) | Err(_) => return None,
            };
        }
    }

    async fn send(&self, batch: Vec<Value>) {
        let count = batch.len() as u64;
        if count == 0 {
            return;
        }
        let result = match tokio::time::timeout(SEND_TIMEOUT, self.post(batch)).await {
            Ok(Ok(())) => "sent",
            Ok(Err(error)) => {
                let error = error.to_string();
                tracing::warn!(error, spans = count, "the collector did not accept the spans");
                "failed"
            }
            Err(_) => "timeout",
        };
        self.spans.with_label_values(&[result]).inc_by(count);
    }

    async fn post(&self, batch: Vec<Value>) -> Result<(), ExportError> {
        let version = env!("CARGO_PKG_VERSION");
        let body = json!({ "resourceSpans": [{
            "resource": { "attributes": [text("service.name", &self.service)] },
            "scopeSpans": [{ "scope": { "name": "spillway", "version": version }, "spans": batch }],
        }] });
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()).map_err(|never| match never {}).boxed_unsync())
            .map_err(ExportError::NoRequest)?;
        let response = self.client.request(request).await.map_err(ExportError::Unanswered)?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(ExportError::Refused(status)) }
    }
}

/// Why the collector did not take spans.
#[derive(Debug)]
enum ExportError {
    NoRequest(http::Error),
    Unanswered(hyper_util::client::legacy::Error),
    /// It answered with this status.
    Refused(http::StatusCode),
}

impl fmt::Display for ExportError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRequest(error) => error.fmt(out),
            Self::Unanswered(error) => error.fmt(out),
            Self::Refused(status) => write!(out, "it answered {status}"),
        }
    }
}

fn encoded(span: &Span, ended: &SpanEnd<'_>, kind: SpanKind) -> Value {
    let start = u128::from(span.at.0) * 1_000_000;
    let end = start + span.took().as_nanos();
    let mut attributes = vec![
        text("http.request.method", span.method.as_str()),
        text("http.route", ended.route),
        // 64-bit numbers are strings in the protocol's JSON.
        json!({ "key": "http.response.status_code", "value": { "intValue": ended.status.to_string() } }),
    ];
    attributes.extend((ended.cache)().map(|cache| text("spillway.cache", cache)));
    attributes.extend(ended.refusal.map(|(problem, _)| text("spillway.problem", problem.name())));
    let status = if ended.status >= 500 { json!({ "code": 2 }) } else { json!({}) };
    json!({
        "traceId": span.id(),
        "spanId": id(span.place().own.span),
        "parentSpanId": span.place().parent.map_or(String::new(), id),
        "name": format!("{} {}", span.method, ended.route),
        "kind": kind as u8,
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes,
        "status": status,
    })
}

fn id(span: u64) -> String {
    format!("{span:016x}")
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}
