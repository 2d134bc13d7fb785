//! The server's end of a connection: one request after the other, each with its answer.

mod answer;
mod idle;
mod incoming;
mod standby;
mod watch;

pub(crate) use answer::is_ours;
pub use incoming::{Exchange, Incoming};

use crate::block::Encoded;
use crate::conn::{Conn, Error, Patience};
use crate::framing::{Framing, Stated};
use crate::head::{self, RequestHead};
use crate::refusal::Refusal;
use crate::stream::{Stream, Upgraded};
use crate::writer::Sink;
use crate::{encode, lines};
use answer::Asked;
use bytes::Bytes;
use http::{Response, StatusCode, Version, header};
use http_body::Body;
use idle::{Closing, Idle};
use standby::{Event, Standby};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::timeout;
use watch::{Watch, attended};

/// From the first byte of a head to its last: a client that has not sent it by then is slow on
/// purpose.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// What of a request's body is read in vain, to keep the connection or to let the client read its
/// answer before the connection is reset (RFC 9112 section 9.6).
const DISCARD_BYTES_MAX: usize = 256 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) type Shared = Arc<Mutex<Conn>>;

pub(crate) fn lock(conn: &Shared) -> MutexGuard<'_, Conn> {
    conn.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink for &Shared {
    fn with<R>(&mut self, act: impl FnOnce(&mut Stream) -> R) -> R {
        let conn = &mut *lock(self);
        conn.has_answered = true;
        act(&mut conn.stream)
    }
}

/// What answers.
pub trait Service: Sync {
    type Body: Body<Data = Bytes, Error = io::Error> + Unpin + Send;

    /// Fields that the answer has besides those of its head: they come before them, and its length
    /// is among these or those.
    fn encoded(_body: &Self::Body) -> Option<Encoded<'_>> {
        None
    }

    /// The head may be taken apart: nobody else needs it.
    fn answer(
        &self,
        head: &mut RequestHead,
        body: Incoming,
        exchange: Exchange,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The answer to what is no request; the connection closes after it.
    fn refuse(&self, refusal: Refusal) -> Response<Self::Body>;

    /// Nothing comes on a connection for a while: it has let go of what it can do without.
    fn quiet(&self) {}

    /// A request's body was malformed; its reader was told and has answered.
    fn body_refused(&self, refusal: Refusal);
}

/// What a client of HTTP/2 begins with, up to where it looks like a head (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// What became of a connection.
pub enum Served {
    Closed,
    /// The client speaks HTTP/2, with prior knowledge: nothing was taken from it.
    Http2(Upgraded),
}

/// What becomes of a connection that has had requests.
enum After {
    /// Nothing came for a while.
    Quiet,
    Closed,
    Http2,
}

/// Serves one connection until either side closes it. `closing` resolves when the server wants
/// no more requests; the one in hand is finished.
///
/// # Errors
/// Why the connection ended within a message.
pub async fn serve<S: Service>(
    stream: Stream,
    service: &S,
    closing: impl Future<Output = ()> + Send,
) -> Result<Served, Error> {
    let conn = Arc::new(Mutex::new(Conn::new(stream)));
    let mut closing = pin!(Closing::new(closing));
    let mut idle = Idle::default();
    while idle.until_bytes(&conn, closing.as_mut()).await? {
        // All that is large lies in this box, which an idle connection does without.
        match Box::pin(requests(&conn, service, closing.as_mut())).await? {
            After::Quiet => {
                idle = Idle::after_use();
                service.quiet();
            }
            After::Closed => break,
            After::Http2 => return Ok(Served::Http2(lock(&conn).take())),
        }
    }
    let tunnel = lock(&conn).tunnel.take();
    drop(conn);
    if let Some(tunnel) = tunnel {
        tunnel.await;
    }
    Ok(Served::Closed)
}

