//! Listening, connections and the drain.
//!
//! One thread per core, each with its own runtime, listener (SO_REUSEPORT) and connections to
//! the app: measured in docs/decisions/0001-threads.md.

use super::Worker;
use super::handle::handle;
use super::inbound::Peer;
use crate::app::App;
use http::{HeaderValue, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A client that has not sent its request head by then is slow on purpose.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a request head, twice nginx's default of four 8 KiB buffers less its slack.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Header lines of one request; more is an attack or a bug.
const HEADERS_MAX: usize = 100;
/// Connections of one thread; each costs about 6 KiB.
const CONNECTIONS_MAX: usize = 10_000;
/// How long the drain waits for the first request of a connection that never had one: a request
/// may be on its way.
const UNUSED_GRACE: Duration = Duration::from_millis(500);
/// How often the drain looks whether adopted executions have ended.
const IDLE_POLL: Duration = Duration::from_millis(20);
/// Connections the kernel holds for us while we are busy.
const BACKLOG: i32 = 1024;

/// What a serving thread needs to know besides the app.
#[derive(Clone)]
pub struct Options {
    pub trusted: Arc<[crate::fields::Cidr]>,
    pub grace: Duration,
}

/// A listener that shares its port with those of the other threads.
///
/// # Errors
/// When the address can't be bound.
pub fn listen_shared(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    open(address, true)
}

/// A listener of its own: fails where anybody else has the port.
///
/// # Errors
/// When the address can't be bound.
pub fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    open(address, false)
}

fn open(address: SocketAddr, is_shared: bool) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Runs one thread's accept loop until the drain, then lets its requests finish.
pub async fn run(
    app: Arc<App>,
    listener: std::net::TcpListener,
    options: Options,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let worker = Arc::new(Worker::new(Arc::clone(&app)));
    let mut draining = app.draining();
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
            () = App::drained(&mut draining) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => start(stream, peer, Some(slot)),
                Err(error) => {
                    // Out of descriptors: waiting for some to be closed is all there is to do.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    // Connections that stand already: closing the listener would reset them.
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
        while !app.metrics.is_idle() {
            tokio::time::sleep(IDLE_POLL).await;
        }
    };
    if tokio::time::timeout(options.grace, finished).await.is_err() {
        tracing::warn!(grace = ?options.grace, "requests were still in flight at the end of the grace period");
    }
    Ok(())
}

async fn connection(worker: Arc<Worker>, stream: TcpStream, peer: SocketAddr, options: Options) {
    // A head and a small body go out in one write; waiting for more would only add latency.
    let _ = stream.set_nodelay(true);
    let metrics = Arc::clone(&worker.app.metrics);
    let mut draining = worker.app.draining();
    metrics.http.connections.inc();
    let address = peer.ip();
    let is_trusted = options.trusted.iter().any(|block| block.contains(address));
    let peer = Peer { address, is_trusted };
    let is_used = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&is_used);
    let service = service_fn(move |request| {
        mark.store(true, Ordering::Relaxed);
        let worker = Arc::clone(&worker);
        async move {
            let mut answer = handle(&worker, request, peer).await;
            if worker.app.is_leaving() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                // The next request of this client is for another pod.
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = App::drained(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            if is_used.load(Ordering::Relaxed) {
                connection.await
            } else {
                // Opened ahead and never used: hyper would wait for its first request.
                tokio::time::timeout(UNUSED_GRACE, connection).await.unwrap_or(Ok(()))
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(peer = %address, %error, "connection ended");
    }
    metrics.http.connections.dec();
}
