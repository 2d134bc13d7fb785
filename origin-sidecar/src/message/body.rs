//! The one body type of the proxy: bytes at hand, or a stream that is passed on.

mod ending;
mod paced;

use super::answered::Answered;
use super::coming::FillingBody;
use super::permit::Permit;
use super::readers::{AnswerReader, Read};
use super::served_lines::{added_lines, added_status};
use crate::telemetry::in_flight::{Carried, InFlight, UnderWay};
use crate::telemetry::streams::Stream;
use crate::writes::WriteInFlight;
use bytes::Bytes;
use ending::Ending;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use http1::block::{Block, Encoded};
use http1::slow::SlowPeer;
use http1::stream::Upgraded;
use hyper::body::Incoming;
use memory_cache::stored::Stored;
use paced::Paced;
use prometheus::IntCounter;
use rules::cache::CacheStatus;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

pub enum Body {
    Empty,
    Full(Option<Bytes>),
    Served(Box<Served>),
    /// Read while it comes in for the cache.
    Coming(Box<FillingBody>),
    /// A client's, over HTTP/1.1.
    Client(http1::server::RequestBody),
    /// An upstream's, over HTTP/1.1.
    Upstream(Box<http1::client::ResponseBody<Self>>),
    /// The same, with the fields that came before it.
    Passed(Box<Passed>),
    /// A client's over HTTP/2, and of the admin port and the webhook's.
    Incoming(Incoming),
    /// An upstream's, over HTTP/2.
    Multiplexed(Box<Answered>),
    /// In a mutex that is never locked: it lets a reference to the body cross an await.
    Boxed(Mutex<UnsyncBoxBody<Bytes, io::Error>>),
    /// What was read ahead, then the rest.
    Prefixed(Option<Bytes>, Box<Body>),
    /// A client's that must come at a pace; over HTTP/1.1 its connection sees to that.
    Paced(Box<Paced<Self>>),
    /// Over HTTP/2 to a client that must read it.
    Read(Box<Read<Self>>),
    /// Cut off at a moment.
    Ending(Box<Ending<Self>>),
    /// In flight until its end.
    Counted(Box<Body>, UnderWay),
    /// A stream, on a connection that carries it.
    Carried(Box<Body>, Carried),
    /// Holds a place of its route until its end.
    Placed(Box<Body>, Permit),
    /// A write in flight until its end.
    Writing(Box<Body>, Option<WriteInFlight>),
}

/// What an upgraded connection holds until it ends.
#[derive(Default)]
pub struct UpgradedGuards {
    pub place: Option<Permit>,
    pub write: Option<WriteInFlight>,
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
pub struct Passed {
    pub fields: Block,
    /// The body, where it came with the head.
    whole: Option<Bytes>,
    body: http1::client::ResponseBody<Body>,
    /// As [`Body::Counted`], without a box of its own.
    in_flight: Option<UnderWay>,
}

impl Passed {
    pub fn new(fields: Block, mut body: http1::client::ResponseBody<Body>) -> Self {
        Self { fields, whole: body.whole(), body, in_flight: None }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Polled<io::Error> {
        match self.whole.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => passed(&mut self.body, context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_none() && self.body.is_end_stream()
    }
}

impl Body {
    pub fn boxed(body: UnsyncBoxBody<Bytes, io::Error>) -> Self {
        Self::Boxed(Mutex::new(body))
    }

    /// The same, as long as its client goes on sending it.
    pub fn paced(self, peer: SlowPeer) -> Self {
        if self.is_end_stream() {
            return self;
        }
        Self::Paced(Box::new(Paced::new(self, peer)))
    }

    /// How long its client may pause, over HTTP/2.
    pub fn set_idle_timeout(&mut self, idle: Duration) {
        if let Self::Paced(own) = self {
            own.idle = idle;
        }
    }

    /// The same, however long its client is silent: whether it still stands is asked of its connection.
    pub fn unpaced(self) -> Self {
        match self {
            Self::Paced(own) => own.body,
            own => own,
        }
    }

    /// The same, if it has ended by then; else it is cut off and counted.
    pub fn ending(self, end: Instant, cut: IntCounter) -> Self {
        if self.is_end_stream() {
            return self;
        }
        Self::Ending(Box::new(Ending::new(self, end, cut)))
    }

    /// Fields that the answer has besides those of its head.
    pub fn encoded(&self) -> Option<Encoded<'_>> {
        match self {
            Self::Served(own) => Some(Encoded { block: &own.stored.fields, added: &own.added }),
            Self::Passed(own) => Some(Encoded { block: &own.fields, added: "" }),
            Self::Coming(own) => own.encoded(),
            Self::Counted(body, _) | Self::Carried(body, _) | Self::Placed(body, _) => {
                body.encoded()
            }
            Self::Writing(body, _) => body.encoded(),
            Self::Ending(own) => own.body.encoded(),
            _ => None,
        }
    }

    /// In flight until it has ended. What is in memory is sent with its head, and is not counted.
    pub fn count(&mut self, headers: &HeaderMap, in_flight: &InFlight<'_>) {
        let stated = || headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        match self {
            Self::Empty | Self::Full(_) | Self::Served(_) => {}
            Self::Passed(own) if own.whole.is_some() => {}
            Self::Passed(own) => {
                let stated = stated().or_else(|| own.fields.values(&header::CONTENT_TYPE).next());
                own.in_flight = Some(in_flight.further(stated.and_then(Stream::of)));
            }
            streamed => {
                let under_way = in_flight.further(stated().and_then(Stream::of));
                let body = Box::new(std::mem::replace(streamed, Self::Empty));
                *streamed = Self::Counted(body, under_way);
            }
        }
    }

    /// Whether it was counted as a stream.
    pub fn is_stream(&self) -> bool {
        match self {
            Self::Passed(own) => own.in_flight.as_ref().is_some_and(UnderWay::is_stream),
            Self::Counted(_, under_way) => under_way.is_stream(),
            _ => false,
        }
    }

    /// The same, if it is a stream, for as long as the connection carries it.
    pub fn carried(self, begin: impl FnOnce() -> Carried) -> Self {
        if self.is_stream() { Self::Carried(Box::new(self), begin()) } else { self }
    }

    /// The connection itself, after 101 (Switching Protocols), with the place that it holds.
    pub fn into_upgraded(self) -> Option<(Upgraded, UpgradedGuards)> {
        match self {
            Self::Upstream(body) => Some((body.into_upgraded()?, UpgradedGuards::default())),
            Self::Placed(body, place) => {
                let (upgraded, guards) = body.into_upgraded()?;
                Some((upgraded, UpgradedGuards { place: Some(place), ..guards }))
            }
            Self::Writing(body, write) => {
                let (upgraded, guards) = body.into_upgraded()?;
                Some((upgraded, UpgradedGuards { write, ..guards }))
            }
            _ => None,
        }
    }

    /// The same, if its client must be seen to read it.
    pub fn read_by(self, reader: AnswerReader) -> Self {
        if self.is_end_stream() { self } else { Self::Read(Box::new(Read::new(self, reader))) }
    }

    /// Keeps the place until the body has ended.
    pub fn placed(self, place: Option<Permit>) -> Self {
        match place {
            Some(place) => Self::Placed(Box::new(self), place),
            None => self,
        }
    }

    /// The same once more, where that costs nothing: to send a request again.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            _ => None,
        }
    }

