//! Every metric of the program. Labels are route names and named reasons, never paths or keys.

use super::registered::{LATENCY_BUCKETS, counters, gauge, gauges, histograms, opts};
use super::shards::Shards;
use super::streams::{Stream, Streams};
use memory_cache::store::Store;
use prometheus::{
    Encoder, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};
use rules::offload::Reason;
use std::time::Duration;

/// Buckets in seconds; jobs run and wait longer than requests.
const JOB_BUCKETS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];

pub struct Metrics {
    registry: Registry,
    pub http: Http,
    pub cache: Cache,
    pub jobs: JobMetrics,
    pub shards: Shards,
    pub reloads: IntCounterVec,
    pub certificate_reloads: IntCounterVec,
    pub rules_info: IntGaugeVec,
    pub rules_fallback: IntGaugeVec,
    pub last_reload: IntGauge,
}

/// Requests and upstreams.
pub struct Http {
    pub(super) requests: IntCounterVec,
    pub(super) request_seconds: HistogramVec,
    pub(super) in_flight: IntGauge,
    pub connections: IntGauge,
    pub streams: Streams,
    pub problems: IntCounterVec,
    pub refused: IntCounterVec,
    /// Removed fields of requests, by reason.
    pub removed: IntCounterVec,
    pub observed: IntCounterVec,
    pub signatures: IntCounterVec,
    pub upstream_errors: IntCounterVec,
    pub retries: IntCounterVec,
    limit: IntGaugeVec,
    #[cfg(feature = "otlp")]
    pub spans: IntCounterVec,
}

/// The memory cache.
pub struct Cache {
    pub requests: IntCounterVec,
    pub not_stored: IntCounterVec,
    bytes: IntGauge,
    entries: IntGauge,
    evictions: IntCounter,
    /// Purged answers, by kind: `hard` or `soft`.
    pub purged: IntCounterVec,
}

/// Offload, queues and jobs.
pub struct JobMetrics {
    offloads: IntCounterVec,
    pub enqueue_seconds: HistogramVec,
    /// Checks of the application whether a request is allowed, by result.
    pub checks: IntCounterVec,
    finished: IntCounterVec,
    pub run_seconds: HistogramVec,
    pub wait_seconds: HistogramVec,
    pub running: IntGaugeVec,
    /// Lasting refusals of queue, results and spool.
    pub faults: IntGaugeVec,
    /// Whether an upstream accepts the consumer's connections.
    pub app_up: IntGaugeVec,
    pub messages: IntGaugeVec,
    pub oldest_seconds: IntGaugeVec,
    pub received_age_seconds: IntGaugeVec,
    pub learned_seconds: GaugeVec,
    pub notifications: IntCounterVec,
}

#[rustfmt::skip]
impl Http {
    fn new(r: &Registry) -> prometheus::Result<Self> {
        let streams = gauges(r, "streams_open", "Open streams (WebSocket, server-sent events, gRPC); a drain does not wait for them.", &["kind"])?;
        Ok(Self {
            streams: Streams::new(Stream::ALL.map(|stream| streams.with_label_values(&[stream.label()]))),
            requests: counters(r, "http_requests_total", "Requests answered.", &["route", "code"])?,
            request_seconds: histograms(r, "http_request_duration_seconds", "Time from request head to response head.", &["route"], &LATENCY_BUCKETS)?,
            in_flight: gauge(r, "http_requests_in_flight", "Requests in flight, without streams.")?,
            connections: gauge(r, "connections_open", "Open client connections.")?,
            problems: counters(r, "problems_total", "Requests Spillway itself refused, by problem.", &["route", "problem"])?,
            refused: counters(r, "messages_refused_total", "Malformed HTTP/1.1 messages refused, by reason.", &["reason"])?,
            removed: counters(r, "request_fields_removed_total", "Request fields removed before forwarding, by reason.", &["reason"])?,
            observed: counters(r, "observed_total", "What rules in observe mode would have done.", &["route", "rule", "outcome"])?,
            signatures: counters(r, "signatures_total", "Requests by edge-signature verification result.", &["result"])?,
            upstream_errors: counters(r, "upstream_errors_total", "Failed requests to an upstream, by reason.", &["upstream", "reason"])?,
            retries: counters(r, "upstream_retries_total", "Requests retried because an idle connection had been closed.", &["upstream"])?,
            limit: gauges(r, "concurrency_limit", "Adaptive concurrency limit of the upstream.", &["upstream"])?,
            #[cfg(feature = "otlp")]
            spans: counters(r, "spans_total", "Spans exported, by result.", &["result"])?,
        })
    }
}

