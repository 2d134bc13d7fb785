//! The body of an answer.

use super::call::Call;
use crate::conn::Error;
use crate::connection::Connection;
use crate::pool::Pool;
use crate::stream::Upgraded;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub(super) struct Home {
    pub(super) pool: Arc<Pool>,
    /// The length as the upstream states it.
    pub(super) kept_for: Option<Duration>,
}

/// The body of an answer, read as it is asked for. While it is, the rest of the request goes out.
pub struct ResponseBody<B> {
    /// The connection; none once the body has ended.
    pub(super) call: Option<Box<Call<B>>>,
    /// The pool to which the connection goes when it is free again; none when it must be closed.
    pub(super) home: Option<Home>,
    pub(super) left: Option<u64>,
}

impl<B> ResponseBody<B> {
    /// The connection itself, after 101 (Switching Protocols).
    pub fn into_upgraded(self) -> Option<Upgraded> {
        self.call.map(|mut call| call.conn.take())
    }

    /// The body, if it came whole with its head, so that the connection is free at once.
    pub fn whole(&mut self) -> Option<Bytes> {
        let (call, left) = (self.call.as_mut()?, self.left?);
        if (call.conn.read.len() as u64) < left {
            return None;
        }
        let body = call.conn.buffered().ok().flatten()?.into_data().ok()?;
        self.left = Some(0);
        self.finish();
        Some(body)
    }

    pub(super) fn finish(&mut self) {
        let Some(call) = self.call.take() else { return };
        // A connection is not used again when the upstream answered before it had read everything, or sent
        // more than its answer.
        if let Some(home) = self.home.take()
            && call.writer.is_none()
            && call.conn.read.is_empty()
        {
            home.pool.put(Connection(call.conn), home.kept_for);
        }
    }
}

impl<B: Body<Data = Bytes, Error = io::Error> + Unpin> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let body = self.get_mut();
        let Some(call) = &mut body.call else { return Poll::Ready(None) };
        call.poll_write(context)?;
        if call.broken.is_some() {
            body.home = None;
        }
        let frame = ready!(call.conn.poll_frame(context));
        let is_done = call.conn.is_done();
        if let (Some(left), Some(Ok(frame))) = (&mut body.left, &frame) {
            *left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        match &frame {
            Some(Err(_)) => body.call = None,
            _ if is_done => body.finish(),
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.call.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
