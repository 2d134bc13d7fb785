//! One connection: its bytes, the body that is being read, and how long the peer is waited for.

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

/// A read's first room: most heads fit.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Less room than this is not worth a read.
const HEAD_ROOM_MIN: usize = 1024;
/// A read's largest room. Fewer, larger reads cost less CPU; this much per direction is held only
/// while a body moves.
const READ_BYTES_MAX: usize = 128 * 1024;

/// Why a message did not come to its end.
#[derive(Debug)]
pub enum Error {
    /// What came is no message of HTTP/1.1.
    Refused(Refusal),
    /// The peer closed within a message, or before one.
    Closed,
    /// The peer moved nothing for too long, or was one of too many that are slow.
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

/// A connection that speaks something else by now, until its end.
pub(crate) type Tunnel = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;
/// Makes a tunnel of a connection.
pub(crate) type Heir = Box<dyn FnOnce(Upgraded) -> Tunnel + Send + Sync>;

pub(crate) struct Conn {
    pub stream: Stream,
    pub read: BytesMut,
    pub progress: head::Progress,
    pub body: Reading,
    /// For the peer's bytes.
    pub patience: Patience,
    /// Without a byte of a body, or of a reader: as the route of the present message says.
    pub idle: Duration,
    /// Whose connection it is, among those that are slow; none of an upstream.
    pub peer: Option<SlowPeer>,
    /// `100 Continue` or what of it is not written yet, which the client waits for before it sends
    /// its body.
    pub continue_owed: &'static [u8],
    /// The answer to the last message has begun.
    pub has_answered: bool,
    /// The body that was being read is malformed or broken off: what follows can't be told.
    pub is_broken: bool,
    /// What was malformed about it.
    pub refused: Option<Refusal>,
    /// Counts messages: a body handle of an earlier one reads nothing.
    pub message: u64,
    /// For the answer, where the peer is an upstream.
    pub alarm: Alarm,
    /// What becomes of the connection when protocols change.
    pub heir: Option<Heir>,
    /// What became of it: it lasts as long as this does.
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

    /// The peer is an upstream: those who ask it say how long they wait.
    pub fn patient(stream: Stream) -> Self {
        Self { is_patient: true, ..Self::new(stream) }
    }

    /// Whether the last message was read to its end.
    pub fn is_done(&self) -> bool {
        matches!(self.body, Reading::Done)
    }

    /// Bytes of the body that are still to be read, where the peer has said how long it is.
    pub fn left(&self) -> Option<u64> {
        if let Reading::Length(left) = self.body { Some(left) } else { None }
    }

    /// Reads on; 0 is the end.
    pub fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = match self.body {
            Reading::Done => HEAD_ROOM_MIN,
            // One more than there should be: a read that does not fill its room has emptied the
            // socket, and the next one waits until there is something, where else it would find out.
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
        // A peer that fills the room has more.
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
        // Of a request that asked for another protocol and was answered with this one.
        self.heir = None;
        self.patience = Patience::default();
        self.idle = IDLE_TIMEOUT;
    }

    /// Gives the connection away, with what was read ahead of it.
    pub fn take(&mut self) -> Upgraded {
        let stream = std::mem::replace(&mut self.stream, Stream::Gone);
        Upgraded { ahead: std::mem::take(&mut self.read), stream }
    }

    /// What of the body was read already. Trailers that are empty are the plain end.
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

/// Fields that must not come after a body: they would change what was decided from the head
/// (RFC 9110 section 6.5.1).
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

/// How long a peer is waited for in the middle of a message.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// Without a byte.
    pub idle: Duration,
    /// Who it is among those that are slow; none where nobody counts them.
    pub peer: Option<&'a SlowPeer>,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Self { idle: IDLE_TIMEOUT, peer: None }
    }
}

/// Waits for a peer as long as its [`Limits`] allow, and tells of it when it is slow.
#[derive(Default)]
pub struct Patience {
    pace: Pace,
    since: Option<Instant>,
    alarm: Alarm,
    /// While it is slow.
    place: Option<Place>,
}

impl Patience {
    /// So many bytes went to or came from the peer.
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

    /// Ready when it has been waited for too long; to be asked when the peer is not ready.
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
