//! The one body type of the proxy: a source of bytes, and what goes with it until its end.

mod deadline;
mod guards;
mod pace;
mod source;

pub use guards::StreamEnd;
pub use source::{BodySource, Passed, Served};

use super::permit::Permit;
use super::readers::{AnswerReader, ReadPieces};
use crate::telemetry::in_flight::{Carried, InFlight, UnderWay};
use crate::telemetry::streams::Stream;
use crate::writes::WriteInFlight;
use bytes::Bytes;
use deadline::Deadline;
use guards::Guards;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use http1::block::Encoded;
use http1::slow::SlowPeer;
use http1::stream::Upgraded;
use pace::UploadPace;
use prometheus::IntCounter;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// A request's body or an answer's.
pub struct Body {
    source: BodySource<Self>,
    /// None: nothing is held for it, and nothing limits it. Dropped after the source.
    guards: Option<Box<Guards>>,
}

/// What an upgraded connection holds until it ends.
#[derive(Default)]
pub struct UpgradedGuards {
    pub place: Option<Permit>,
    pub write: Option<WriteInFlight>,
}

impl From<BodySource<Self>> for Body {
    fn from(source: BodySource<Self>) -> Self {
        Self { source, guards: None }
    }
}

impl Body {
    pub fn empty() -> Self {
        Self::from(BodySource::Empty)
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::from(BodySource::Full(Some(bytes.into())))
    }

    pub fn boxed(body: UnsyncBoxBody<Bytes, io::Error>) -> Self {
        Self::from(BodySource::Boxed(Mutex::new(body)))
    }

    /// The body, and an empty one in its place.
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::empty())
    }

    /// All its bytes, where they are at hand and nothing goes with them.
    pub fn into_full(self) -> Result<Bytes, Self> {
        match self {
            Self { source: BodySource::Full(Some(bytes)), guards: None } => Ok(bytes),
            own => Err(own),
        }
    }

    fn guards(&mut self) -> &mut Guards {
        self.guards.get_or_insert_default()
    }

    /// The same, as long as its client goes on sending it.
    pub fn paced(mut self, peer: SlowPeer) -> Self {
        if !self.is_end_stream() {
            self.guards().inner.pace = Some(UploadPace::new(peer));
        }
        self
    }

    /// How long its client may pause, over HTTP/2.
    pub fn set_idle_timeout(&mut self, idle: Duration) {
        let pace = self.guards.as_mut().and_then(|guards| guards.inner.pace.as_mut());
        if let Some(pace) = pace {
            pace.idle = idle;
        }
    }

    /// The same, however long its client is silent: whether it still stands is asked of its connection.
    pub fn unpaced(mut self) -> Self {
        if let Some(guards) = &mut self.guards {
            guards.inner.pace = None;
        }
        self
    }

    /// The same, if it has ended by then; else it is cut off and counted.
    pub fn ending(mut self, end: Instant, cut: IntCounter) -> Self {
        if !self.is_end_stream() {
            self.guards().inner.deadline = Some(Deadline::new(end, cut));
        }
        self
    }

    /// Fields that the answer has besides those of its head.
    pub fn encoded(&self) -> Option<Encoded<'_>> {
        self.source.encoded()
    }

    /// The value of the `Cache-Status` among those fields.
    pub fn cache_status(&self) -> Option<&str> {
        self.source.cache_status()
    }

    /// In flight until it has ended. What is in memory is sent with its head, and is not counted.
    pub fn count(&mut self, headers: &HeaderMap, in_flight: &InFlight<'_>) {
        match &self.source {
            BodySource::Empty | BodySource::Full(_) | BodySource::Served(_) => return,
            BodySource::Passed(own) if own.whole.is_some() => return,
            _ => {}
        }
        let under_way = Some(in_flight.further(self.stream(headers)));
        match &mut self.source {
            BodySource::Passed(own) => own.under_way = under_way,
            _ => self.guards().inner.under_way = under_way,
        }
    }

    /// The kind of stream that an answer with this body is.
    fn stream(&self, headers: &HeaderMap) -> Option<Stream> {
        let stated = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let of_passed = || match &self.source {
            BodySource::Passed(own) => own.fields.values(&header::CONTENT_TYPE).next(),
            _ => None,
        };
        stated.or_else(of_passed).and_then(Stream::of)
    }

    /// The same; a stream of events ends when `end` says so.
    pub fn until(mut self, headers: &HeaderMap, end: impl FnOnce() -> StreamEnd) -> Self {
        if self.stream(headers) == Some(Stream::Events) {
            self.guards().inner.end = Some(end());
        }
        self
    }

    /// Whether it was counted as a stream.
    pub fn is_stream(&self) -> bool {
        let under_way = match (&self.source, &self.guards) {
            (BodySource::Passed(own), _) => own.under_way.as_ref(),
            (_, Some(guards)) => guards.inner.under_way.as_ref(),
            (_, None) => None,
        };
        under_way.is_some_and(UnderWay::is_stream)
    }

    /// The same, if it is a stream, for as long as the connection carries it.
    pub fn carried(mut self, begin: impl FnOnce() -> Carried) -> Self {
        if self.is_stream() {
            self.guards().inner.carried = Some(begin());
        }
        self
    }

    /// The connection itself, after 101 (Switching Protocols), with what is held for it.
    pub fn into_upgraded(self) -> Option<(Upgraded, UpgradedGuards)> {
        let BodySource::Upstream(body) = self.source else { return None };
        let held = self.guards.map_or_else(UpgradedGuards::default, |guards| UpgradedGuards {
            place: guards.inner.place,
            write: guards.inner.write,
        });
        Some((body.into_upgraded()?, held))
    }

    /// The same, if its client must be seen to read it.
    pub fn read_by(mut self, reader: AnswerReader) -> Self {
        if !self.is_end_stream() {
            self.guards().pieces = Some(ReadPieces::new(reader));
        }
        self
    }

    /// Keeps the place until the body has ended.
    pub fn placed(mut self, place: Option<Permit>) -> Self {
        if place.is_some() {
            self.guards().inner.place = place;
        }
        self
    }

    /// Counts as a write in flight until the body has ended.
    pub fn writing(mut self, write: Option<WriteInFlight>) -> Self {
        let Some(mut write) = write else { return self };
        if self.is_end_stream() {
            write.settled();
        } else {
            self.guards().inner.write = Some(write);
        }
        self
    }

    /// The same once more, where that costs nothing: to send a request again.
    pub fn again(&self) -> Option<Self> {
        match (&self.source, &self.guards) {
            (BodySource::Empty, None) => Some(Self::empty()),
            (BodySource::Full(bytes), None) => Some(Self::from(BodySource::Full(bytes.clone()))),
            _ => None,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Self { source, guards } = self.get_mut();
        match guards {
            Some(guards) => guards.poll_frame(source, context),
            None => Pin::new(source).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.guards {
            Some(guards) => guards.is_end_stream(&self.source),
            None => self.source.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.guards {
            Some(guards) => guards.size_hint(&self.source),
            None => self.source.size_hint(),
        }
    }
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
                body.guards().inner.ahead = Some(read.freeze());
                return Ok(Collected::TooLarge(body));
            }
        }
    }
    Ok(Collected::Whole(read.freeze()))
}
