//! The request body of an HTTP/2 call. Its beginning is buffered, because the call may have to be
//! sent again.

use super::links::StreamPermit;
use super::outgoing::{Failure, of_body};
use crate::message::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes that are buffered until the answer begins, as in gRPC's transparent retry.
const KEPT_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Upload(Arc<Mutex<UploadState>>);

struct UploadState {
    body: Body,
    /// The bytes sent so far; none once they are too many, or the answer has begun.
    kept: Option<BytesMut>,
    /// Why the body broke off. hyper only reports that the stream was reset.
    broken: Option<Failure>,
    /// When the upstream last read from the body.
    since: Instant,
    /// Whether the body's sender is being waited for, not the upstream.
    is_awaited: bool,
    /// The number of the attempt that may read the body.
    attempt: u32,
}

/// The body of one attempt.
struct Attempt {
    state: Arc<Mutex<UploadState>>,
    attempt: u32,
    /// The bytes that earlier attempts have sent.
    again: Bytes,
    _place: Arc<StreamPermit>,
}

fn lock(state: &Mutex<UploadState>) -> MutexGuard<'_, UploadState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Upload {
    pub fn new(body: Body) -> Self {
        let state = UploadState {
            body,
            kept: Some(BytesMut::new()),
            broken: None,
            since: Instant::now(),
            is_awaited: false,
            attempt: 0,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The body for the next attempt.
    pub fn body(&mut self, place: &Arc<StreamPermit>) -> Body {
        let state = lock(&self.0);
        if let Some(body) = state.body.again() {
            return body;
        }
        let again = state.kept.as_ref().map_or_else(Bytes::new, |kept| kept.clone().freeze());
        let (own, attempt) = (Arc::clone(&self.0), state.attempt);
        drop(state);
        let body = Attempt { state: own, attempt, again, _place: Arc::clone(place) };
        Body::boxed(body.boxed_unsync())
    }

    /// Takes the body back from the current attempt. Returns whether it can be sent again from its
    /// beginning.
    pub fn rewind(&mut self) -> bool {
        let mut state = lock(&self.0);
        state.attempt += 1;
        state.broken.is_none() && state.kept.is_some()
    }

    /// Records that the answer has begun: nothing is sent again.
    pub fn answered(&self) {
        lock(&self.0).kept = None;
    }

    /// Why the body broke off, if it did.
    pub fn broken(&self) -> Option<Failure> {
        lock(&self.0).broken.take()
    }

    /// Until when the upstream is waited for, as far as is known now.
    pub fn end(&self, timeout: Duration) -> Instant {
        let state = lock(&self.0);
        let since = if state.is_awaited { Instant::now() } else { state.since };
        since + timeout
    }
}

impl HttpBody for Attempt {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.again.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.again)))));
        }
        let state = &mut *lock(&self.state);
        if state.attempt != self.attempt {
            return Poll::Ready(Some(Err(io::Error::other("sent again elsewhere"))));
        }
        let frame = Pin::new(&mut state.body).poll_frame(context);
        state.is_awaited = frame.is_pending();
        let frame = ready!(frame);
        state.since = Instant::now();
        match &frame {
            Some(Ok(frame)) => state.keep(frame),
            Some(Err(error)) => state.broken = Some(of_body(error)),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_empty() && lock(&self.state).body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let again = self.again.len() as u64;
        let rest = lock(&self.state).body.size_hint();
        rest.exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(again + rest))
    }
}

impl UploadState {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else { return };
        match frame.data_ref() {
            Some(data) if kept.len() + data.len() <= KEPT_BYTES_MAX => kept.extend_from_slice(data),
            // Trailers are not buffered: a request seldom has any.
            _ => self.kept = None,
        }
    }
}