    /// Counts as a write in flight until the body has ended.
    pub fn writing(self, write: Option<WriteInFlight>) -> Self {
        let Some(mut write) = write else { return self };
        if self.is_end_stream() {
            write.settled();
            return self;
        }
        Self::Writing(Box::new(self), Some(write))
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
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
            Self::Prefixed(prefix, rest) => match prefix.take() {
                Some(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Pin::new(rest.as_mut()).poll_frame(context),
            },
            Self::Counted(body, _) | Self::Carried(body, _) | Self::Placed(body, _) => {
                Pin::new(body.as_mut()).poll_frame(context)
            }
            Self::Writing(body, write) => {
                let polled = Pin::new(body.as_mut()).poll_frame(context);
                let has_ended = matches!(polled, Poll::Ready(None)) || body.is_end_stream();
                if has_ended && let Some(mut write) = write.take() {
                    write.settled();
                }
                polled
            }
            Self::Read(read) => read.poll_frame(context),
            Self::Ending(own) => own.poll_frame(context),
            Self::Paced(own) => own.poll_frame(context),
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
            Self::Prefixed(prefix, rest) => prefix.is_none() && rest.is_end_stream(),
            Self::Read(read) => read.is_end(),
            Self::Ending(own) => own.body.is_end_stream(),
            Self::Paced(own) => own.body.is_end_stream(),
            Self::Counted(body, _) | Self::Carried(body, _) | Self::Placed(body, _) => {
                body.is_end_stream()
            }
            Self::Writing(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => exactly(bytes.as_ref()),
            Self::Served(own) => exactly(own.body.as_ref()),
            Self::Client(body) => body.size_hint(),
            Self::Upstream(body) => body.size_hint(),
            Self::Passed(own) => match &own.whole {
                Some(bytes) => exactly(Some(bytes)),
                None => own.body.size_hint(),
            },
            Self::Incoming(body) => body.size_hint(),
            Self::Multiplexed(own) => own.size_hint(),
            Self::Coming(own) => own.size_hint(),
            Self::Boxed(_) => SizeHint::default(),
            Self::Read(read) => read.size_hint(),
            Self::Ending(own) => own.body.size_hint(),
            Self::Paced(own) => own.body.size_hint(),
            Self::Counted(body, _) | Self::Carried(body, _) | Self::Placed(body, _) => {
                body.size_hint()
            }
            Self::Writing(body, _) => body.size_hint(),
            Self::Prefixed(prefix, rest) => {
                let ahead = prefix.as_ref().map_or(0, Bytes::len) as u64;
                match rest.size_hint().exact() {
                    Some(rest) => SizeHint::with_exact(rest + ahead),
                    None => SizeHint::default(),
                }
            }
        }
    }
}

fn exactly(bytes: Option<&Bytes>) -> SizeHint {
    SizeHint::with_exact(bytes.map_or(0, Bytes::len) as u64)
}

type Polled<E> = Poll<Option<Result<Frame<Bytes>, E>>>;

fn passed<B>(body: &mut B, context: &mut Context<'_>) -> Polled<io::Error>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    Pin::new(body).poll_frame(context).map(|frame| frame.map(|it| it.map_err(io::Error::other)))
}

/// What came of reading a body into memory.
pub enum Collected {
    Whole(Bytes),
    /// More than the limit: what was read, then the rest.
    TooLarge(Body),
}

/// Reads a body of up to `limit` bytes.
///
/// # Errors
/// When the stream breaks off.
pub async fn collect(mut body: Body, limit: usize) -> Result<Collected, io::Error> {
    if body.size_hint().lower() > limit as u64 {
        return Ok(Collected::TooLarge(body));
    }
    let mut read = bytes::BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            // A body that came in one piece is not copied.
            if read.is_empty() && body.is_end_stream() && data.len() <= limit {
                return Ok(Collected::Whole(data));
            }
            read.extend_from_slice(&data);
            if read.len() > limit {
                return Ok(Collected::TooLarge(Body::Prefixed(
                    Some(read.freeze()),
                    Box::new(body),
                )));
            }
        }
    }
    Ok(Collected::Whole(read.freeze()))
}
