//! HTTP/2 connections to one upstream: as many as its calls need.
//!
//! An application says how many calls it takes on one connection at once. hyper would hold further ones
//! back until one of those ends, which may be a stream that never does.

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

/// To one upstream, per thread: as many as are kept of HTTP/1.1. Further calls wait for one that ends.
const CONNECTIONS_MAX: usize = 1024;
/// A connection beyond the first that has had no call in so many looks, which are 5 s apart, is closed.
const LOOKS_MAX: u32 = 3;

#[derive(Default)]
pub struct Links {
    open: Mutex<Vec<Arc<Link>>>,
    /// One is made at a time: most of those who wait find room on it.
    connecting: tokio::sync::Mutex<()>,
    /// Connections that could not be made.
    failed: AtomicU64,
    /// Told when there is room where there was none.
    freed: Arc<Notify>,
}

/// One connection.
pub struct Link {
    sender: SendRequest<Body>,
    /// Calls that have a place on it.
    taken: AtomicUsize,
    /// Calls that it takes at once.
    most: watch::Receiver<usize>,
    /// Looks since its last call.
    looks: AtomicU32,
    freed: Arc<Notify>,
}

/// A call's place on a connection; to be held until the call has ended both ways.
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
    /// A place for a call, on another connection than those that refused it.
    ///
    /// # Errors
    /// When there is no room and no further connection can be made.
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

    /// A place on a connection that stands and has room.
    fn take(&self, refused: &[Arc<Link>]) -> Option<StreamPermit> {
        let mut open = self.lock();
        open.retain(|link| !link.sender.is_closed());
        let is_refused = |link: &Arc<Link>| refused.iter().any(|it| Arc::ptr_eq(it, link));
        let link = open.iter().find(|link| link.has_room() && !is_refused(link))?;
        link.taken.fetch_add(1, Ordering::Relaxed);
        link.looks.store(0, Ordering::Relaxed);
        Some(StreamPermit(Arc::clone(link)))
    }

    /// Closes connections that have ended or are not needed any more.
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
    /// Places are taken under the lock of the connections only, and given back at any time.
    fn has_room(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < *self.most.borrow()
    }
}

/// Connects, and waits until the upstream has said how many calls it takes: more of them could be an
/// error of the whole connection.
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

/// What the upstream says of a connection is heard by a task of hyper's, which tells nobody.
#[derive(Default)]
struct Seen {
    waker: AtomicWaker,
    /// It has said how many calls it takes.
    is_known: AtomicBool,
}

/// Runs hyper's tasks, and has the connection looked at after each step until that is known.
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
