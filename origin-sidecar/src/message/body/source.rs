//! Where the bytes of a body come from.

use crate::message::answered::Answered;
use crate::message::coming::FillingBody;
use crate::message::served_lines::{added_lines, added_status};
use crate::telemetry::in_flight::UnderWay;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http1::block::{Block, Encoded};
use hyper::body::Incoming;
use memory_cache::stored::Stored;
use rules::cache::CacheStatus;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// Bytes at hand, or a stream. `B` is the body of a request to an upstream.
pub enum BodySource<B: Body> {
    Empty,
    Full(Option<Bytes>),
    Served(Box<Served>),
    /// Read while it comes in for the cache.
    Coming(Box<FillingBody>),
    /// A client's, over HTTP/1.1.
    Client(http1::server::RequestBody),
    /// An upstream's, over HTTP/1.1.
    Upstream(Box<http1::client::ResponseBody<B>>),
    /// The same, with the fields that came before it.
    Passed(Box<Passed<B>>),
    /// A client's over HTTP/2, and of the admin port and the webhook's.
    Incoming(Incoming),
    /// An upstream's, over HTTP/2.
    Multiplexed(Box<Answered>),
    /// In a mutex that is never locked: it lets a reference to the body cross an await.
    Boxed(Mutex<UnsyncBoxBody<Bytes, io::Error>>),
}

/// A stored answer as it is sent.
pub struct Served {
    pub stored: Arc<Stored>,
    /// What is still to be sent of its body.
    pub body: Option<Bytes>,
    /// The lines that this serving adds; `Cache-Status` is the last one.
    pub added: String,
}

impl Served {
    pub fn new(stored: Arc<Stored>, body: Option<Bytes>, age: u64, status: CacheStatus) -> Self {
        Self { stored, body, added: added_lines(age, status) }
    }

    /// The value of `Cache-Status`.
    pub fn status(&self) -> Option<&str> {
        added_status(&self.added)
    }
}

/// An upstream's answer that nobody needs to take apart.
pub struct Passed<B: Body> {
    pub fields: Block,
    /// The body, where it came with the head.
    pub whole: Option<Bytes>,
    body: http1::client::ResponseBody<B>,
    /// Here, and not in a box of its own: most answers are such.
    pub under_way: Option<UnderWay>,
}

impl<B> Passed<B>
where
    B: Body<Data = Bytes, Error = io::Error> + Unpin,
{
    pub fn new(fields: Block, mut body: http1::client::ResponseBody<B>) -> Self {
        Self { fields, whole: body.whole(), body, under_way: None }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> PolledFrame {
        match self.whole.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => passed(&mut self.body, context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.whole {
            Some(bytes) => exactly(Some(bytes)),
            None => self.body.size_hint(),
        }
    }
}

impl<B: Body> BodySource<B> {
    /// Fields that the answer has besides those of its head.
    pub fn encoded(&self) -> Option<Encoded<'_>> {
        match self {
            Self::Served(own) => Some(Encoded { block: &own.stored.fields, added: &own.added }),
            Self::Passed(own) => Some(Encoded { block: &own.fields, added: "" }),
            Self::Coming(own) => own.encoded(),
            _ => None,
        }
    }

    /// The value of the `Cache-Status` among those fields.
    pub fn cache_status(&self) -> Option<&str> {
        match self {
            Self::Served(own) => own.status(),
            Self::Coming(own) => own.status(),
            _ => None,
        }
    }
}

impl<B> Body for BodySource<B>
where
    B: Body<Data = Bytes, Error = io::Error> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Served(own) => Poll::Ready(own.body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Client(body) => passed(body, context),
            Self::Upstream(body) => passed(body.as_mut(), context),
            Self::Passed(own) => own.poll_frame(context),
            Self::Incoming(body) => passed(body, context),
            Self::Multiplexed(own) => own.poll_frame(context),
            Self::Coming(own) => own.poll_frame(context),
            Self::Boxed(body) => {
                Pin::new(body.get_mut().unwrap_or_else(PoisonError::into_inner)).poll_frame(context)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Served(own) => own.body.is_none(),
            Self::Client(body) => body.is_end_stream(),
            Self::Upstream(body) => body.is_end_stream(),
            Self::Passed(own) => own.is_end_stream(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Multiplexed(own) => own.is_end_stream(),
            Self::Coming(own) => own.is_end_stream(),
            // Not known without the lock; the next poll tells.
            Self::Boxed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => exactly(bytes.as_ref()),
            Self::Served(own) => exactly(own.body.as_ref()),
            Self::Client(body) => body.size_hint(),
            Self::Upstream(body) => body.size_hint(),
            Self::Passed(own) => own.size_hint(),
            Self::Incoming(body) => body.size_hint(),
            Self::Multiplexed(own) => own.size_hint(),
            Self::Coming(own) => own.size_hint(),
            Self::Boxed(_) => SizeHint::default(),
        }
    }
}

fn exactly(bytes: Option<&Bytes>) -> SizeHint {
    SizeHint::with_exact(bytes.map_or(0, Bytes::len) as u64)
}

/// What a poll of a body gives.
pub type PolledFrame = Poll<Option<io::Result<Frame<Bytes>>>>;

fn passed<B>(body: &mut B, context: &mut Context<'_>) -> PolledFrame
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + Send + Sync + 'static,
{
    Pin::new(body).poll_frame(context).map(|frame| frame.map(|it| it.map_err(io::Error::other)))
}
