//! The client's end of a connection: one request, its interim answers, its answer.

mod answer;
mod unanswered;

pub use answer::{Answer, Mended};
pub use unanswered::{Unanswered, Unsent};

use crate::conn::{Conn, Error};
use crate::framing::{Framing, Stated};
use crate::head::{self, HeadLimits, ResponseHead};
use crate::pool::Pool;
use crate::received::Received;
use crate::server::Exchange;
use crate::stream::{Stream, Upgraded};
use crate::writer::{Coding, Writer};
use crate::{Refusal, encode, lines};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use unanswered::refused;

/// Interim answers before the answer; more is a fault of the upstream.
const INTERIM_MAX: usize = 32;

/// A connection that is free for a request.
pub struct Connection(Box<Conn>);

impl Connection {
    pub fn new(stream: impl Into<Stream>) -> Self {
        Self(Box::new(Conn::patient(stream.into())))
    }

    /// The same, for answers with larger heads than usual, or smaller ones.
    pub fn limited(mut self, limits: HeadLimits) -> Self {
        self.0.progress.limits = limits;
        self
    }

    /// It was idle for so long before the request that it carries now.
    pub(crate) fn was_idle_for(&mut self, time: Duration) {
        self.0.idle_for = time;
    }

    pub(crate) fn idle_for(&self) -> Duration {
        self.0.idle_for
    }

    /// Whether nothing came while nobody asked: neither bytes nor the end. Costs no system call
    /// unless there is something to read.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.0.poll_read(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Lets go of the memory into which it reads, and from which it writes.
    pub(crate) fn let_go(&mut self) {
        self.0.read = BytesMut::new();
        self.0.room = Vec::new();
    }
}

/// A request as it goes out; `headers` are clean of the fields of another connection.
pub struct Outgoing<'a, B> {
    pub method: &'a Method,
    /// Path and query, or `*`.
    pub target: &'a str,
    pub headers: &'a HeaderMap,
    /// Where the headers were read from, so that they go on in the spelling and order they came in.
    pub came: &'a Received,
    /// Further fields as they are sent: each a line with its end.
    pub added: &'a str,
    pub body: B,
    /// How long the answer's head is waited for, from `began` or the moment that the upstream took the
    /// last of the request on. Time in which the body's sender is slow does not count.
    pub timeout: Duration,
    pub began: Instant,
}

/// Sends a request and reads the head of its answer. The connection goes back to its pool when the
/// answer was read to its end. Interim answers go to `exchange`.
///
/// # Errors
/// When the connection breaks, the answer is not HTTP/1.1, or it does not come in time (`TooSlow`).
pub fn send<'a, B: Body<Data = Bytes, Error = io::Error> + Unpin>(
    connection: Connection,
    outgoing: Outgoing<'_, B>,
    exchange: Option<&'a Exchange>,
    home: &'a Arc<Pool>,
) -> impl Future<Output = Result<Answer<B>, Unanswered<B>>> + use<'a, B> {
    // What would end the line early would be a request of its own.
    let target = outgoing.target;
    let is_target = !target.is_empty() && target.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    let call = is_target.then(|| Call::begin(connection, outgoing));
    async move {
        let Some(call) = call else { return Err(refused(Refusal::Target)) };
        heard(call, exchange, home).await
    }
}

/// The same over another connection, for a request of which nothing was sent.
///
/// # Errors
/// As for [`send`].
pub async fn send_unsent<B: Body<Data = Bytes, Error = io::Error> + Unpin>(
    Unsent(mut call): Unsent<B>,
    connection: Connection,
    exchange: Option<&Exchange>,
    home: &Arc<Pool>,
) -> Result<Answer<B>, Unanswered<B>> {
    call.conn = connection.0;
    call.broken = None;
    heard(call, exchange, home).await
}

/// The answer, after those that are interim.
async fn heard<B: Body<Data = Bytes, Error = io::Error> + Unpin>(
    mut call: Box<Call<B>>,
    exchange: Option<&Exchange>,
    home: &Arc<Pool>,
) -> Result<Answer<B>, Unanswered<B>> {
    for _ in 0..INTERIM_MAX {
        let head = match poll_fn(|context| call.poll_head(context)).await {
            Ok(head) => head,
            Err(error) => return Err(call.unanswered(error)),
        };
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            // A `100 Continue` was for us; the client has its own.
            if let Some(exchange) = exchange.filter(|_| head.status != StatusCode::CONTINUE) {
                let headers = head.fields.headers().map_err(refused)?;
                let told = timeout(call.timeout, exchange.interim(head.status, &headers)).await;
                if told.is_err() {
                    return Err(call.unanswered(Error::TooSlow));
                }
            }
            continue;
        }
        return call.answered(head, home).map_err(refused);
    }
    Err(refused(Refusal::StartLine))
}

