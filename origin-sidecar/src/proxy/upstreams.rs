//! The way to the upstreams: one thread's own connections to each of them.

use super::forward::Failure;
use super::health::Health;
use crate::bindings::{Bindings, Protocol, Upstream};
use crate::body::Body;
use crate::queue::Boxed;
use http::{Request, Response};
use http1::client::Connection;
use http1::pool::Pool;
use http1::stream::Stream;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rules::Problem;
use socket2::{SockRef, TcpKeepalive};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Connecting within a pod or a cluster takes a millisecond; longer means nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A handshake adds two ways and some arithmetic.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// Shorter than the keep-alive of common app servers, so that a request seldom meets a closing
/// connection. Node.js says that it keeps them for 5 s, and is believed; gunicorn does not say its 2 s,
/// which sending again covers.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Idle connections to one upstream, per thread: as many as Envoy has of all by default. Fewer than are
/// busy at once, and each burst opens and closes the rest of them.
const IDLE_CONNECTIONS_MAX: usize = 1024;
/// How often idle connections are looked through for old ones.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// An upstream whose machine is gone sends nothing, not even the end: after a minute it is asked.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Where requests go.
pub enum Upstreams {
    Network(Network),
    /// Answered in this process: by the application of a simulation.
    Local(Local),
}

/// What answers instead of the network.
pub type Local =
    Arc<dyn Fn(Request<Body>) -> Boxed<'static, Result<Response<Body>, Failure>> + Send + Sync>;

/// One thread's connections.
pub struct Network {
    ways: BTreeMap<Arc<str>, Way>,
    started: Instant,
}

/// Connections to one upstream.
pub enum Way {
    /// One request each at a time.
    Http1 { pool: Arc<Pool>, health: Health },
    /// One connection for all of this thread's requests.
    Http2 { shared: Shared, health: Health },
}

impl Network {
    pub fn new(bindings: &Bindings) -> Self {
        let named = bindings.upstreams.values().chain([&bindings.app]);
        let way = |upstream: &Upstream| match upstream.protocol {
            Protocol::Http1 | Protocol::Tls(_) => {
                let pool = Arc::new(Pool::new(IDLE_CONNECTIONS_MAX, IDLE_MAX));
                Way::Http1 { pool, health: Health::default() }
            }
            Protocol::Http2 => Way::Http2 { shared: Shared::default(), health: Health::default() },
        };
        let ways = named.map(|it| (Arc::clone(&it.name), way(it))).collect();
        Self { ways, started: Instant::now() }
    }

    /// # Errors
    /// When the upstream is none that this process started with.
    pub fn way(&self, upstream: &Upstream) -> Result<&Way, Failure> {
        self.ways.get(&upstream.name).ok_or_else(|| Failure {
            problem: Problem::Internal,
            detail: format!("upstream {} is not bound", upstream.name),
            is_unsent: true,
        })
    }

    /// Closes idle connections that have become old, for as long as the thread runs.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            for way in self.ways.values() {
                if let Way::Http1 { pool, .. } = way {
                    pool.sweep();
                }
            }
        }
    }
}

/// A connection of HTTP/2, made when it is first needed and again when it has ended.
pub type Shared = Mutex<Option<http2::SendRequest<Body>>>;

impl Network {
    /// A new connection for one request at a time.
    ///
    /// # Errors
    /// When nobody listens there, or does not answer in time, or is not who it should be; and for
    /// a moment after several such failures.
    pub async fn connect(&self, upstream: &Upstream, health: &Health) -> io::Result<Connection> {
        self.tried(health, connect(upstream)).await
    }

    /// The connection that all requests share.
    ///
    /// # Errors
    /// As for a new one.
    pub async fn sender(
        &self,
        upstream: &Upstream,
        (shared, health): (&Shared, &Health),
    ) -> io::Result<http2::SendRequest<Body>> {
        let mut current = shared.lock().await;
        if let Some(sender) = current.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        // Those who wait for the lock try in turn; after several failures not for long.
        let sender = self.tried(health, share(upstream)).await?;
        *current = Some(sender.clone());
        Ok(sender)
    }

    async fn tried<T>(
        &self,
        health: &Health,
        connecting: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let now = || u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !health.may_connect(now()) {
            return Err(io::Error::other("left alone for a moment, as nobody could connect"));
        }
        let connected = connecting.await;
        match &connected {
            Ok(_) => health.connected(),
            Err(_) => health.failed(now()),
        }
        connected
    }
}

async fn share(upstream: &Upstream) -> io::Result<http2::SendRequest<Body>> {
    let stream = TokioIo::new(dial(upstream).await?);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .handshake(stream)
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(sender)
}

async fn connect(upstream: &Upstream) -> io::Result<Connection> {
    let stream = dial(upstream).await?;
    let Protocol::Tls(config) = &upstream.protocol else { return Ok(Connection::new(stream)) };
    let name = ServerName::try_from(host(upstream).to_owned()).map_err(io::Error::other)?;
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await;
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Connection::new(Stream::other(stream)))
}

async fn dial(upstream: &Upstream) -> io::Result<TcpStream> {
    let port = upstream.authority.port_u16().unwrap_or(upstream.protocol.port());
    let connecting = TcpStream::connect((host(upstream), port));
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(stream)
}

/// An IPv6 address is written in brackets in a URL, and without them everywhere else.
fn host(upstream: &Upstream) -> &str {
    upstream.authority.host().trim_start_matches('[').trim_end_matches(']')
}
