//! What sends requests to the servers behind us.

use super::limits::ConcurrencyLimits;
use super::network::{Network, Upstreams};
use super::servers::Servers;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;

/// One thread's connections, and what limits and counts the requests over them for the whole process.
pub struct Client {
    pub upstreams: Upstreams,
    pub limits: Arc<ConcurrencyLimits>,
    pub metrics: Arc<Metrics>,
}

impl Client {
    /// With connections of its own, of which there are none yet.
    pub fn new(servers: &Servers, limits: Arc<ConcurrencyLimits>, metrics: Arc<Metrics>) -> Self {
        Self { upstreams: Upstreams::Network(Network::new(servers)), limits, metrics }
    }
}
