//! A route as this process runs it.

use super::limits::Places;
use crate::telemetry::metrics::Meters;
use rules::assets::Assets;
use rules::document::Limit;
use std::sync::Arc;
use std::time::Duration;

/// A route as this process runs it.
pub struct Lane {
    /// Metric label.
    pub name: Arc<str>,
    /// How much its upstream is sent at once.
    pub limit: Limit,
    /// None where the route has no limit of its own.
    pub places: Option<Places>,
    /// How long a client may pause, where the route says so.
    pub idle_timeout: Option<Duration>,
    /// Where it has such.
    pub assets: Option<Assets>,
    pub meters: Meters,
}
