//! One connection: its bytes, the body that is being read, and the time limits of its peer.

use crate::alarm::Alarm;
use crate::chunked::{Decoder, Piece};
use crate::framing::Framing;
use crate::head;
use crate::pace::{IDLE_TIMEOUT, Pace};
use crate::refusal::Refusal;
use crate::slow::{Place, SlowPeer};
use crate::stream::{Stream, Upgraded};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io};
use tokio::time::Instant;

/// The buffer in bytes of a first read; most heads fit.
const READ_BYTES_MIN: usize = 4 * 1024;
/// The smallest buffer in bytes that is worth a read.
const HEAD_ROOM_MIN: usize = 1024;
/// The largest buffer in bytes of a read. Fewer, larger reads cost less CPU; so much per direction is held
/// only while a body moves.
const READ_BYTES_MAX: usize = 128 * 1024;

/// Why a message did not come to its end.
#[derive(Debug)]
pub enum Error {
    /// The bytes that came are no message of HTTP/1.1.
    Refused(Refusal),
    /// The peer closed within a message, or before one.
    Closed,
    /// The peer sent or took nothing for too long, or was one of too many slow ones.
    TooSlow,
    /// The connection failed.
    Io(io::Error),
    /// The body that was to be sent failed.
    Body(io::Error),
    /// The body that was to be sent has another length than its head says.
    BodyLength,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(formatter, "{refusal}"),
            Self::Closed => formatter.write_str("closed before the end of the message"),
            Self::TooSlow => formatter.write_str("too slow"),
            Self::Io(error) => write!(formatter, "{error}"),
            Self::Body(error) => write!(formatter, "the body could not be read: {error}"),
            Self::BodyLength => formatter.write_str("the body has another length than announced"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Io(error) | Self::Body(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The body that is being read.
#[derive(Debug)]
pub(crate) enum Reading {
    Done,
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

impl From<Framing> for Reading {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Done,
            Framing::Length(bytes) => Self::Length(bytes),
            Framing::Chunked => Self::Chunked(Decoder::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }
}

/// A connection that has changed protocols, until its end.
pub(crate) type Tunnel = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;
/// Makes the tunnel of a connection that has changed protocols.
pub(crate) type Heir = Box<dyn FnOnce(Upgraded) -> Tunnel + Send + Sync>;

pub(crate) struct Conn {
    pub stream: Stream,
    pub read: BytesMut,
    pub progress: head::Progress,
    pub body: Reading,
    /// The pace of the peer.
    pub patience: Patience,
    /// How long the peer may pause in a body, or in reading one, as the route of the current message says.
    pub idle: Duration,
    /// The client among those that may be slow; none for an upstream.
    pub peer: Option<SlowPeer>,
    /// The part of `100 Continue` that is not written yet, for which the client waits before it sends its
    /// body.
    pub continue_owed: &'static [u8],
    /// Whether the answer to the last message has begun.
    pub has_answered: bool,
    /// Whether the body that was being read is malformed or broke off, so that what follows can't be read.
    pub is_broken: bool,
    /// Why the body was refused.
    pub refused: Option<Refusal>,
    /// The number of the current message: a body handle of an earlier one reads nothing.
    pub message: u64,
    /// How long the answer's head is waited for, where the peer is an upstream.
    pub alarm: Alarm,
    /// What is done with the connection when protocols change.
    pub heir: Option<Heir>,
    /// The tunnel that the connection became, which lasts as long as this future.
    pub tunnel: Option<Tunnel>,
    /// Memory for the next message that is written, where the peer is an upstream.
    pub room: Vec<u8>,
    /// How long it was idle before its present request, where the peer is an upstream.
    pub idle_for: Duration,
    is_patient: bool,
    read_bytes: usize,
}

impl Conn {
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            progress: head::Progress::default(),
            body: Reading::Done,
            patience: Patience::default(),
            idle: IDLE_TIMEOUT,
            peer: None,
            continue_owed: b"",
            has_answered: false,
            is_broken: false,
            refused: None,
            message: 0,
            alarm: Alarm::default(),
            heir: None,
            tunnel: None,
            room: Vec::new(),
            idle_for: Duration::ZERO,
            is_patient: false,
            read_bytes: READ_BYTES_MIN,
        }
    }

    /// A connection to an upstream: whoever asks it says how long it waits.
    pub fn patient(stream: Stream) -> Self {
        Self { is_patient: true, ..Self::new(stream) }
    }

    /// Whether the last message was read to its end.
    pub fn is_done(&self) -> bool {
        matches!(self.body, Reading::Done)
    }

    /// How many bytes of the body are still to be read, where the peer has stated its length.
    pub fn left(&self) -> Option<u64> {
        if let Reading::Length(left) = self.body { Some(left) } else { None }
    }

    /// Goes on reading; 0 is the end.
    pub fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = match self.body {
            Reading::Done => HEAD_ROOM_MIN,
            // The buffer has one byte more than should come: a read that does not fill it has emptied the
            // socket, so the next read waits for an event instead of making a system call to find that out.
            Reading::Length(left) => {
                let left = usize::try_from(left).unwrap_or(self.read_bytes);
                left.saturating_add(1).min(READ_BYTES_MAX)
            }
            _ => self.read_bytes,
        };
        if self.read.capacity() - self.read.len() < room {
            self.read.reserve(room.max(READ_BYTES_MIN));
        }
        let free = self.read.capacity() - self.read.len();
        let read = ready!(self.stream.poll_read_into(context, &mut self.read))?;
        self.patience.moved(read);
        // A peer that fills the buffer has more.
        if read == free {
            self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(read))
    }

    /// The next piece of the body that is being read.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(self.poll_piece(context));
        if let Err(error) = &frame {
            self.is_broken = true;
            if let Error::Refused(refusal) = error {
                self.refused = Some(*refusal);
            }
        }
        if self.is_done() {
            self.read_bytes = READ_BYTES_MIN;
        }
        Poll::Ready(frame.transpose())
    }

    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        loop {
            match self.buffered()? {
                Some(frame) => return Poll::Ready(Ok(Some(frame))),
                None if self.is_done() => return Poll::Ready(Ok(None)),
                None => {}
            }
            match self.poll_read(context)? {
                Poll::Ready(0) if matches!(self.body, Reading::UntilClose) => {
                    self.body = Reading::Done;
                }
                Poll::Ready(0) => return Poll::Ready(Err(Error::Closed)),
                Poll::Ready(_) => {}
                Poll::Pending if self.is_patient => return Poll::Pending,
                Poll::Pending => {
                    let limits = Limits { idle: self.idle, peer: self.peer.as_ref() };
                    ready!(self.patience.poll_end(context, limits));
                    return Poll::Ready(Err(Error::TooSlow));
                }
            }
        }
    }

    /// Begins to read the body of another message.
    pub fn begin(&mut self, framing: Framing) {
        self.body = framing.into();
        self.message += 1;
        self.continue_owed = b"";
        self.has_answered = false;
        // The request asked for another protocol and was answered with HTTP/1.1.
        self.heir = None;
        self.patience = Patience::default();
        self.idle = IDLE_TIMEOUT;
    }

    /// Gives the stream away, with the bytes that were read ahead.
    pub fn take(&mut self) -> Upgraded {
        let stream = std::mem::replace(&mut self.stream, Stream::Gone);
        Upgraded { ahead: std::mem::take(&mut self.read), stream }
    }

    /// The next part of the body from what was read already. Empty trailers are a plain end.
    pub fn buffered(&mut self) -> Result<Option<Frame<Bytes>>, Refusal> {
        match &mut self.body {
            Reading::Done => Ok(None),
            _ if self.read.is_empty() => Ok(None),
            Reading::UntilClose => Ok(Some(Frame::data(self.read.split().freeze()))),
            Reading::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.read.len());
                *left -= here as u64;
                if *left == 0 {
                    self.body = Reading::Done;
                }
                Ok(Some(Frame::data(self.read.split_to(here).freeze())))
            }
            Reading::Chunked(decoder) => match decoder.decode(&mut self.read)? {
                None => Ok(None),
                Some(Piece::Data(data)) => Ok(Some(Frame::data(data))),
                Some(Piece::End(fields)) => {
                    self.body = Reading::Done;
                    Ok(Some(fields)
                        .filter(|fields| !fields.is_empty())
                        .map(Frame::<Bytes>::trailers))
                }
            },
        }
    }
}

