//! A route as this process runs it.

use super::limits::RouteLimit;
use super::server::Upstream;
use crate::telemetry::meters::Meters;
use rules::Rules;
use rules::assets::Assets;
use rules::document::{Limit, Route};
use std::sync::Arc;
use std::time::Duration;

/// A route as this process runs it.
pub struct RouteState {
    /// Metric label.
    pub name: Arc<str>,
    /// Position among the routes of the rules; none for requests without a route.
    pub index: Option<usize>,
    /// Where its requests go that are not divided over shards; none for a name that is not bound.
    pub upstream: Option<Arc<Upstream>>,
    /// How much its upstream is sent at once.
    pub limit: Limit,
    /// None where the route has no limit of its own.
    pub places: Option<RouteLimit>,
    /// How long a client may pause, where the route says so.
    pub idle_timeout: Option<Duration>,
    /// Where it has such.
    pub assets: Option<Assets>,
    pub meters: Meters,
}

impl RouteState {
    /// The route itself, in the rules that this state was made for; none for requests without a route.
    pub fn route<'r>(&self, rules: &'r Rules) -> Option<&'r Route> {
        self.index.and_then(|index| rules.route(index))
    }
}
