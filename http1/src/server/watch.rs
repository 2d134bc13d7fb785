//! Watches whether the client is still there while its request is handled.

use super::shared::{Shared, lock};
use crate::held::{Held, Hold};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// How long an answer may pause for a client that has closed its sending half. Such a client may still read,
/// so it gets its answer; until that begins, the service's timeout is the limit. A client that has closed
/// both halves looks the same until something is sent.
const HALF_CLOSED_PAUSE: Duration = Duration::from_secs(60);
/// How many bytes of the next requests are read ahead.
const AHEAD_BYTES_MAX: usize = 4 * 1024;

/// The watch of one request.
pub(super) struct Watch<'a> {
    /// The limit under which half-closed clients are counted.
    counted: Option<&'a Arc<Held>>,
    /// Whether the request may be repeated.
    may_be_repeated: bool,
    closed: Option<Closed>,
}

/// The place that it holds from the moment when the client closed its sending half.
struct Closed {
    hold: Option<Hold>,
    /// The time limit, once the answer has begun.
    timer: Option<Pin<Box<Sleep>>>,
    /// How much had been written when the wait began.
    written: u64,
}

impl<'a> Watch<'a> {
    pub fn new(counted: Option<&'a Arc<Held>>, may_be_repeated: bool) -> Self {
        Self { counted, may_be_repeated, closed: None }
    }

    /// Ready when nobody waits for the answer any more. While the request's body is being read, its reader
    /// notices that.
    pub fn poll_gone(
        &mut self,
        context: &mut Context<'_>,
        conn: &Shared,
        written: u64,
    ) -> Poll<()> {
        let mut conn = lock(conn);
        if !conn.is_done() {
            return Poll::Pending;
        }
        while self.closed.is_none() {
            if conn.read.len() >= AHEAD_BYTES_MAX {
                return Poll::Pending;
            }
            match ready!(conn.poll_read(context)) {
                Ok(0) => {
                    let hold = self.counted.map(|held| held.enter(!self.may_be_repeated));
                    self.closed = Some(Closed { hold, timer: None, written: 0 });
                }
                Ok(_) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        drop(conn);
        self.closed.as_mut().map_or(Poll::Pending, |closed| closed.poll_gone(context, written))
    }

    pub fn is_half_closed(&self) -> bool {
        self.closed.is_some()
    }
}

impl Closed {
    fn poll_gone(&mut self, context: &mut Context<'_>, written: u64) -> Poll<()> {
        if let Some(hold) = &mut self.hold
            && Pin::new(hold).poll(context).is_ready()
        {
            return Poll::Ready(());
        }
        if written > self.written || (written > 0 && self.timer.is_none()) {
            self.written = written;
            self.timer = Some(Box::pin(sleep(HALF_CLOSED_PAUSE)));
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(context))
    }
}

/// Runs the service until it is done, or nobody waits for it any more. A service that had to wait goes on
/// after all others that are ready now have had their turn.
pub(super) async fn attended<F: Future>(
    conn: &Shared,
    watch: &mut Watch<'_>,
    mut work: Pin<&mut F>,
) -> Option<F::Output> {
    let mut has_waited = false;
    let done = poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        has_waited = true;
        watch.poll_gone(context, conn, 0).map(|()| None)
    })
    .await?;
    if has_waited {
        after_others().await;
    }
    Some(done)
}

/// Waits until all tasks that are ready by now have had their turn, without polling for new events, as
/// `yield_now` does. So answers that come together are first all read and then all written, which costs the
/// kernel less than reading and writing in turn.
async fn after_others() {
    let mut has_waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
