//! Logs one JSON line per event to stderr.

use std::str::FromStr;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging at the level in `SPILLWAY_LOG` (error, warn, info, debug, trace); info by
/// default.
pub fn start() {
    let level = std::env::var("SPILLWAY_LOG").ok();
    let level =
        level.and_then(|level| LevelFilter::from_str(&level).ok()).unwrap_or(LevelFilter::INFO);
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_current_span(false)
        .with_span_list(false)
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .init();
}
