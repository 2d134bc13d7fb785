//! Whether the client is still there while its request is worked on.

use super::shared::{Shared, lock};
use crate::held::{Held, Hold};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// A client that has closed its sending half may still read: it gets its answer, which the service
/// bounds by a time-out until it begins. Then it must go on within this. Whoever closed both halves looks
/// the same until something is sent.
const HALF_CLOSED_PAUSE: Duration = Duration::from_secs(60);
/// Bytes of the next requests that are read ahead.
const AHEAD_BYTES_MAX: usize = 4 * 1024;

/// Of one request.
pub(super) struct Watch<'a> {
    /// Where half-closed ones are counted.
    counted: Option<&'a Arc<Held>>,
    /// It would be answered the same when it is sent again.
    may_be_repeated: bool,
    closed: Option<Closed>,
}

/// From the moment when the client closed its sending half.
struct Closed {
    hold: Option<Hold>,
    /// Once the answer has begun.
    timer: Option<Pin<Box<Sleep>>>,
    /// What was written when the wait began.
    written: u64,
}

impl<'a> Watch<'a> {
    pub fn new(counted: Option<&'a Arc<Held>>, may_be_repeated: bool) -> Self {
        Self { counted, may_be_repeated, closed: None }
    }

    /// Ready when nobody waits for the answer any more. While the request's body is being read,
    /// it is its reader who notices.
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

/// Works until it is done, or nobody waits for it any more. What had to wait for something goes on when
/// all others that go on now have been here.
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

/// Until all tasks that are ready by now have had their turn, without a look for what else has come
/// (which `yield_now` has). Answers that come together are all read first and all written then: for
/// the kernel to do the same several times over costs less than two things in turn.
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