async fn requests<S: Service>(
    conn: &Shared,
    service: &S,
    mut closing: Pin<&mut Closing<impl Future<Output = ()>>>,
) -> Result<After, Error> {
    let (mut head, mut standby) = (RequestHead::default(), Standby::default());
    let mut room = Vec::new();
    let mut next = Next::Begun(begin(&mut lock(conn), &mut head));
    loop {
        let begun = match next {
            Next::Event(Event::Quiet) => return Ok(After::Quiet),
            Next::Event(Event::Closing) | Next::Closed => return Ok(After::Closed),
            Next::Begun(Ok(None)) => rest_of_head(conn, &mut head).await,
            Next::Begun(begun) => begun.map_err(Error::Refused),
        };
        let begun = match begun {
            Ok(Some(begun)) => begun,
            Ok(None) => return Ok(After::Closed),
            Err(Error::Refused(_)) if is_http2(conn) => return Ok(After::Http2),
            Err(Error::Refused(refusal)) => return refuse(conn, service, refusal).await,
            Err(error) => return Err(error),
        };
        standby.used();
        let is_kept = exchange(conn, service, (&mut head, &mut room), &begun).await;
        head.let_go();
        if begun.has_body()
            && let Some(refusal) = lock(conn).refused.take()
        {
            service.body_refused(refusal);
        }
        if !is_kept? {
            return Ok(After::Closed);
        }
        next = poll_fn(|context| {
            let came = poll_next(context, &mut lock(conn), &mut head)?;
            if came.is_pending()
                && let Poll::Ready(event) = standby.poll(context, closing.as_mut())
            {
                return Poll::Ready(Ok(Next::Event(event)));
            }
            came.map(Ok)
        })
        .await
        .map_err(Error::Io)?;
    }
}

/// What comes after an answer.
enum Next {
    /// A request, or the beginning of one.
    Begun(Result<Option<Begun>, Refusal>),
    Closed,
    Event(Event),
}

/// A request whose head is there.
struct Begun {
    asked: Asked,
    framing: Framing,
    message: u64,
}

impl Begun {
    fn has_body(&self) -> bool {
        self.framing != Framing::None
    }
}

/// Takes the next head of what was read, once it is there whole, and begins to read its body.
fn begin(conn: &mut Conn, head: &mut RequestHead) -> Result<Option<Begun>, Refusal> {
    if conn.read.starts_with(PREFACE) {
        return Err(Refusal::Version);
    }
    if !head::request(&mut conn.read, &mut conn.progress, head)? {
        return Ok(None);
    }
    let stated = Stated::of(&head.headers);
    let asked = Asked::new(&head.method, head.version, &stated);
    let framing = stated.of_request(head.version)?;
    conn.begin(framing);
    if framing != Framing::None && asked.version != Version::HTTP_10 && expects(head) {
        conn.continue_owed = encode::CONTINUE;
    }
    Ok(Some(Begun { asked, framing, message: conn.message }))
}

