//! Creates metrics and registers them under our prefix, in one step.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Buckets in seconds, from a cache hit to a report.
pub(super) const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("spillway_{name}"), help)
}

pub(super) fn counters(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let counters = IntCounterVec::new(opts(name, help), labels)?;
    r.register(Box::new(counters.clone()))?;
    Ok(counters)
}

pub(super) fn gauges(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let gauges = IntGaugeVec::new(opts(name, help), labels)?;
    r.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

pub(super) fn gauge(r: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::with_opts(opts(name, help))?;
    r.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

pub(super) fn histograms(
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
