//! Listeners, connections and the drain.
//!
//! There is one thread per core. Each has its own runtime, listener (SO_REUSEPORT) and connections
//! to the application: measured in docs/decisions/0001-threads.md.

use super::context::{ProxyContext, Worker};
use super::front::Front;
use super::http2;
use crate::drain::DrainState;
use crate::jobs::context::JobContext;
use crate::memory;
use crate::message::fields::TrustedProxies;
use crate::request::inbound::Peer;
use crate::upstream::network::Upstreams;
use http1::head::HeadLimits;
use http1::server::{self, Served, Tolerance};
use http1::stream::Stream;
use socket2::{Domain, Socket, TcpKeepalive, Type};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

/// Connections of one thread; an idle one costs about 2 KiB.
pub const CONNECTIONS_MAX: usize = 10_000;
/// How long a TLS handshake may take; a slower client is slow on purpose.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Protocols offered in TLS, the preferred one first.
pub const ALPN: [&str; 2] = ["h2", "http/1.1"];
/// How often the drain checks whether adopted executions have ended.
const IDLE_POLL: Duration = Duration::from_millis(20);
/// Connections that the kernel queues for us while we are busy.
const BACKLOG: i32 = 1024;

/// A connection that is silent for this long gets TCP keep-alive probes; the kernel gives up after
/// nine.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Why a connection ended early.
type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

/// The options of a serving thread.
#[derive(Clone)]
pub struct Options {
    pub trusted: Arc<TrustedProxies>,
    pub grace: Duration,
    /// The tolerance for slow clients, shared by all threads.
    pub tolerance: Arc<Tolerance>,
    /// The size limits for heads of requests.
    pub head: HeadLimits,
    /// Accepts TLS; none serves without TLS.
    pub tls: Option<TlsAcceptor>,
}

/// A listener that shares its port with those of the other threads.
///
/// # Errors
/// The address can't be bound.
pub fn listen_shared(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    open(address, true)
}

/// A listener that fails where anybody else has the port.
///
/// # Errors
/// The address can't be bound.
pub fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    open(address, false)
}

fn open(address: SocketAddr, is_shared: bool) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    // Accepted connections inherit it: an upgraded connection may be silent for as long as its
    // peer's kernel answers.
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL),
    )?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Runs one thread's accept loop until the drain, then lets its requests finish.
pub async fn run(
    context: Arc<ProxyContext>,
    jobs: Arc<JobContext>,
    listener: std::net::TcpListener,
    options: Options,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let worker = Arc::new(Worker::new(Arc::clone(&context), jobs));
    let swept = Arc::clone(&worker);
    tokio::spawn(async move {
        if let Upstreams::Network(network) = &swept.client().upstreams {
            network.sweep().await;
        }
    });
    let freeing = Arc::clone(&context);
    tokio::spawn(async move { freeing.freed.keep_giving_back().await });
    let idle = Arc::clone(&worker);
    tokio::spawn(async move { memory::give_back_when_idle(&idle.let_go).await });
    let mut draining = context.drain.draining();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Every connection holds a sender; when the last is gone, `recv` ends.
    let (open, mut closed) = mpsc::channel::<Infallible>(1);
    let start = |stream, peer, slot: Option<OwnedSemaphorePermit>| {
        let (worker, options, open) = (Arc::clone(&worker), options.clone(), open.clone());
        tokio::spawn(async move {
            connection(worker, stream, peer, options).await;
            drop((slot, open));
        });
    };
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        tokio::select! {
            biased;
            () = DrainState::begun(&mut draining) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => start(stream, peer, Some(slot)),
                Err(error) => {
                    // The process is out of descriptors: it can only wait for some to be closed.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    // Accepts connections in the backlog: closing the listener would reset them.
    let listener = listener.into_std()?;
    while let Ok((stream, peer)) = listener.accept() {
        stream.set_nonblocking(true)?;
        start(TcpStream::from_std(stream)?, peer, None);
    }
    drop(listener);
    drop(open);
    let finished = async {
        closed.recv().await;
        // Adopted executions outlive their connections, and need this thread's runtime.
        while !context.metrics.is_idle() {
            tokio::time::sleep(IDLE_POLL).await;
        }
    };
    let mut ending = context.drain.ending();
    let grace = async {
        DrainState::begun(&mut ending).await;
        tokio::time::sleep(options.grace).await;
    };
    tokio::select! {
        () = finished => {}
        () = grace => {
            tracing::warn!(grace = ?options.grace, "requests or streams were still open at the end of the grace period");
        }
    }
    Ok(())
}

async fn connection(worker: Arc<Worker>, stream: TcpStream, peer: SocketAddr, options: Options) {
    // A head and a small body go out in one write, so that Nagle's algorithm would only add
    // latency.
    let _ = stream.set_nodelay(true);
    let metrics = Arc::clone(&worker.context.metrics);
    metrics.http.connections.inc();
    let address = peer.ip();
    let peer = Peer::new(address, options.trusted.trust(address), options.tls.is_some());
    let (tolerance, head) = (options.tolerance, options.head);
    let front = Arc::new(Front { worker: Arc::clone(&worker), peer, tolerance, head });
    let spoken = match options.tls {
        // Boxed: the future of every idle connection is as large as its largest branch.
        Some(acceptor) => Box::pin(secure(stream, acceptor, front)).await,
        None => speak(stream.into(), front).await,
    };
    if let Err(error) = spoken {
        tracing::debug!(peer = %address, %error, "connection ended");
    }
    metrics.http.connections.dec();
    worker.let_go.notify_one();
}

/// Does the TLS handshake, in which both sides agree on a protocol.
async fn secure(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    front: Arc<Front>,
) -> Result<(), ConnectionError> {
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
    if stream.get_ref().1.alpn_protocol() == Some(ALPN[0].as_bytes()) {
        return Ok(Box::pin(http2::serve(stream, front)).await?);
    }
    speak(Stream::other(stream), front).await
}

/// Speaks HTTP/1.1, or HTTP/2 if the client begins with it.
async fn speak(stream: Stream, front: Arc<Front>) -> Result<(), ConnectionError> {
    let mut draining = front.worker.context.drain.draining();
    let drained = async move { DrainState::begun(&mut draining).await };
    match server::serve(stream, front.as_ref(), drained).await? {
        Served::Closed => Ok(()),
        Served::Http2(stream) => Ok(Box::pin(http2::serve(stream, front)).await?),
    }
}