/// Removes the fields that must not come after a body, because they would change what was decided from the
/// head (RFC 9110 section 6.5.1).
pub(crate) fn without_framing(mut trailers: HeaderMap) -> HeaderMap {
    use http::header::{
        AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
        COOKIE, HOST, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    };
    for name in [
        AUTHORIZATION,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        HOST,
        SET_COOKIE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        trailers.remove(name);
    }
    trailers
}

/// The time limits of a peer in the middle of a message.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// How long the peer may pause.
    pub idle: Duration,
    /// The peer among those that may be slow; none where nobody counts them.
    pub peer: Option<&'a SlowPeer>,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Self { idle: IDLE_TIMEOUT, peer: None }
    }
}

/// Waits for a peer as long as its [`Limits`] allow, and reports it when it is slow.
#[derive(Default)]
pub struct Patience {
    pace: Pace,
    since: Option<Instant>,
    alarm: Alarm,
    /// Its place among the slow peers, while it is slow.
    place: Option<Place>,
}

impl Patience {
    /// Notes that so many bytes were sent or received.
    pub fn moved(&mut self, bytes: usize) {
        self.pace.moved(bytes);
        if let Some(since) = self.since.take() {
            self.pace.waited(since.elapsed());
        }
        if let Some(place) = self.place.take_if(|_| !self.pace.is_slow()) {
            drop(place);
        } else if let Some(place) = &self.place {
            place.update(self.pace.rate());
        }
    }

    /// Ready when the peer's time is over. It is polled while the peer is not ready.
    pub fn poll_end(&mut self, context: &mut Context<'_>, limits: Limits<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let end = since + limits.idle;
        let slow = since + self.pace.left();
        if self.place.is_none() && limits.peer.is_some() && slow < end {
            ready!(self.alarm.poll(context, slow));
            self.place = limits.peer.map(|peer| peer.enter(self.pace.rate()));
        }
        if let Some(place) = &mut self.place
            && place.poll_closed(context).is_ready()
        {
            return Poll::Ready(());
        }
        self.alarm.poll(context, end)
    }
}
