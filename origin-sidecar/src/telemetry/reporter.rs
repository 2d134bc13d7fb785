//! Decides which requests and jobs are logged and traced.

use super::spans::{Span, SpanEnd, is_drawn};
use http::{HeaderMap, Method};
use rules::UnixMillis;

/// Reports requests and executions.
#[derive(Default)]
pub struct Telemetry {
    /// The fraction of successful requests that get a log line.
    log_share: f64,
    /// The fraction of the traces begun here that are sampled.
    trace_share: f64,
    #[cfg(feature = "otlp")]
    exporter: Option<super::otlp::Exporter>,
}

impl Telemetry {
    /// A reporter with these fractions, 0 to 1, of logged successful requests and of sampled
    /// traces.
    pub fn new(log_share: f64, trace_share: f64) -> Self {
        Self {
            log_share,
            trace_share,
            #[cfg(feature = "otlp")]
            exporter: None,
        }
    }

    /// Exports to a collector from now on.
    #[cfg(feature = "otlp")]
    pub fn export(&mut self, exporter: super::otlp::Exporter) {
        self.exporter = Some(exporter);
    }

    /// Sends the remaining spans before the process ends.
    pub async fn flush(&self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = &self.exporter {
            exporter.flush().await;
        }
    }

    /// Continues the trace that the fields name, or begins one.
    pub fn enter(&self, headers: &HeaderMap, method: &Method, now: UnixMillis) -> Span {
        Span::enter(headers, method, now, self.trace_share)
    }

    /// Logs the request where a line is due, and exports its span. The target is not reported:
    /// paths and queries may contain secrets.
    pub fn answered(&self, span: &Span, ended: &SpanEnd<'_>) {
        let is_wrong = ended.status >= 500 || ended.refusal.is_some();
        if is_wrong || is_drawn(self.log_share) {
            line(span, ended);
        }
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter.as_ref().filter(|_| span.is_sampled()) {
            exporter.answered(span, ended);
        }
    }

    /// Exports the span of a job's execution, whose log line is written at the job's end.
    pub fn executed(&self, span: &Span, ended: &SpanEnd<'_>) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter.as_ref().filter(|_| span.is_sampled()) {
            exporter.executed(span, ended);
        }
        #[cfg(not(feature = "otlp"))]
        let _ = (span, ended);
    }
}

pub(super) fn line(span: &Span, ended: &SpanEnd<'_>) {
    let (route, status, cache) = (ended.route, ended.status, (ended.cache)());
    let problem = ended.refusal.map(|(problem, _)| problem.name());
    let detail = ended.refusal.map(|(_, detail)| detail);
    let (method, trace) = (span.method.as_str(), span.id());
    let ms = span.took().as_secs_f64() * 1000.0;
    if status >= 500 {
        tracing::warn!(method, route, status, cache, problem, detail, ms, trace, "response");
    } else {
        tracing::info!(method, route, status, cache, problem, detail, ms, trace, "response");
    }
}
