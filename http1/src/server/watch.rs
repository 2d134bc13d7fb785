//! Whether the client is still there while its request is worked on.

use super::{Shared, lock};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// A client that has closed its sending half may still read: it gets an answer that begins, or goes
/// on, within this. Whoever closed both halves looks the same until something is sent.
const HALF_CLOSED_WAIT: Duration = Duration::from_secs(10);
/// Bytes of the next requests that are read ahead.
const AHEAD_BYTES_MAX: usize = 4 * 1024;

#[derive(Default)]
pub(super) struct Watch {
    closed: Option<Pin<Box<Sleep>>>,
    /// What was written when the wait began.
    written: u64,
}

impl Watch {
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
                Ok(0) => self.closed = Some(Box::pin(sleep(HALF_CLOSED_WAIT))),
                Ok(_) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        drop(conn);
        let Some(timer) = &mut self.closed else { return Poll::Pending };
        ready!(timer.as_mut().poll(context));
        if written > self.written {
            self.written = written;
            *timer = Box::pin(sleep(HALF_CLOSED_WAIT));
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    pub fn is_half_closed(&self) -> bool {
        self.closed.is_some()
    }
}

/// Works until it is done, or nobody waits for it any more. What had to wait for something goes on when
/// all others that go on now have been here.
pub(super) async fn attended<F: Future>(
    conn: &Shared,
    watch: &mut Watch,
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
