//! The active rules and this process's state for each route.

use crate::telemetry::meters::Meters;
use crate::telemetry::metrics::Metrics;
use crate::upstream::limits::ConcurrencyLimits;
use crate::upstream::route_state::RouteState;
use crate::upstream::servers::Servers;
use rules::Rules;
use rules::assets::Assets;
use rules::document::UNMATCHED;
use rules::shard::{OwnedRange, RangeState, ShardMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// The metric label of jobs, results and problem pages.
const RESERVED: &str = "reserved";

/// The rules, with state that would otherwise have to be looked up for each request.
pub struct RulesSnapshot {
    pub rules: Arc<Rules>,
    /// One state for each of the rules' routes, in their order.
    route_states: Vec<Arc<RouteState>>,
    unmatched: Arc<RouteState>,
    reserved: Arc<RouteState>,
}

impl RulesSnapshot {
    pub fn new(
        rules: Arc<Rules>,
        metrics: &Arc<Metrics>,
        limits: &ConcurrencyLimits,
        servers: &Servers,
    ) -> Self {
        let route_state = |name: &str, index: Option<usize>| {
            let route = index.and_then(|index| rules.route(index));
            let concurrency = route.and_then(|route| route.concurrency);
            let idle = route.and_then(|route| route.idle_timeout);
            Arc::new(RouteState {
                name: name.into(),
                index,
                upstream: match route.and_then(|route| route.upstream.as_deref()) {
                    Some(name) => servers.by_name(name).cloned(),
                    None => Some(Arc::clone(&servers.app)),
                },
                limit: rules.document.overload.concurrency,
                places: concurrency.map(|most| limits.places(name, most)),
                idle_timeout: idle.map(Duration::from),
                assets: route.and_then(Assets::of),
                meters: Meters::new(name, Arc::clone(metrics)),
            })
        };
        let routes = rules.document.routes.iter().enumerate();
        Self {
            route_states: routes
                .map(|(index, route)| route_state(&route.name, Some(index)))
                .collect(),
            unmatched: route_state(UNMATCHED, None),
            reserved: route_state(RESERVED, None),
            rules,
        }
    }

    /// The state for requests that match the route at this position, or no route.
    pub fn route_state(&self, index: Option<usize>) -> &Arc<RouteState> {
        index.and_then(|index| self.route_states.get(index)).unwrap_or(&self.unmatched)
    }

    /// The state for jobs, results and problem pages.
    pub fn reserved(&self) -> &Arc<RouteState> {
        &self.reserved
    }

    pub fn is_reserved(&self, route_state: &Arc<RouteState>) -> bool {
        Arc::ptr_eq(route_state, &self.reserved)
    }
}

/// The current rules of this process. A reload replaces them; a request keeps those with which it
/// started.
pub struct ActiveRules {
    in_force: RwLock<Arc<RulesSnapshot>>,
    /// Taken by whoever replaces them: a reload and a new shard map must not undo each other.
    changing: Mutex<()>,
    /// Counts changes, for those that wait for one.
    changes: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    limits: Arc<ConcurrencyLimits>,
    servers: Arc<Servers>,
}

impl ActiveRules {
    pub fn new(
        rules: Arc<Rules>,
        metrics: Arc<Metrics>,
        limits: Arc<ConcurrencyLimits>,
        servers: Arc<Servers>,
    ) -> Self {
        publish(&rules, &metrics);
        let in_force = RulesSnapshot::new(rules, &metrics, &limits, &servers);
        let in_force = RwLock::new(Arc::new(in_force));
        let (changing, changes) = (Mutex::default(), watch::channel(0).0);
        Self { in_force, changing, changes, metrics, limits, servers }
    }

    pub fn in_force(&self) -> Arc<RulesSnapshot> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The rules without the state.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.in_force().rules)
    }

    /// Takes the rules of a changed file; live maps stay as they are.
    pub fn set(&self, rules: Rules) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.rules();
        let mut rules = rules;
        let document = Arc::clone(&rules.document);
        for (name, document) in &document.shard_maps {
            let own = old.shard_maps.get(name).filter(|_| document.live);
            let Some((map, object)) = own.and_then(|map| Some((map, map.object()?))) else {
                continue;
            };
            // A file that takes a shard away which owns something is refused before.
            if let Ok(map) = ShardMap::live(map.name(), document, object) {
                rules = rules.with_map(Arc::new(map));
            }
        }
        self.replace(rules);
    }

    /// Takes another version of a live map, if `make` finds that it is one: it is given the rules in force,
    /// which nobody else changes meanwhile.
    pub fn change_map<T>(&self, make: impl FnOnce(&Rules) -> (Option<ShardMap>, T)) -> T {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = self.rules();
        let (map, made) = make(&rules);
        if let Some(map) = map {
            self.replace(rules.with_map(Arc::new(map)));
        }
        made
    }

    /// Resolves whenever the rules or a map have changed since the last look.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn replace(&self, rules: Rules) {
        publish(&rules, &self.metrics);
        let rules = Arc::new(rules);
        let in_force =
            Arc::new(RulesSnapshot::new(rules, &self.metrics, &self.limits, &self.servers));
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = in_force;
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// Publishes in the metrics which rules are active.
fn publish(rules: &Rules, metrics: &Metrics) {
    metrics.rules_info.reset();
    metrics.rules_info.with_label_values(&[rules.hash.as_str()]).set(1);
    metrics.last_reload.set(rules.unreadable.is_none().into());
    metrics.rules_fallback.reset();
    if let Some(unreadable) = &rules.unreadable {
        let mode = unreadable.fallback.as_str();
        metrics.rules_fallback.with_label_values(&[mode]).set(1);
    }
    for (name, map) in &rules.shard_maps {
        let epoch = i64::try_from(map.epoch()).unwrap_or(i64::MAX);
        metrics.shards.epoch.with_label_values(&[name.as_str()]).set(epoch);
        metrics.shards.meters.follow(map);
    }
    metrics.shards.range_state.reset();
    let ranges = rules.shard_maps.values().flat_map(|map| map.ranges());
    for range in ranges.filter(|range| range.state != RangeState::Active) {
        let OwnedRange { map, label, state, .. } = &**range;
        let labels = [&**map, label, state.as_str()];
        metrics.shards.range_state.with_label_values(&labels).set(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::Problem;

    fn rules(concurrency: u64) -> Arc<Rules> {
        let text = format!(
            "[[route]]\nname = \"a\"\nmatch = {{ path = \"/a\" }}\n\
             concurrency = {concurrency}\n[[route]]\nname = \"b\"\nmatch = {{ path = \"/b\" }}\n"
        );
        Arc::new(Rules::from_toml(&text).expect("good rules"))
    }

    #[test]
    fn places_and_counts_of_a_route_outlive_a_change_of_the_rules() {
        let metrics = Arc::new(Metrics::new().expect("one of each"));
        let servers = Servers::alone("127.0.0.1:1");
        let limits = ConcurrencyLimits::new(&servers, Arc::clone(&metrics));
        let place = |in_force: &RulesSnapshot| {
            let route_state = in_force.route_state(Some(0));
            route_state.meters.answered(200, Duration::ZERO);
            route_state.meters.cached("hit");
            route_state.meters.cached("revalidated");
            route_state.places.as_ref().expect("a limit").take()
        };
        let before = RulesSnapshot::new(rules(1), &metrics, &limits, &servers);
        let first = place(&before).expect("free");
        assert_eq!(place(&before).err(), Some(Problem::RouteBusy));
        let after = RulesSnapshot::new(rules(2), &metrics, &limits, &servers);
        let second = place(&after).expect("one more");
        assert_eq!(place(&after).err(), Some(Problem::RouteBusy));
        drop((first, second));
        assert!(place(&before).is_ok());
        assert!(after.route_state(Some(1)).places.is_none());
        let shown = String::from_utf8(metrics.render()).expect("text");
        for line in [
            "spillway_http_requests_total{code=\"2xx\",route=\"a\"} 5",
            "spillway_http_request_duration_seconds_count{route=\"a\"} 5",
            "spillway_cache_requests_total{result=\"hit\",route=\"a\"} 5",
            "spillway_cache_requests_total{result=\"revalidated\",route=\"a\"} 5",
        ] {
            assert!(shown.contains(line), "{line} is not in\n{shown}");
        }
        assert!(!shown.contains("code=\"5xx\"") && !shown.contains("route=\"b\""), "{shown}");
    }
}
