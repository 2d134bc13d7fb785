//! A connection to an upstream, between requests.

use crate::conn::Conn;
use crate::head::HeadLimits;
use crate::stream::Stream;
use bytes::BytesMut;
use std::task::{Context, Waker};
use std::time::Duration;

/// A connection that is free for a request.
pub struct Connection(pub(crate) Box<Conn>);

impl Connection {
    /// A connection over a stream on which nothing was sent or received.
    pub fn new(stream: impl Into<Stream>) -> Self {
        Self(Box::new(Conn::patient(stream.into())))
    }

    /// A connection whose answers may have larger or smaller heads than usual.
    pub fn limited(mut self, limits: HeadLimits) -> Self {
        self.0.progress.limits = limits;
        self
    }

    /// How long it was idle before the request that it carries now.
    pub(crate) fn was_idle_for(&mut self, time: Duration) {
        self.0.idle_for = time;
    }

    pub(crate) fn idle_for(&self) -> Duration {
        self.0.idle_for
    }

    /// Whether nothing came while nobody asked: neither bytes nor the end. Costs no system call
    /// unless there is something to read.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.0.poll_read(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Frees the memory into which it reads and from which it writes.
    pub(crate) fn let_go(&mut self) {
        self.0.read = BytesMut::new();
        self.0.room = Vec::new();
    }
}
