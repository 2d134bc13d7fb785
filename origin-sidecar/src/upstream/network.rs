//! One thread's connections to all upstreams.

use super::circuit_breaker::CircuitBreaker;
use super::dial::{address, dial, host};
use super::links::Links;
use super::outgoing::Failure;
use super::server::{Protocol, Upstream};
use super::servers::Servers;
use crate::message::body::Body;
use http::{Request, Response};
use http1::client::Connection;
use http1::head::HeadLimits;
use http1::pool::Pool;
use http1::stream::Stream;
use net::boxed::Boxed;
use rules::Problem;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long an idle connection is kept: shorter than the keep-alive of common servers, so that a
/// request seldom meets a closing connection. Node.js announces its 5 s, which is respected;
/// gunicorn does not announce its 2 s. Retries cover requests that may be repeated, and the others
/// take no connection that may be about to close ([`http1::pool::For`]).
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Idle connections to one upstream per thread, as many as Envoy allows for all by default. With
/// fewer than are busy at once, each burst would open and close the rest.
const IDLE_CONNECTIONS_MAX: usize = 1024;
/// How often old idle connections are closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// A proxy that accepts connections for an absent application closes them within this time.
const CLOSED_WITHIN: Duration = Duration::from_millis(100);

/// Where requests are sent.
pub enum Upstreams {
    Network(Network),
    /// They are answered in this process, by the application of a simulation.
    Local(Local),
}

/// The function that answers instead of the network.
pub type Local =
    Arc<dyn Fn(Request<Body>) -> Boxed<'static, Result<Response<Body>, Failure>> + Send + Sync>;

impl Upstreams {
    /// Checks with an empty connection whether the upstream accepts connections.
    ///
    /// # Errors
    /// Nobody listens there, does not answer in time, has the wrong certificate, or closes the
    /// connection at once.
    pub async fn probe(&self, upstream: &Upstream) -> io::Result<()> {
        match self {
            Self::Network(network) => network.probe(upstream).await,
            Self::Local(answer) => match answer(Request::new(Body::empty())).await {
                Err(failure) if failure.is_unsent => Err(io::Error::other(failure.detail)),
                _ => Ok(()),
            },
        }
    }
}

/// The connections of one thread.
pub struct Network {
    /// The connections by the slots of the servers.
    ways: Vec<UpstreamConnections>,
    connect_timeout: Duration,
    /// The size limits for heads of answers.
    head: HeadLimits,
}

/// The connections to one upstream.
pub enum UpstreamConnections {
    /// Each connection carries one request at a time.
    Http1 { pool: Arc<Pool>, breaker: CircuitBreaker },
    /// Each connection carries as many requests as the upstream accepts.
    Http2 { links: Links, breaker: CircuitBreaker },
}

impl Network {
    pub fn new(servers: &Servers) -> Self {
        let way = |upstream: &Upstream| match upstream.protocol {
            Protocol::Http1 | Protocol::Tls(_) => {
                let pool = Arc::new(Pool::new(IDLE_CONNECTIONS_MAX, IDLE_MAX));
                UpstreamConnections::Http1 { pool, breaker: CircuitBreaker::default() }
            }
            Protocol::Http2 => UpstreamConnections::Http2 {
                links: Links::default(),
                breaker: CircuitBreaker::default(),
            },
        };
        let ways = servers.all().map(|server| way(server)).collect();
        Self { ways, connect_timeout: servers.connect_timeout, head: servers.head }
    }

    /// The connections to an upstream.
    ///
    /// # Errors
    /// The process did not start with this upstream.
    pub fn way(&self, upstream: &Upstream) -> Result<&UpstreamConnections, Failure> {
        self.ways.get(upstream.slot.0).ok_or_else(|| Failure {
            problem: Problem::Internal,
            detail: format!("upstream {} is not bound", upstream.name),
            is_unsent: true,
        })
    }

    /// How long a connection attempt may take.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Closes old idle connections, for as long as the thread runs.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            for way in &self.ways {
                match way {
                    UpstreamConnections::Http1 { pool, .. } => pool.sweep(),
                    UpstreamConnections::Http2 { links, .. } => links.sweep(),
                }
            }
        }
    }
}

impl Network {
    async fn probe(&self, upstream: &Upstream) -> io::Result<()> {
        let probing = async {
            if matches!(upstream.protocol, Protocol::Tls(_)) {
                return connect(upstream, None).await.map(drop);
            }
            let stream = dial(upstream, None).await?;
            match timeout(CLOSED_WITHIN, stream.peek(&mut [0])).await {
                Ok(Ok(0)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed at once")),
                Ok(Err(error)) => Err(error),
                Ok(Ok(_)) | Err(_) => Ok(()),
            }
        };
        let probed = timeout(self.connect_timeout, probing).await;
        probed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Opens a connection that carries one request at a time.
    ///
    /// # Errors
    /// Nobody listens there, does not answer in time, or has the wrong certificate; and for a
    /// moment after several such failures.
    pub async fn connect(
        &self,
        upstream: &Upstream,
        breaker: &CircuitBreaker,
    ) -> io::Result<Connection> {
        let connected =
            breaker.connected(self.connect_timeout, |good| connect(upstream, good)).await;
        connected.map(|connection| connection.limited(self.head))
    }
}

async fn connect(
    upstream: &Upstream,
    good: Option<IpAddr>,
) -> io::Result<(Connection, Option<IpAddr>)> {
    let stream = dial(upstream, good).await?;
    let address = address(&stream);
    let Protocol::Tls(config) = &upstream.protocol else {
        return Ok((Connection::new(stream), address));
    };
    let name = ServerName::try_from(host(upstream).to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    Ok((Connection::new(Stream::other(stream)), address))
}
