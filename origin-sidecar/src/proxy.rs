//! The path of a request: accept → handle → cache, shard, offload → forward.

mod arrival;
mod bypass;
mod cache_fields;
pub mod cached;
pub mod clean;
pub mod destination;
mod dial;
mod fetched;
mod filling;
pub mod flights;
pub mod forward;
pub mod grpc;
pub mod handle;
mod health;
pub mod hop;
mod http2;
mod in_body;
pub mod inbound;
mod invalidate;
mod links;
pub mod multiplexed;
pub mod readers;
mod redirected;
pub mod serve;
pub mod serving;
pub mod signed;
pub mod step;
mod upgrade;
mod upload;
pub mod upstreams;

use crate::app::App;
use std::sync::Arc;
use tokio::sync::Notify;
use upstreams::{Network, Upstreams};

/// One thread's share: its own connections to the upstreams, everything else in common.
pub struct Worker {
    pub app: Arc<App>,
    pub upstreams: Upstreams,
    /// Connections have let go of memory.
    pub let_go: Notify,
}

impl Worker {
    pub fn new(app: Arc<App>) -> Self {
        let upstreams = Upstreams::Network(Network::new(&app.bindings));
        Self { app, upstreams, let_go: Notify::new() }
    }
}
