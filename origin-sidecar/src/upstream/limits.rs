//! Enforces the concurrency limits of the rules file for routes and upstreams.

use super::server::{self, ServerSlot};
use super::servers::Servers;
use crate::message::permit::Permit;
use crate::telemetry::metrics::Metrics;
use rules::Millis;
use rules::Problem;
use rules::document::Limit;
use rules::overload::Adaptive;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The limits of this process, shared by all of its threads.
pub struct ConcurrencyLimits {
    /// The load of each server, by its slot.
    upstreams: Vec<UpstreamLoad>,
    /// For each route with a limit, the number of its requests whose answers have not ended.
    routes: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    metrics: Arc<Metrics>,
    started: Instant,
}

struct UpstreamLoad {
    /// The number of requests whose answers have not begun.
    waiting: AtomicU64,
    /// The latest limit of [`Adaptive`], so that it can be read without the lock.
    limit: AtomicU64,
    learned: Mutex<Adaptive>,
}

impl ConcurrencyLimits {
    /// For all servers that there are.
    pub fn new(servers: &Servers, metrics: Arc<Metrics>) -> Self {
        let upstream = |_: &Arc<server::Upstream>| {
            let learned = Adaptive::default();
            let limit = AtomicU64::new(learned.limit());
            UpstreamLoad { waiting: AtomicU64::new(0), limit, learned: Mutex::new(learned) }
        };
        Self {
            upstreams: servers.all().map(upstream).collect(),
            routes: Mutex::default(),
            metrics,
            started: Instant::now(),
        }
    }

    /// Admits a request to its upstream. The permit is held until the answer begins.
    ///
    /// # Errors
    /// `overloaded` when the upstream's limit of waiting requests is reached.
    pub fn enter<'a>(
        &'a self,
        limit: Limit,
        slot: ServerSlot,
    ) -> Result<Option<UpstreamPermit<'a>>, Problem> {
        let upstream = if limit == Limit::None { None } else { self.upstreams.get(slot.0) };
        let Some(upstream) = upstream else { return Ok(None) };
        let at_once = upstream.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        let waiting = UpstreamPermit {
            limits: self,
            upstream,
            at_once,
            since: Instant::now(),
            is_learning: limit == Limit::Adaptive,
        };
        if at_once > upstream.most(limit) { Err(Problem::Overloaded) } else { Ok(Some(waiting)) }
    }

    /// Whether a request sent now would be refused.
    pub fn is_full(&self, limit: Limit, slot: ServerSlot) -> bool {
        let Some(upstream) = self.upstreams.get(slot.0) else { return false };
        limit != Limit::None && upstream.waiting.load(Ordering::Relaxed) >= upstream.most(limit)
    }

    /// The limit of a route. Permits in use stay valid when the rules change.
    pub fn places(&self, route: &str, most: u64) -> RouteLimit {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        RouteLimit { taken: Arc::clone(routes.entry(route.to_owned()).or_default()), most }
    }
}

/// The concurrency limit of a route; see [`ConcurrencyLimits::places`].
pub struct RouteLimit {
    taken: Arc<AtomicU64>,
    most: u64,
}

impl RouteLimit {
    /// Takes a permit, which is held until the answer has ended.
    ///
    /// # Errors
    /// `route-busy` when all permits are in use.
    pub fn take(&self) -> Result<Permit, Problem> {
        let (place, at_once) = Permit::take(&self.taken);
        if at_once > self.most { Err(Problem::RouteBusy) } else { Ok(place) }
    }
}

impl UpstreamLoad {
    fn most(&self, limit: Limit) -> u64 {
        match limit {
            Limit::None => u64::MAX,
            Limit::Fixed(most) => most,
            Limit::Adaptive => self.limit.load(Ordering::Relaxed),
        }
    }
}

/// The permit of a request whose answer has not begun.
pub struct UpstreamPermit<'a> {
    limits: &'a ConcurrencyLimits,
    upstream: &'a UpstreamLoad,
    at_once: u64,
    since: Instant,
    is_learning: bool,
}

impl UpstreamPermit<'_> {
    /// Records that the answer began or timed out, so that the adaptive limit learns its latency.
    pub fn answered(self, upstream: &str, route: &str) {
        if !self.is_learning {
            return;
        }
        let took = self.since.elapsed().as_secs_f64() * 1000.0;
        let now = Millis::from(self.limits.started.elapsed());
        let mut learned = self.upstream.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.answered(route, took, self.at_once, now);
        let limit = learned.limit();
        drop(learned);
        if self.upstream.limit.swap(limit, Ordering::Relaxed) != limit {
            self.limits.metrics.limited(upstream, limit);
        }
    }
}

impl Drop for UpstreamPermit<'_> {
    fn drop(&mut self) {
        self.upstream.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
