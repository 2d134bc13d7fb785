//! The rules in force as this process runs them.

use crate::metrics::{Meters, Metrics};
use crate::overload::{Limits, Places};
use rules::Rules;
use rules::document::{Limit, Route};
use std::sync::Arc;

/// Metric label of jobs, results and problem pages.
const RESERVED: &str = "reserved";
/// Of what no route matches.
const UNMATCHED: &str = "unmatched";

/// The rules, and beside them what would have to be looked up for each request otherwise.
pub struct InForce {
    pub rules: Arc<Rules>,
    /// As the rules' routes.
    lanes: Vec<Arc<Lane>>,
    unmatched: Arc<Lane>,
    reserved: Arc<Lane>,
}

/// A route as this process runs it.
pub struct Lane {
    /// Metric label.
    pub name: Arc<str>,
    /// How much its upstream is sent at once.
    pub limit: Limit,
    /// None where the route has no limit of its own.
    pub places: Option<Places>,
    pub meters: Meters,
}

impl InForce {
    pub fn new(rules: Arc<Rules>, metrics: &Arc<Metrics>, limits: &Limits) -> Self {
        let lane = |name: &str, concurrency: Option<u64>| {
            Arc::new(Lane {
                name: name.into(),
                limit: rules.document.overload.concurrency,
                places: concurrency.map(|most| limits.places(name, most)),
                meters: Meters::new(name, Arc::clone(metrics)),
            })
        };
        let routes = rules.document.routes.iter();
        Self {
            lanes: routes.map(|route| lane(&route.name, route.concurrency)).collect(),
            unmatched: lane(UNMATCHED, None),
            reserved: lane(RESERVED, None),
            rules,
        }
    }

    /// That of a request which matches the route, or none.
    pub fn lane(&self, route: Option<&Route>) -> &Arc<Lane> {
        let index = route.and_then(|route| self.rules.index_of(route));
        index.and_then(|index| self.lanes.get(index)).unwrap_or(&self.unmatched)
    }

    /// That of jobs, results and problem pages.
    pub fn reserved(&self) -> &Arc<Lane> {
        &self.reserved
    }

    pub fn is_reserved(&self, lane: &Arc<Lane>) -> bool {
        Arc::ptr_eq(lane, &self.reserved)
    }
}
