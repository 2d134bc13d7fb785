//! What a service is given: the body of the request, and an exchange with its client.

use super::shared::{Shared, lock};
use crate::conn::Error;
use crate::encode;
use crate::framing::{Framing, is_ours};
use crate::stream::Upgraded;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;

/// The body of a request, read from the connection as it is asked for: a service that does not
/// read makes the client wait.
pub struct RequestBody {
    /// The connection to read from; none where there is no body.
    conn: Option<Shared>,
    message: u64,
    left: Option<u64>,
}

impl RequestBody {
    pub(super) fn new(conn: &Shared, framing: Framing, message: u64) -> Self {
        let (conn, left) = match framing {
            Framing::None => (None, Some(0)),
            Framing::Length(bytes) => (Some(conn.clone()), Some(bytes)),
            Framing::Chunked | Framing::UntilClose => (Some(conn.clone()), None),
        };
        Self { conn, message, left }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let body = self.get_mut();
        let Some(shared) = &body.conn else { return Poll::Ready(None) };
        let mut conn = lock(shared);
        if conn.message != body.message {
            return Poll::Ready(Some(Err(Error::Closed)));
        }
        while !conn.continue_owed.is_empty() {
            if conn.has_answered {
                return Poll::Ready(Some(Err(Error::Closed)));
            }
            let owed = conn.continue_owed;
            let written = ready!(Pin::new(&mut conn.stream).poll_write(context, owed));
            match written {
                Ok(written) => conn.continue_owed = owed.get(written..).unwrap_or_default(),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
        let frame = ready!(conn.poll_frame(context));
        let is_over = conn.is_done() || !matches!(frame, Some(Ok(_)));
        drop(conn);
        if let (Some(left), Some(Ok(frame))) = (&mut body.left, &frame) {
            *left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        if is_over {
            body.conn = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.conn.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What a service can tell the client of a request besides the answer.
#[derive(Clone)]
pub struct Exchange {
    conn: Shared,
    message: u64,
    version: Version,
}

impl Exchange {
    pub(super) fn new(conn: &Shared, message: u64, version: Version) -> Self {
        Self { conn: conn.clone(), message, version }
    }

    /// Sends an interim answer, 103 Early Hints say (RFC 9110 section 15.2). HTTP/1.0 has none, and
    /// one that comes after the answer is dropped.
    pub async fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        if self.version == Version::HTTP_10 || !status.is_informational() {
            return;
        }
        let mut head = Vec::new();
        encode::status_line(&mut head, status, None);
        for (name, value) in headers.iter().filter(|(name, _)| !is_ours(name, status)) {
            encode::field(&mut head, name.as_str(), value.as_bytes());
        }
        encode::end(&mut head);
        let mut sent = 0;
        std::future::poll_fn(|context| {
            while let Some(rest) = head.get(sent..).filter(|rest| !rest.is_empty()) {
                let mut conn = lock(&self.conn);
                if conn.message != self.message || conn.has_answered {
                    break;
                }
                // Whoever waits for the answer notices that the client is gone.
                match ready!(Pin::new(&mut conn.stream).poll_write(context, rest)) {
                    Ok(written) if written > 0 => sent += written,
                    _ => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Sets how long the client may pause in its body, or in reading the answer, in place of
    /// [`IDLE_TIMEOUT`](crate::pace::IDLE_TIMEOUT).
    pub fn set_idle_timeout(&self, idle: Duration) {
        let mut conn = lock(&self.conn);
        if conn.message == self.message {
            conn.idle = idle;
        }
    }

    /// Says what becomes of the connection when the answer is 101 (Switching Protocols). It is open,
    /// and counts as a connection, until that has ended.
    pub fn upgrade<T>(&self, tunnel: impl FnOnce(Upgraded) -> T + Send + Sync + 'static)
    where
        T: Future<Output = ()> + Send + Sync + 'static,
    {
        let mut conn = lock(&self.conn);
        if conn.message == self.message {
            conn.heir = Some(Box::new(|client| Box::pin(tunnel(client))));
        }
    }
}
