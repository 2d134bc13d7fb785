//! An idle connection: what it waits for between requests, and how little memory it holds meanwhile.

use super::shared::{Shared, lock};
use crate::conn::Error;
use bytes::BytesMut;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long an idle connection is kept: longer than load balancers keep theirs (mostly 60 s), so that they
/// close first and no request meets a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long the server, when it closes, waits for the first request of a connection: one may be on its way.
const UNUSED_GRACE: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct IdleWait {
    is_used: bool,
}

impl IdleWait {
    pub fn after_use() -> Self {
        Self { is_used: true }
    }

    /// Waits for the first bytes of a request, and returns whether some came.
    pub async fn until_bytes(
        &self,
        conn: &Shared,
        closing: Pin<&mut Closing<impl Future<Output = ()>>>,
    ) -> Result<bool, Error> {
        // No memory is held for a request that may never come.
        lock(conn).read = BytesMut::new();
        let mut bytes = std::pin::pin!(poll_fn(|context| {
            let mut conn = lock(conn);
            let read = conn.poll_read(context);
            if read.is_pending() {
                conn.read = BytesMut::new();
            }
            read
        }));
        tokio::select! {
            biased;
            read = bytes.as_mut() => return Ok(read? > 0),
            () = sleep(IDLE_TIMEOUT) => return Ok(false),
            () = closing => {}
        }
        if self.is_used {
            return Ok(false);
        }
        let late = timeout(UNUSED_GRACE, bytes).await;
        Ok(late.is_ok_and(|read| read.is_ok_and(|bytes| bytes > 0)))
    }
}

/// The signal to close, which may be asked again after it came.
pub(super) struct Closing<F> {
    /// The signal; none once it came.
    signal: Option<Pin<Box<F>>>,
}

impl<F: Future<Output = ()>> Closing<F> {
    pub fn new(signal: F) -> Self {
        Self { signal: Some(Box::pin(signal)) }
    }
}

impl<F: Future<Output = ()>> Future for Closing<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(signal) = &mut self.signal {
            ready!(signal.as_mut().poll(context));
            self.signal = None;
        }
        Poll::Ready(())
    }
}
