//! Every metric of the program. Labels are route names and named reasons, never paths or keys.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds; from a cache hit to a report.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Seconds; jobs run and wait longer than requests.
const JOB_BUCKETS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];

pub struct Metrics {
    registry: Registry,
    pub requests: IntCounterVec,
    pub request_seconds: HistogramVec,
    pub in_flight: IntGauge,
    pub connections: IntGauge,
    pub problems: IntCounterVec,
    pub observed: IntCounterVec,
    pub upstream_errors: IntCounterVec,
    pub cache_requests: IntCounterVec,
    pub cache_not_stored: IntCounterVec,
    pub cache_bytes: IntGauge,
    pub cache_entries: IntGauge,
    pub cache_evictions: prometheus::IntCounter,
    pub shard_requests: IntCounterVec,
    pub shard_epoch: IntGaugeVec,
    pub offloads: IntCounterVec,
    pub enqueue_seconds: Histogram,
    pub jobs: IntCounterVec,
    pub job_run_seconds: HistogramVec,
    pub job_wait_seconds: HistogramVec,
    pub jobs_running: IntGaugeVec,
    pub queue_messages: IntGaugeVec,
    pub queue_oldest_seconds: IntGaugeVec,
    pub notifications: IntCounterVec,
    pub reloads: IntCounterVec,
    pub rules_info: IntGaugeVec,
    /// Requests in flight, also read by the drain.
    pub active: AtomicU64,
}

impl Metrics {
    /// # Errors
    /// Only when two metrics have one name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let info = gauges(r, "build_info", "Version of this program.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            requests: counters(r, "http_requests_total", "Requests answered.", &["route", "code"])?,
            request_seconds: histograms(
                r,
                "http_request_duration_seconds",
                "Time from request head to response head.",
                &["route"],
                &LATENCY_BUCKETS,
            )?,
            in_flight: gauge(r, "http_requests_in_flight", "Requests being answered.")?,
            connections: gauge(r, "connections_open", "Open client connections.")?,
            problems: counters(
                r,
                "problems_total",
                "Requests Spillway itself refused, by problem.",
                &["route", "problem"],
            )?,
            observed: counters(
                r,
                "observed_total",
                "What rules in observe mode would have done.",
                &["route", "rule", "outcome"],
            )?,
            upstream_errors: counters(
                r,
                "upstream_errors_total",
                "Failed requests to an upstream, by reason.",
                &["upstream", "reason"],
            )?,
            cache_requests: counters(
                r,
                "cache_requests_total",
                "Requests by what the cache did with them.",
                &["route", "result"],
            )?,
            cache_not_stored: counters(
                r,
                "cache_not_stored_total",
                "Answers not stored, by reason.",
                &["route", "reason"],
            )?,
            cache_bytes: gauge(
                r,
                "cache_size_bytes",
                "Bytes of cached answers, metadata included.",
            )?,
            cache_entries: gauge(r, "cache_entries", "Cached answers.")?,
            cache_evictions: {
                let counter = prometheus::IntCounter::with_opts(opts(
                    "cache_evictions_total",
                    "Answers evicted for want of space.",
                ))?;
                r.register(Box::new(counter.clone()))?;
                counter
            },
            shard_requests: counters(
                r,
                "shard_requests_total",
                "Requests resolved to a shard.",
                &["map", "shard", "output"],
            )?,
            shard_epoch: gauges(
                r,
                "shard_map_epoch",
                "Epoch of the shard map in force.",
                &["map"],
            )?,
            offloads: counters(
                r,
                "offload_requests_total",
                "Requests offered to a queue, by result.",
                &["route", "result"],
            )?,
            enqueue_seconds: {
                let options = HistogramOpts::new(
                    "spillway_offload_enqueue_duration_seconds",
                    "Time until a job was durable.",
                );
                let histogram = Histogram::with_opts(options.buckets(LATENCY_BUCKETS.to_vec()))?;
                r.register(Box::new(histogram.clone()))?;
                histogram
            },
            jobs: counters(
                r,
                "jobs_total",
                "Jobs finished or put back, by outcome.",
                &["queue", "outcome"],
            )?,
            job_run_seconds: histograms(
                r,
                "job_run_duration_seconds",
                "Time a job ran.",
                &["queue"],
                &JOB_BUCKETS,
            )?,
            job_wait_seconds: histograms(
                r,
                "job_wait_duration_seconds",
                "Time a job waited before its first run.",
                &["queue"],
                &JOB_BUCKETS,
            )?,
            jobs_running: gauges(r, "jobs_running", "Jobs running in this process.", &["queue"])?,
            queue_messages: gauges(r, "queue_messages", "Messages by state.", &["queue", "state"])?,
            queue_oldest_seconds: gauges(
                r,
                "queue_oldest_message_age_seconds",
                "Age of the oldest message.",
                &["queue"],
            )?,
            notifications: counters(
                r,
                "notifications_total",
                "Notifications of finished jobs, by result.",
                &["queue", "result"],
            )?,
            reloads: counters(
                r,
                "rules_reloads_total",
                "Changes of the rules file seen, by result.",
                &["result"],
            )?,
            rules_info: gauges(r, "rules_info", "Hash of the rules in force.", &["config_hash"])?,
            active: AtomicU64::new(0),
            registry,
        })
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory can't fail; a half-written page would be worse than none.
        if TextEncoder::new().encode(&self.registry.gather(), &mut text).is_err() {
            text.clear();
        }
        text
    }

    pub fn answered(&self, route: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[route, code(status)]).inc();
        self.request_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    pub fn begin(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.in_flight.inc();
    }

    pub fn end(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
        self.in_flight.dec();
    }
}

/// Status classes: five label values instead of sixty.
fn code(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("spillway_{name}"), help)
}

fn counters(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let counters = IntCounterVec::new(opts(name, help), labels)?;
    r.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn gauges(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let gauges = IntGaugeVec::new(opts(name, help), labels)?;
    r.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn gauge(r: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::with_opts(opts(name, help))?;
    r.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn histograms(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(format!("spillway_{name}"), help).buckets(buckets.to_vec());
    let histograms = HistogramVec::new(options, labels)?;
    r.register(Box::new(histograms.clone()))?;
    Ok(histograms)
}
