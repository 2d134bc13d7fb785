//! The client for addresses outside of the pod: S3 and notifications.

use crate::results::ObjectBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;

/// How long a TCP connection may take to come about. S3 in the same region answers within 10 ms;
/// this leaves room for one lost SYN (1 s) within the 3 s that an enqueue has.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Shorter than any known server's own (Amazon S3 about 20 s, load balancers 60 s): a request
/// written into a connection that is just being closed has an unknown outcome.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections kept for each host: a burst's worth, not one per request ever made at once.
const POOL_IDLE_MAX: usize = 32;

/// Speaks HTTP/1.1 over TLS (Mozilla's roots, built in: the image needs none) or in the clear.
pub type HttpsClient = Client<HttpsConnector<HttpConnector>, ObjectBody>;

/// A client with its own connection pool. Callers bound the whole request themselves.
pub fn client() -> HttpsClient {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    // Otherwise the TCP connector refuses https addresses.
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(POOL_IDLE_MAX)
        .build(connector)
}
