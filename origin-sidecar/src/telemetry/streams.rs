//! Streams, which last until the application ends them, and the connections that carry them.

use prometheus::IntGauge;
use std::sync::atomic::AtomicI64;

/// The kind of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// A WebSocket, or another protocol that a connection changed to.
    Upgrade,
    /// `text/event-stream`
    Events,
    Grpc,
}

impl Stream {
    pub const ALL: [Self; 3] = [Self::Upgrade, Self::Events, Self::Grpc];

    pub fn label(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Events => "events",
            Self::Grpc => "grpc",
        }
    }

    /// The stream that an answer with this `Content-Type` is, if it is one.
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let is = |prefix: &[u8]| {
            content_type.get(..prefix.len()).is_some_and(|own| own.eq_ignore_ascii_case(prefix))
        };
        match () {
            () if is(b"text/event-stream") => Some(Self::Events),
            () if is(b"application/grpc") => Some(Self::Grpc),
            () => None,
        }
    }
}

/// Open streams, and the connections that carry them.
pub struct Streams {
    pub(super) open: [IntGauge; 3],
    /// Connections with one stream or more.
    pub(super) connections: AtomicI64,
}

impl Streams {
    pub(super) fn new(open: [IntGauge; 3]) -> Self {
        Self { open, connections: AtomicI64::new(0) }
    }

    pub(super) fn open(&self, stream: Stream) -> &IntGauge {
        let [upgrade, events, grpc] = &self.open;
        match stream {
            Stream::Upgrade => upgrade,
            Stream::Events => events,
            Stream::Grpc => grpc,
        }
    }
}
