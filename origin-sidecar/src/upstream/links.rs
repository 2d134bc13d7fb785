//! The HTTP/2 connections to one upstream: as many as its calls need.
//!
//! An upstream says how many concurrent calls it accepts on a connection. hyper would hold further
//! calls back until one of them ends, and a stream may never end.

use super::circuit_breaker::CircuitBreaker;
use super::dial::{KEEPALIVE, address, dial};
use super::server::Upstream;
use crate::message::body::Body;
use futures_util::task::AtomicWaker;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Connections to one upstream per thread, as with HTTP/1.1. Further calls wait for one that ends.
const CONNECTIONS_MAX: usize = 1024;
/// A connection other than the first is closed when it had no call in this many sweeps, which are 5
/// s apart.
const LOOKS_MAX: u32 = 3;

#[derive(Default)]
pub struct Links {
    open: Mutex<Vec<Arc<Link>>>,
    /// Connections are opened one at a time: most of those who wait find room on the new one.
    connecting: tokio::sync::Mutex<()>,
    /// The number of failed attempts to connect.
    failed: AtomicU64,
    /// Notified when a stream becomes free where there was none.
    freed: Arc<Notify>,
}

/// One connection.
pub struct Link {
    sender: SendRequest<Body>,
    /// The number of calls that hold a stream.
    taken: AtomicUsize,
    /// The number of concurrent calls that the upstream accepts.
    most: watch::Receiver<usize>,
    /// Sweeps since its last call.
    looks: AtomicU32,
    freed: Arc<Notify>,
}

/// A call's stream on a connection, held until the call has ended in both directions.
pub struct StreamPermit(Arc<Link>);

impl StreamPermit {
    pub fn sender(&self) -> SendRequest<Body> {
        self.0.sender.clone()
    }

    pub fn link(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

impl Links {
    /// Takes a stream for a call, on another connection than those in `refused`.
    ///
    /// # Errors
    /// There is no free stream and no further connection can be opened.
    pub async fn place(
        &self,
        connect_timeout: Duration,
        (upstream, breaker): (&Upstream, &CircuitBreaker),
        refused: &[Arc<Link>],
    ) -> io::Result<StreamPermit> {
        loop {
            let failed = self.failed.load(Ordering::Relaxed);
            if let Some(place) = self.take(refused) {
                return Ok(place);
            }
            let connecting = self.connecting.lock().await;
            if let Some(place) = self.take(refused) {
                return Ok(place);
            }
            if self.failed.load(Ordering::Relaxed) != failed {
                return Err(io::Error::other("circuit open: the last connection attempts failed"));
            }
            if self.lock().len() >= CONNECTIONS_MAX {
                drop(connecting);
                self.freed.notified().await;
                continue;
            }
            let made = breaker.connected(connect_timeout, |good| open(upstream, good, &self.freed));
            match made.await {
                Ok(link) => self.lock().push(Arc::new(link)),
                Err(error) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    }

    /// Takes a stream on an open connection with room.
    fn take(&self, refused: &[Arc<Link>]) -> Option<StreamPermit> {
        let mut open = self.lock();
        open.retain(|link| !link.sender.is_closed());
        let is_refused = |link: &Arc<Link>| refused.iter().any(|it| Arc::ptr_eq(it, link));
        let link = open.iter().find(|link| link.has_room() && !is_refused(link))?;
        link.taken.fetch_add(1, Ordering::Relaxed);
        link.looks.store(0, Ordering::Relaxed);
        Some(StreamPermit(Arc::clone(link)))
    }

    /// Closes connections that have ended or are no longer needed.
    pub fn sweep(&self) {
        let mut at = 0;
        self.lock().retain(|link| {
            let is_idle = link.taken.load(Ordering::Relaxed) == 0;
            let is_old = is_idle && link.looks.fetch_add(1, Ordering::Relaxed) >= LOOKS_MAX;
            at += 1;
            !link.sender.is_closed() && (at == 1 || !is_old)
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Streams are taken only under the lock of the connections, but returned at any time.
    fn has_room(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < *self.most.borrow()
    }
}

/// Connects, and waits until the upstream has said how many calls it accepts: more of them could be
/// a connection error.
async fn open(
    upstream: &Upstream,
    good: Option<IpAddr>,
    freed: &Arc<Notify>,
) -> io::Result<(Link, Option<IpAddr>)> {
    let stream = dial(upstream, good).await?;
    let address = address(&stream);
    let seen = Arc::new(Seen::default());
    let (sender, mut connection) = http2::Builder::new(Watching(Arc::clone(&seen)))
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .initial_max_send_streams(0)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let (told, mut most) = watch::channel(0);
    let has_more = Arc::clone(freed);
    tokio::spawn(async move {
        let ended = poll_fn(|context| {
            seen.waker.register(context.waker());
            let polled = Pin::new(&mut connection).poll(context);
            let now = connection.current_max_send_streams();
            let is_new = |most: &mut usize| std::mem::replace(most, now) != now;
            if told.send_if_modified(is_new) {
                seen.is_known.store(now > 0, Ordering::Relaxed);
                has_more.notify_one();
            }
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    let known = most.wait_for(|most| *most > 0).await.map(|_| ());
    known.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
    let (taken, looks) = (AtomicUsize::new(0), AtomicU32::new(0));
    Ok((Link { sender, taken, most, looks, freed: Arc::clone(freed) }, address))
}

/// Observes the settings that the upstream sends. hyper's task receives them without notifying
/// anybody.
#[derive(Default)]
struct Seen {
    waker: AtomicWaker,
    /// Whether the upstream has said how many calls it accepts.
    is_known: AtomicBool,
}

/// Runs hyper's tasks, and checks the connection after each step until its settings are known.
#[derive(Clone)]
struct Watching(Arc<Seen>);

impl<F> Executor<F> for Watching
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let seen = Arc::clone(&self.0);
        TokioExecutor::new().execute(async move {
            let mut task = pin!(task);
            poll_fn(|context| {
                let polled = task.as_mut().poll(context);
                if !seen.is_known.load(Ordering::Relaxed) {
                    seen.waker.wake();
                }
                polled
            })
            .await
        });
    }
}