#[rustfmt::skip]
impl Cache {
    fn new(r: &Registry) -> prometheus::Result<Self> {
        let evictions = IntCounter::with_opts(opts("cache_evictions_total", "Cache keys evicted to stay within the memory budget."))?;
        r.register(Box::new(evictions.clone()))?;
        let purged = counters(r, "cache_purged_total", "Answers purged.", &["how"])?;
        Ok(Self {
            requests: counters(r, "cache_requests_total", "Requests by cache result.", &["route", "result"])?,
            not_stored: counters(r, "cache_not_stored_total", "Answers not stored, by reason.", &["route", "reason"])?,
            bytes: gauge(r, "cache_size_bytes", "Bytes of cached answers, metadata included.")?,
            entries: gauge(r, "cache_entries", "Keys with cached answers.")?,
            evictions,
            purged,
        })
    }
}

impl Cache {
    /// Updates the store's size and evictions; called when metrics are read.
    pub fn show(&self, store: &Store) {
        let counts = store.counts();
        self.bytes.set(counts.bytes());
        self.entries.set(i64::try_from(store.entries()).unwrap_or(i64::MAX));
        self.evictions.inc_by(counts.take_evictions());
    }
}

#[rustfmt::skip]
impl JobMetrics {
    fn new(r: &Registry) -> prometheus::Result<Self> {
        let learned = GaugeVec::new(opts("offload_learned_p95_seconds", "Learned 95th percentile of the duration of the route's slowest class."), &["route"])?;
        r.register(Box::new(learned.clone()))?;
        Ok(Self {
            offloads: counters(r, "offload_requests_total", "Requests considered for offload, by result and reason.", &["route", "result", "reason"])?,
            checks: counters(r, "auth_checks_total", "Authorization checks sent to the application (auth.check), by result.", &["result"])?,
            enqueue_seconds: histograms(r, "offload_enqueue_duration_seconds", "Time until the queue or store had the job durably.", &["route"], &LATENCY_BUCKETS)?,
            finished: counters(r, "jobs_total", "Job deliveries finished or returned to the queue, by outcome and reason.", &["queue", "outcome", "reason"])?,
            run_seconds: histograms(r, "job_run_duration_seconds", "Time a job ran.", &["queue"], &JOB_BUCKETS)?,
            wait_seconds: histograms(r, "job_wait_duration_seconds", "Time a job waited before its first run.", &["queue"], &JOB_BUCKETS)?,
            running: gauges(r, "jobs_running", "JobMetrics running in this process.", &["queue"])?,
            faults: gauges(r, "offload_fault", "1 while a queue, the result store or the spool refuses this call permanently.", &["part", "queue", "call", "reason"])?,
            app_up: gauges(r, "consumer_app_up", "1 while the upstream accepts connections of the consumer, else 0.", &["upstream"])?,
            messages: gauges(r, "queue_messages", "Messages by state.", &["queue", "state"])?,
            oldest_seconds: gauges(r, "queue_oldest_message_age_seconds", "Age of the oldest message.", &["queue"])?,
            received_age_seconds: gauges(r, "queue_received_message_age_seconds", "Age of the oldest message among those first delivered by the last receive.", &["queue"])?,
            learned_seconds: learned,
            notifications: counters(r, "notifications_total", "Notifications of finished jobs, by result.", &["queue", "result"])?,
        })
    }
}

impl JobMetrics {
    /// Counts a request that was offered to a queue, with its result and reason.
    pub fn offered(&self, route: &str, result: &str, reason: Reason) {
        self.offloads.with_label_values(&[route, result, reason.as_str()]).inc();
    }

    /// Counts a job's end, or that of one of its deliveries. Reasons are names; an application's
    /// status has one of its own.
    pub fn ended(&self, queue: &str, outcome: &str, reason: &str) {
        self.finished.with_label_values(&[queue, outcome, reason]).inc();
    }