/// A request on its way. In a box: it is large, and goes from hand to hand.
struct Call<B> {
    conn: Box<Conn>,
    /// None when the request is sent.
    writer: Option<Writer<B>>,
    method: Method,
    has_heard: bool,
    /// Writing failed: what was answered before may still be read, and then it is over.
    broken: Option<Error>,
    timeout: Duration,
    /// When it began, or was last written on.
    since: Instant,
    written: u64,
}

impl<B: Body<Data = Bytes, Error = io::Error> + Unpin> Call<B> {
    fn begin(connection: Connection, outgoing: Outgoing<'_, B>) -> Box<Self> {
        let Outgoing { method, target, headers, came, added, body, timeout, began: since } =
            outgoing;
        let mut conn = connection.0;
        let mut head = std::mem::take(&mut conn.room);
        encode::request(&mut head, method, target, (headers, came));
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

    fn unanswered(mut self: Box<Self>, error: Error) -> Unanswered<B> {
        // What broke the request off explains why there is no answer.
        let error = match self.broken.take() {
            Some(broken) if matches!(error, Error::Closed | Error::Io(_)) => broken,
            _ => error,
        };
        // Who is slow may still be at work on it.
        let is_silent = !self.has_heard && !matches!(error, Error::TooSlow);
        let is_lost = matches!(error, Error::Closed | Error::Io(_));
        let is_unsent = self.writer.as_ref().is_some_and(|writer| writer.written == 0);
        let unsent = (is_silent && is_lost && is_unsent).then_some(Unsent(self));
        Unanswered { error, is_silent, unsent }
    }

    /// Writes on, if there is something to write.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.broken.is_none()) else {
            return Ok(());
        };
        let polled = writer.poll(context, &mut &mut self.conn.stream);
        // What goes out at once needs no look at the clock.
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
                // Of which nothing was written can be written elsewhere.
                self.writer = self.writer.take_if(|writer| writer.written == 0);
                self.broken = Some(error);
            }
            // The client's body failed: the upstream must not take what came of it for the whole.
            Poll::Ready(Err(error)) => return Err(error),
        }
        Ok(())
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<ResponseHead, Error>> {
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

    /// Ready when the upstream was waited for long enough.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.writer.as_ref().is_some_and(Writer::has_written) {
            // It is the rest of the body that is waited for.
            return Poll::Pending;
        }
        self.conn.alarm.poll(context, self.since + self.timeout)
    }

    fn answered(
        mut self: Box<Self>,
        head: ResponseHead,
        home: &Arc<Pool>,
    ) -> Result<Answer<B>, Refusal> {
        let is_switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let stated = Stated::read(head.fields.iter());
        let answered = stated.of_response(&self.method, head.status, head.version)?;
        let framing = answered.framing;
        let is_kept = stated.is_kept(head.version)
            && !answered.is_mended()
            && framing != Framing::UntilClose
            && self.broken.is_none()
            && !is_switching;
        self.conn.begin(framing);
        let left = match framing {
            Framing::None => Some(0),
            Framing::Length(bytes) => Some(bytes),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let home = is_kept.then(|| Home { pool: Arc::clone(home), kept_for: stated.kept_for() });
        let mut body = Incoming { call: Some(self), home, left };
        if framing == Framing::None && !is_switching {
            body.finish();
        }
        let lengths = answered.lengths;
        let ResponseHead { status, reason, fields, .. } = head;
        Ok(Answer { status, reason, fields, lengths, body })
    }
}

/// Methods whose requests mostly have no body: without one, no length is told (RFC 9110 section 8.6).
fn is_without_body(method: &Method) -> bool {
    !matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

struct Home {
    pool: Arc<Pool>,
    /// As the upstream says.
    kept_for: Option<Duration>,
}

/// The body of an answer, read as it is asked for. While it is, the rest of the request goes out.
pub struct Incoming<B> {
    /// None at the end.
    call: Option<Box<Call<B>>>,
    /// Where the connection goes when it is free again; None when it must be closed.
    home: Option<Home>,
    left: Option<u64>,
}

impl<B> Incoming<B> {
    /// The connection itself, after 101 (Switching Protocols).
    pub fn into_upgraded(self) -> Option<Upgraded> {
        self.call.map(|mut call| call.conn.take())
    }

    /// The body, if it came whole with its head: then the connection is free at once.
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

    fn finish(&mut self) {
        let Some(call) = self.call.take() else { return };
        // An upstream that answers before it has read everything is not asked again on this
        // connection; nor is one that said more than its answer.
        if let Some(home) = self.home.take()
            && call.writer.is_none()
            && call.conn.read.is_empty()
        {
            home.pool.put(Connection(call.conn), home.kept_for);
        }
    }
}

impl<B: Body<Data = Bytes, Error = io::Error> + Unpin> Body for Incoming<B> {
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
