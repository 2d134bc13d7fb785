//! The client with which one thread sends requests to upstreams.

use super::limits::ConcurrencyLimits;
use super::network::{Network, Upstreams};
use super::servers::Servers;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;

/// The connections of one thread, with the limits and metrics of the whole process.
pub struct Client {
    pub upstreams: Upstreams,
    pub limits: Arc<ConcurrencyLimits>,
    pub metrics: Arc<Metrics>,
}

impl Client {
    /// A client without any connection yet.
    pub fn new(servers: &Servers, limits: Arc<ConcurrencyLimits>, metrics: Arc<Metrics>) -> Self {
        Self { upstreams: Upstreams::Network(Network::new(servers)), limits, metrics }
    }
}
