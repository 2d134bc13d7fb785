//! What goes with a body until its end: what is held for it, and what it must keep to.

use super::deadline::Deadline;
use super::pace::UploadPace;
use super::source::PolledFrame;
use crate::message::permit::Permit;
use crate::message::readers::ReadPieces;
use crate::telemetry::in_flight::{Carried, UnderWay};
use crate::writes::WriteInFlight;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a stream that must end waits for.
pub type StreamEnd = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// All of it, in one box: most bodies have none.
#[derive(Default)]
pub struct Guards {
    /// Over HTTP/2 to a client that must read it.
    pub pieces: Option<ReadPieces>,
    pub inner: SourceGuards,
}

/// What stands between the source and who reads.
#[derive(Default)]
pub struct SourceGuards {
    /// What was read ahead, and goes before the rest.
    pub ahead: Option<Bytes>,
    /// A stream that ends when its data is elsewhere; none once it has.
    pub end: Option<StreamEnd>,
    /// Cut off at a moment.
    pub deadline: Option<Deadline>,
    /// A client's that must come at a pace; over HTTP/1.1 its connection sees to that.
    pub pace: Option<UploadPace>,
    /// A write in flight.
    pub write: Option<WriteInFlight>,
    /// A place of its route.
    pub place: Option<Permit>,
    /// It is in flight.
    pub under_way: Option<UnderWay>,
    /// A stream, on a connection that carries it.
    pub carried: Option<Carried>,
}

impl Guards {
    /// The next frame of the source, if nothing is in its way.
    pub fn poll_frame<S>(&mut self, source: &mut S, context: &mut Context<'_>) -> PolledFrame
    where
        S: Body<Data = Bytes, Error = io::Error> + Unpin,
    {
        let inner = &mut self.inner;
        match &mut self.pieces {
            Some(pieces) => pieces.poll_frame(context, |context| inner.poll_frame(source, context)),
            None => inner.poll_frame(source, context),
        }
    }

    /// Bytes that have come from the source, and were not given on yet.
    fn held_bytes(&self) -> usize {
        let ahead = self.inner.ahead.as_ref().map_or(0, Bytes::len);
        ahead + self.pieces.as_ref().map_or(0, ReadPieces::held_bytes)
    }

    pub fn is_end_stream(&self, source: &impl Body) -> bool {
        self.held_bytes() == 0 && source.is_end_stream()
    }

    pub fn size_hint(&self, source: &impl Body) -> SizeHint {
        let (rest, held) = (source.size_hint(), self.held_bytes() as u64);
        match rest.exact() {
            _ if held == 0 => rest,
            Some(exact) => SizeHint::with_exact(exact + held),
            None => SizeHint::default(),
        }
    }
}

impl SourceGuards {
    fn poll_frame<S>(&mut self, source: &mut S, context: &mut Context<'_>) -> PolledFrame
    where
        S: Body<Data = Bytes, Error = io::Error> + Unpin,
    {
        if let Some(cut) = self.deadline.as_mut().and_then(|end| end.poll_over(context)) {
            return Poll::Ready(Some(Err(cut)));
        }
        if self.end.take_if(|end| end.as_mut().poll(context).is_ready()).is_some() {
            // Counts until the body is dropped, and the connection to its source with it.
            if let Some(write) = &mut self.write {
                write.settled();
            }
            return Poll::Ready(None);
        }
        if let Some(bytes) = self.ahead.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let polled = match &mut self.pace {
            Some(pace) => pace.poll_frame(source, context),
            None => Pin::new(&mut *source).poll_frame(context),
        };
        let has_ended = || matches!(polled, Poll::Ready(None)) || source.is_end_stream();
        if let Some(mut write) = self.write.take_if(|_| has_ended()) {
            write.settled();
        }
        polled
    }
}
