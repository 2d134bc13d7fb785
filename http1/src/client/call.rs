//! A request that is being sent, and its connection.

use crate::conn::{Conn, Error};
use crate::connection::Connection;
use crate::head::{self, ResponseHead};
use crate::received::Received;
use crate::writer::{Coding, Writer};
use crate::{encode, lines};
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use http_body::Body;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// A request as it is sent; `headers` have no fields of another connection.
pub struct Outgoing<'a, B> {
    /// The request's method.
    pub method: &'a Method,
    /// The target: path and query, or `*`.
    pub target: &'a str,
    /// Header fields.
    pub headers: &'a HeaderMap,
    /// The fields as they came, so that they are passed on in their spelling and order.
    pub came: &'a Received,
    /// Further fields as they are sent, each a line with its end.
    pub added: &'a str,
    /// The request's body; it is sent while the answer is already read.
    pub body: B,
    /// How long the answer's head is waited for, from `began` or the moment that the upstream took the
    /// last of the request on. Time in which the body's sender is slow does not count.
    pub timeout: Duration,
    /// When the caller began to wait for it.
    pub began: Instant,
}

/// A request that is being sent. It is boxed because it is large and moved often.
pub(super) struct Call<B> {
    pub(super) conn: Box<Conn>,
    /// The rest of the request; none once all of it is sent.
    pub(super) writer: Option<Writer<B>>,
    pub(super) method: Method,
    pub(super) has_heard: bool,
    /// The error of writing, if it failed. What was answered before may still be read; then the call ends.
    pub(super) broken: Option<Error>,
    pub(super) timeout: Duration,
    /// When the call began, or last wrote.
    since: Instant,
    written: u64,
}

impl<B: Body<Data = Bytes, Error = io::Error> + Unpin> Call<B> {
    pub(super) fn begin(connection: Connection, outgoing: Outgoing<'_, B>) -> Box<Self> {
        let Outgoing { method, target, headers, came, added, body, timeout, began: since } =
            outgoing;
        let mut conn = connection.0;
        let mut head = std::mem::take(&mut conn.room);
        encode::request_line(&mut head, method, target);
        came.write(headers, &mut head);
        head.extend_from_slice(added.as_bytes());
        let coding = match body.size_hint().exact() {
            _ if lines::has(headers, &header::CONTENT_LENGTH) => {
                encode::stated(headers).map_or(Coding::None, Coding::Length)
            }
            Some(0) if is_without_body(method) => Coding::None,
            Some(bytes) => {
                encode::content_length(&mut head, bytes);
                Coding::Length(bytes)
            }
            None => {
                encode::field(&mut head, "transfer-encoding", b"chunked");
                Coding::Chunked
            }
        };
        encode::end(&mut head);
        Box::new(Self {
            conn,
            writer: Some(Writer::new(head, coding, body)),
            method: method.clone(),
            has_heard: false,
            broken: None,
            timeout,
            since,
            written: 0,
        })
    }

    /// Goes on writing, if there is something to write.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.broken.is_none()) else {
            return Ok(());
        };
        let polled = writer.poll(context, &mut &mut self.conn.stream);
        // A request that is written at once needs no look at the clock.
        if (self.written > 0 || polled.is_pending()) && writer.written > self.written {
            self.written = writer.written;
            self.since = Instant::now();
        }
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.conn.room = self.writer.take().map_or_else(Vec::new, Writer::into_room);
            }
            Poll::Ready(Err(error @ (Error::Io(_) | Error::Closed))) => {
                // A request of which nothing was written can be sent over another connection.
                self.writer = self.writer.take_if(|writer| writer.written == 0);
                self.broken = Some(error);
            }
            // The client's body failed, and the upstream must not take what came of it for the whole.
            Poll::Ready(Err(error)) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Error>> {
        self.poll_write(context)?;
        loop {
            let conn = &mut *self.conn;
            if let Some(head) = head::response(&mut conn.read, &mut conn.progress)? {
                return Poll::Ready(Ok(head));
            }
            match conn.poll_read(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Error::Closed)),
                Poll::Ready(Ok(_)) => self.has_heard = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    ready!(self.poll_late(context));
                    return Poll::Ready(Err(Error::TooSlow));
                }
            }
        }
    }

    /// Ready when the time for the upstream is over.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.writer.as_ref().is_some_and(Writer::has_written) {
            // The call waits for the rest of the body, not for the upstream.
            return Poll::Pending;
        }
        self.conn.alarm.poll(context, self.since + self.timeout)
    }
}

/// Whether requests of this method usually have no body: without one, no length is sent (RFC 9110 section
/// 8.6).
fn is_without_body(method: &Method) -> bool {
    !matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
