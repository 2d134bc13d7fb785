//! Writes a message, head and body, in as few writes as possible.

use crate::conn::{Error, Limits, Patience, without_framing};
use crate::encode;
use crate::stream::Stream;
use bytes::Bytes;
use http_body::Body;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Pieces of up to so many bytes are copied together; larger ones are written without a copy.
pub(crate) const COPY_BYTES_MAX: usize = 4 * 1024;
/// How many bytes of memory are kept for the next message: enough for a usual head and a piece behind it.
const ROOM_BYTES_MAX: usize = 2 * COPY_BYTES_MAX;
/// Small pieces are gathered up to this many bytes before they are written.
const GATHER_BYTES_MAX: usize = 16 * 1024;

/// How the end of the body is told to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// There is no body, whatever is given.
    None,
    /// So many bytes are left.
    Length(u64),
    Chunked,
    UntilClose,
}

/// The destination of a message. It is not a `&mut Stream`, because the body may be read from the same
/// connection, whose lock must not be held meanwhile.
pub(crate) trait Sink {
    /// Calls a function with the stream and the time limits of its peer.
    fn with<R>(&mut self, act: impl FnOnce(&mut Stream, Limits<'_>) -> R) -> R;
}

impl Sink for &mut Stream {
    fn with<R>(&mut self, act: impl FnOnce(&mut Stream, Limits<'_>) -> R) -> R {
        act(self, Limits::default())
    }
}

pub(crate) struct Writer<B> {
    coding: Coding,
    body: Option<B>,
    /// Heads, lines of chunks and small pieces, gathered.
    small: Vec<u8>,
    sent: usize,
    /// A large piece, written after what was gathered, and the line end after a chunk.
    large: Bytes,
    end: &'static [u8],
    /// The pace of the peer. Time in which the body gave nothing to write is none of the peer's.
    pub patience: Option<Patience>,
    pub written: u64,
    /// Whether the head has waited for its body.
    has_yielded: bool,
}

impl<B: Body<Data = Bytes, Error = io::Error> + Unpin> Writer<B> {
    pub fn new(head: Vec<u8>, coding: Coding, body: B) -> Self {
        let has_body = !matches!(coding, Coding::None | Coding::Length(0));
        Self {
            coding,
            body: has_body.then_some(body),
            small: head,
            sent: 0,
            large: Bytes::new(),
            end: b"",
            patience: None,
            written: 0,
            has_yielded: false,
        }
    }

    /// Ready when all is written.
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut impl Sink,
    ) -> Poll<Result<(), Error>> {
        loop {
            let is_waiting = self.gather(context)?;
            if is_waiting && self.written == 0 && !std::mem::replace(&mut self.has_yielded, true) {
                return yielded(context);
            }
            let is_last = self.body.is_none() || is_waiting;
            ready!(sink.with(|stream, limits| {
                if !self.has_written() {
                    ready!(self.poll_write(context, stream, limits))?;
                }
                if is_last {
                    Pin::new(stream).poll_flush(context)?.map(Ok)
                } else {
                    Poll::Ready(Ok::<_, Error>(()))
                }
            }))?;
            if is_last {
                return if is_waiting { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
        }
    }

    /// Returns the memory of what was written, for the next message.
    pub fn into_room(self) -> Vec<u8> {
        let mut room = self.small;
        room.clear();
        if room.capacity() <= ROOM_BYTES_MAX { room } else { Vec::new() }
    }

    /// Whether the end of the message is the end of the connection.
    pub fn ends_with_the_connection(&self) -> bool {
        self.coding == Coding::UntilClose
    }

    /// Whether all that was taken from the body is written.
    pub fn has_written(&self) -> bool {
        self.sent == self.small.len() && self.large.is_empty() && self.end.is_empty()
    }

    /// Takes what is ready from the body, and returns whether more has to be waited for.
    fn gather(&mut self, context: &mut Context<'_>) -> Result<bool, Error> {
        while self.small.len() < GATHER_BYTES_MAX && self.large.is_empty() {
            let Some(body) = &mut self.body else { break };
            match Pin::new(body).poll_frame(context) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(error))) => return Err(Error::Body(error)),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.data(data)?,
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.finish(Some(trailers))?;
                        }
                    }
                },
                Poll::Ready(None) => self.finish(None)?,
            }
        }
        Ok(false)
    }

    fn data(&mut self, data: Bytes) -> Result<(), Error> {
        if data.is_empty() {
            return Ok(());
        }
        let mut end: &'static [u8] = b"";
        match &mut self.coding {
            Coding::None | Coding::UntilClose => {}
            Coding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Error::BodyLength)?;
                if *left == 0 {
                    self.body = None;
                }
            }
            Coding::Chunked => {
                encode::chunk(&mut self.small, data.len());
                end = b"\r\n";
            }
        }
        if data.len() <= COPY_BYTES_MAX {
            self.small.extend_from_slice(&data);
            self.small.extend_from_slice(end);
        } else {
            (self.large, self.end) = (data, end);
        }
        Ok(())
    }

    fn finish(&mut self, trailers: Option<http::HeaderMap>) -> Result<(), Error> {
        self.body = None;
        match (self.coding, trailers) {
            (Coding::Length(_), _) => Err(Error::BodyLength),
            (Coding::Chunked, Some(trailers)) => {
                encode::trailers(&mut self.small, &without_framing(trailers));
                Ok(())
            }
            (Coding::Chunked, None) => {
                self.small.extend_from_slice(encode::LAST_CHUNK);
                Ok(())
            }
            // Trailers have no place in the other framings.
            _ => Ok(()),
        }
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut Stream,
        limits: Limits<'_>,
    ) -> Poll<Result<(), Error>> {
        while !self.has_written() {
            let small = self.small.get(self.sent..).unwrap_or_default();
            let slices = [IoSlice::new(small), IoSlice::new(&self.large), IoSlice::new(self.end)];
            let written = if self.large.is_empty() && self.end.is_empty() {
                Pin::new(&mut *stream).poll_write(context, small)
            } else {
                Pin::new(&mut *stream).poll_write_vectored(context, &slices)
            };
            let written = match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Error::Closed)),
                Poll::Ready(written) => written?,
                Poll::Pending => {
                    let Some(patience) = &mut self.patience else { return Poll::Pending };
                    ready!(patience.poll_end(context, limits));
                    return Poll::Ready(Err(Error::TooSlow));
                }
            };
            self.advance(written);
        }
        self.small.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        self.written += written as u64;
        if let Some(patience) = &mut self.patience {
            patience.moved(written);
        }
        let of_small = written.min(self.small.len() - self.sent);
        self.sent += of_small;
        let of_large = (written - of_small).min(self.large.len());
        // This is not `advance`, because an empty `Bytes` frees the memory.
        self.large = self.large.slice(of_large..);
        self.end = self.end.get(written - of_small - of_large..).unwrap_or_default();
    }
}

/// Yields once to all other tasks: the body after a head is mostly about to come, and one write of both saves
/// a second one, which would wake the peer for nothing.
fn yielded(context: &mut Context<'_>) -> Poll<Result<(), Error>> {
    pin!(tokio::task::yield_now()).poll(context).map(Ok)
}
