//! A body that is cut off at a moment.

use bytes::Bytes;
use http_body::{Body, Frame};
use prometheus::IntCounter;
use rules::Problem;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

/// A body of an exchange that may not last for ever.
pub struct Ending<B> {
    pub body: B,
    timer: Pin<Box<Sleep>>,
    /// Counts those that were cut off.
    cut: IntCounter,
}

impl<B: Body<Data = Bytes, Error = io::Error> + Unpin> Ending<B> {
    pub fn new(body: B, end: Instant, cut: IntCounter) -> Self {
        Self { body, timer: Box::pin(sleep_until(end)), cut }
    }

    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.timer.as_mut().poll(context).is_pending() {
            return Pin::new(&mut self.body).poll_frame(context);
        }
        self.cut.inc();
        tracing::debug!(problem = Problem::TotalTimeout.name(), "cut off");
        Poll::Ready(Some(Err(io::Error::other(Problem::TotalTimeout.name()))))
    }
}