    /// Counts a running job until the guard is dropped.
    pub fn run(&self, queue: &str) -> Running {
        let gauge = self.running.with_label_values(&[queue]);
        gauge.inc();
        Running(gauge)
    }
}

/// A running job; see [`JobMetrics::run`].
pub struct Running(IntGauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// Two metrics have one name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        build_info(r)?;
        let rules = "Hash of the rules in force.";
        Ok(Self {
            http: Http::new(r)?,
            cache: Cache::new(r)?,
            jobs: JobMetrics::new(r)?,
            shards: Shards::new(r)?,
            reloads: counters(
                r,
                "rules_reloads_total",
                "Reloads of the rules file, by result.",
                &["result"],
            )?,
            certificate_reloads: counters(
                r,
                "certificate_reloads_total",
                "Certificate reloads from --tls-dir, by result.",
                &["result"],
            )?,
            rules_info: gauges(r, "rules_info", rules, &["config_hash"])?,
            rules_fallback: gauges(
                r,
                "rules_fallback",
                "1 while the rules can't be read and this fallback is in force.",
                &["mode"],
            )?,
            last_reload: gauge(
                r,
                "rules_last_reload_successful",
                "1 if the last reload of the rules file succeeded, else 0.",
            )?,
            registry,
        })
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> Vec<u8> {
        self.shards.meters.show();
        render(&self.registry)
    }

    /// Records the learned concurrency limit of an upstream.
    pub fn limited(&self, upstream: &str, limit: u64) {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.http.limit.with_label_values(&[upstream]).set(limit);
    }
}

/// The metrics of the webhook.
#[derive(Clone)]
pub struct Injections {
    registry: Registry,
    reviews: IntCounterVec,
    seconds: HistogramVec,
    secret_missing: IntGauge,
    expiry: IntGaugeVec,
    clock_offset: IntGaugeVec,
}

#[rustfmt::skip]
impl Injections {
    /// Registers all metrics.
    ///
    /// # Errors
    /// Two metrics have one name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        build_info(r)?;
        Ok(Self {
            reviews: counters(r, "injections_total", "Reviews of pods, by result and reason.", &["result", "reason"])?,
            seconds: histograms(r, "injection_duration_seconds", "Time from a complete review request to its response.", &["result"], &LATENCY_BUCKETS)?,
            secret_missing: gauge(r, "webhook_secret_missing", "1 while the Secret with the certificates is missing.")?,
            expiry: gauges(r, "webhook_certificate_expiry_timestamp_seconds", "Expiry of the served certificate, in seconds since 1970.", &[])?,
            clock_offset: gauges(r, "webhook_clock_offset_seconds", "Offset of this clock from the API server's, measured at its last answer.", &[])?,
            registry,
        })
    }

    pub fn reviewed(&self, result: &str, reason: &str, took: Duration) {
        self.reviews.with_label_values(&[result, reason]).inc();
        self.seconds.with_label_values(&[result]).observe(took.as_secs_f64());
    }

    /// Records whether the Secret is missing. True where it existed before.
    pub fn secret_missing(&self, is_missing: bool) -> bool {
        let was_missing = self.secret_missing.get() == 1;
        self.secret_missing.set(is_missing.into());
        is_missing && !was_missing
    }

    /// Records the expiry of the served certificate, and by how much our clock is ahead, as far as
    /// known.
    pub fn looked(&self, expiry: Option<u64>, clock_offset: Option<i64>) {
        let known = expiry.and_then(|at| i64::try_from(at).ok());
        for (gauge, value) in [(&self.expiry, known), (&self.clock_offset, clock_offset)] {
            if let Some(value) = value {
                gauge.with_label_values::<&str>(&[]).set(value);
            }
        }
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> Vec<u8> {
        render(&self.registry)
    }
}

fn render(registry: &Registry) -> Vec<u8> {
    let mut text = Vec::new();
    // Writing to memory can't fail; an incomplete page would be worse than none.
    if TextEncoder::new().encode(&registry.gather(), &mut text).is_err() {
        text.clear();
    }
    text
}

fn build_info(r: &Registry) -> prometheus::Result<()> {
    let info = gauges(r, "build_info", "Version of this program.", &["version"])?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(())
}
