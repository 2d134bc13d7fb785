//! The state of a route in this process.

use super::limits::RouteLimit;
use super::server::Upstream;
use crate::telemetry::meters::Meters;
use rules::Rules;
use rules::assets::Assets;
use rules::document::{Limit, Route};
use std::sync::Arc;
use std::time::Duration;

/// The state of a route in this process.
pub struct RouteState {
    /// The route's name as a metric label.
    pub name: Arc<str>,
    /// The route's position in the rules; none for requests without a route.
    pub index: Option<usize>,
    /// The upstream of unsharded requests; none where its name is not bound.
    pub upstream: Option<Arc<Upstream>>,
    /// The limit of requests in flight to the upstream.
    pub limit: Limit,
    /// The route's own concurrency limit, if it has one.
    pub places: Option<RouteLimit>,
    /// How long a client may pause; none leaves it to the process.
    pub idle_timeout: Option<Duration>,
    /// The rule for its versioned assets, if it has one.
    pub assets: Option<Assets>,
    pub meters: Meters,
}

impl RouteState {
    /// The route in the rules for which this state was made; none for requests without a route.
    pub fn route<'r>(&self, rules: &'r Rules) -> Option<&'r Route> {
        self.index.and_then(|index| rules.route(index))
    }
}
