//! The path of a request: accept → handle → cache, shard, offload → forward.

mod cache_fields;
pub mod cached;
mod fetched;
pub mod forward;
pub mod handle;
pub mod hop;
pub mod inbound;
mod invalidate;
pub mod serve;
mod upgrade;

use crate::app::App;
use crate::body::Body;
use crate::queue::Boxed;
use forward::Failure;
use http::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::Duration;

/// Connecting within a pod or a cluster takes a millisecond; longer means nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Shorter than the keep-alive of common app servers (gunicorn 2 s is the exception that hyper's
/// retry of unsent requests covers), so that a request seldom meets a closing connection.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Idle connections to one upstream, per thread.
const POOL_IDLE_MAX: usize = 64;

/// The way to the upstreams.
pub enum Upstreams {
    Network(Box<Client<HttpConnector, Body>>),
    /// Answered in this process: by the application of a simulation.
    Local(Local),
}

/// What answers instead of the network.
pub type Local =
    Arc<dyn Fn(Request<Body>) -> Boxed<'static, Result<Response<Body>, Failure>> + Send + Sync>;

/// One thread's share: its own connections to the upstreams, everything else in common.
pub struct Worker {
    pub app: Arc<App>,
    pub upstreams: Upstreams,
}

impl Worker {
    pub fn new(app: Arc<App>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_IDLE_MAX)
            .build(connector);
        Self { app, upstreams: Upstreams::Network(Box::new(client)) }
    }
}
