//! The path of a request: accept → handle → cache, shard, offload → forward.

mod arrival;
mod bypass;
mod cache_fields;
pub mod cached;
mod fetched;
mod filling;
pub mod flights;
pub mod handle;
mod http2;
mod in_body;
mod invalidate;
mod redirected;
pub mod serve;
pub mod serving;
pub mod step;

use crate::command::app::App;
use crate::upstream::network::{Network, Upstreams};
use std::sync::Arc;
use tokio::sync::Notify;

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