/// Whether the client wants to be told to send its body (RFC 9110 section 10.1.1).
fn expects(head: &RequestHead) -> bool {
    let expects = lines::first(&head.headers, &header::EXPECT);
    expects.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn poll_next(
    context: &mut Context<'_>,
    conn: &mut Conn,
    head: &mut RequestHead,
) -> Poll<io::Result<Next>> {
    if conn.read.is_empty() && ready!(conn.poll_read(context))? == 0 {
        return Poll::Ready(Ok(Next::Closed));
    }
    Poll::Ready(Ok(Next::Begun(begin(conn, head))))
}

/// The head whose beginning is there; `None` when the client closed instead of sending one.
async fn rest_of_head(conn: &Shared, head: &mut RequestHead) -> Result<Option<Begun>, Error> {
    let rest = poll_fn(|context| {
        let conn = &mut *lock(conn);
        loop {
            if ready!(conn.poll_read(context))? == 0 {
                let is_between = conn.read.is_empty();
                return Poll::Ready(if is_between { Ok(None) } else { Err(Error::Closed) });
            }
            if let Some(begun) = begin(conn, head)? {
                return Poll::Ready(Ok(Some(begun)));
            }
        }
    });
    timeout(HEAD_TIMEOUT, rest).await.unwrap_or(Err(Error::TooSlow))
}

/// Only a connection's first bytes can be the preface: later they are a request like any other.
fn is_http2(conn: &Shared) -> bool {
    let conn = lock(conn);
    conn.message == 0 && conn.read.starts_with(PREFACE)
}

/// One request and its answer; whether the connection is good for another. There is room for the answer's
/// head in what an earlier one had.
async fn exchange<S: Service>(
    conn: &Shared,
    service: &S,
    (head, room): (&mut RequestHead, &mut Vec<u8>),
    begun: &Begun,
) -> Result<bool, Error> {
    let Begun { asked, framing, message } = *begun;
    let (body, mut watch) = (Incoming::new(conn, framing, message), Watch::default());
    // In place: what a service does may be large, and moving it costs more than much of its work.
    let answer = pin!(service.answer(head, body, Exchange::new(conn, message, asked.version)));
    let response = attended(conn, &mut watch, answer).await.ok_or(Error::Closed)?;
    let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let is_kept = write::<S>(conn, &mut watch, (response, room), begun).await?;
    if is_switching {
        let mut conn = lock(conn);
        if let Some(heir) = conn.heir.take() {
            conn.tunnel = Some(heir(conn.take()));
        }
        return Ok(false);
    }
    let may_go_on = is_kept && !watch.is_half_closed();
    if may_go_on && !begun.has_body() {
        return Ok(true);
    }
    settle(conn, may_go_on).await
}

/// Whether the connection may be kept.
async fn write<S: Service>(
    conn: &Shared,
    watch: &mut Watch,
    (response, room): (Response<S::Body>, &mut Vec<u8>),
    begun: &Begun,
) -> Result<bool, Error> {
    let mut asked = begun.asked;
    if begun.has_body() {
        let mut conn = lock(conn);
        asked.is_kept &= !conn.is_broken;
        conn.has_answered = true;
    }
    let (mut writer, is_kept) = answer::begin::<S>(std::mem::take(room), response, asked);
    writer.patience = Some(Patience::default());
    poll_fn(|context| {
        if let Poll::Ready(written) = writer.poll(context, &mut &*conn) {
            return Poll::Ready(written);
        }
        watch.poll_gone(context, conn, writer.written).map(|()| Err(Error::Closed))
    })
    .await?;
    *room = writer.into_room();
    Ok(is_kept)
}

/// After an answer: reads what is left of the body, or closes so that the client can read it.
async fn settle(conn: &Shared, may_go_on: bool) -> Result<bool, Error> {
    if may_go_on && lock(conn).is_done() {
        return Ok(true);
    }
    // A client that was never told to go on may send its body or not.
    let is_told = lock(conn).continue_owed.is_empty();
    if may_go_on && is_told && discard(conn).await {
        return Ok(true);
    }
    close(conn).await;
    Ok(false)
}

async fn refuse<S: Service>(conn: &Shared, service: &S, refusal: Refusal) -> Result<After, Error> {
    let asked = Asked { version: Version::HTTP_11, is_head: false, is_kept: false };
    let begun = Begun { asked, framing: Framing::None, message: 0 };
    let answer = (service.refuse(refusal), &mut Vec::new());
    write::<S>(conn, &mut Watch::default(), answer, &begun).await?;
    close(conn).await;
    Ok(After::Closed)
}

/// Reads the rest of a body in vain; whether that was all.
async fn discard(conn: &Shared) -> bool {
    let all = async {
        let mut bytes = 0;
        while let Some(frame) = poll_fn(|context| lock(conn).poll_frame(context)).await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARD_BYTES_MAX {
                return false;
            }
        }
        true
    };
    timeout(DISCARD_TIMEOUT, all).await.unwrap_or(false)
}

/// Closes so that the client can read what it was sent: a connection that is closed with bytes
/// unread is reset, and a reset overtakes them.
async fn close(conn: &Shared) {
    let all = async {
        let mut bytes = 0;
        poll_fn(|context| Pin::new(&mut lock(conn).stream).poll_shutdown(context)).await?;
        while bytes <= DISCARD_BYTES_MAX {
            lock(conn).read.clear();
            match poll_fn(|context| lock(conn).poll_read(context)).await? {
                0 => break,
                read => bytes += read,
            }
        }
        Ok::<_, io::Error>(())
    };
    // It is over either way.
    let _ = timeout(DISCARD_TIMEOUT, all).await;
}
