//! The server's end of a connection: one request after the other, each with its answer.

mod answer;
mod ending;
mod idle;
mod incoming;
mod service;
mod shared;
mod standby;
mod tolerance;
mod watch;

pub use incoming::{Exchange, RequestBody};
pub use service::Service;
pub use tolerance::{HALF_CLOSED_MAX, LINGERING_MAX, Tolerance};

use crate::conn::{Conn, Error, Patience};
use crate::framing::{Framing, Stated};
use crate::head::{self, RequestHead};
use crate::refusal::Refusal;
use crate::slow::SlowPeer;
use crate::stream::{Stream, Upgraded};
use crate::{encode, lines};
use answer::Asked;
use ending::{close, settle, will_close};
use http::{Response, StatusCode, Version, header};
use idle::{Closing, IdleWait};
use shared::{Shared, lock};
use standby::{Event, Standby};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::timeout;
use watch::{Watch, attended};

/// How long a head may take from its first byte to its last: a client that has not sent it by then is slow on
/// purpose.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The preface of an HTTP/2 client, as far as it looks like a head (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// How a connection ended.
pub enum Served {
    /// The connection is closed.
    Closed,
    /// The client speaks HTTP/2 with prior knowledge; no byte was taken from the connection.
    Http2(Upgraded),
}

/// What becomes of a connection that has had requests.
enum After {
    /// No request came for a while.
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
    let mut conn = Conn::new(stream);
    conn.peer = service.tolerance().map(|own| SlowPeer::new(&own.slow, service.address()));
    conn.progress.limits = service.head_limits();
    let conn = Arc::new(Mutex::new(conn));
    let mut closing = pin!(Closing::new(closing));
    let mut idle = IdleWait::default();
    while idle.until_bytes(&conn, closing.as_mut()).await? {
        // All that is large lies in this box, which an idle connection frees.
        match Box::pin(requests(&conn, service, closing.as_mut())).await? {
            After::Quiet => {
                idle = IdleWait::after_use();
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
            Err(Error::Refused(refusal)) => {
                return refuse(conn, service, refusal, closing).await;
            }
            Err(error) => return Err(error),
        };
        standby.used();
        let came = (&mut head, &mut room);
        let is_kept = exchange(conn, service, came, &begun, closing.as_mut()).await;
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
    /// Whether the request may be sent again (RFC 9110 section 9.2.2).
    is_idempotent: bool,
}

impl Begun {
    fn has_body(&self) -> bool {
        self.framing != Framing::None
    }
}

/// Takes the next head from what was read, once it is complete, and begins to read its body.
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
    let is_idempotent = head.method.is_idempotent();
    Ok(Some(Begun { asked, framing, message: conn.message, is_idempotent }))
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

/// Reads the head whose beginning is there; `None` when the client closed instead of sending the rest.
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

/// Handles one request and writes its answer. Returns whether the connection can take another. The answer's
/// head is written into the memory of an earlier one.
async fn exchange<S: Service>(
    conn: &Shared,
    service: &S,
    (head, room): (&mut RequestHead, &mut Vec<u8>),
    begun: &Begun,
    closing: Pin<&mut Closing<impl Future<Output = ()>>>,
) -> Result<bool, Error> {
    let Begun { asked, framing, message, is_idempotent } = *begun;
    let tolerance = service.tolerance();
    let mut watch = Watch::new(tolerance.map(|own| &own.half_closed), is_idempotent);
    let body = RequestBody::new(conn, framing, message);
    // The future is pinned in place: it may be large, and moving it costs more than much of its work.
    let answer = pin!(service.answer(head, body, Exchange::new(conn, message, asked.version)));
    let response = attended(conn, &mut watch, answer).await.ok_or(Error::Closed)?;
    let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let is_kept = match write::<S>(conn, &mut watch, (response, room), begun).await? {
        Written::Whole { is_kept } => is_kept,
        Written::Nothing(error) => {
            let instead = Begun { asked: Asked { is_kept: false, ..asked }, ..*begun };
            let response = (service.broken(&error), room);
            write::<S>(conn, &mut watch, response, &instead).await?;
            false
        }
    };
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
    settle(conn, may_go_on, tolerance, closing).await
}

/// How an answer ended.
enum Written {
    /// It was written; whether the connection may be kept.
    Whole { is_kept: bool },
    /// The body broke off before anything was sent.
    Nothing(io::Error),
}

async fn write<S: Service>(
    conn: &Shared,
    watch: &mut Watch<'_>,
    (response, room): (Response<S::Body>, &mut Vec<u8>),
    begun: &Begun,
) -> Result<Written, Error> {
    let mut asked = begun.asked;
    if begun.has_body() {
        let mut conn = lock(conn);
        asked.is_kept &= !conn.is_broken && !will_close(&conn);
        conn.has_answered = true;
    }
    let (mut writer, is_kept) = answer::begin::<S>(std::mem::take(room), response, asked);
    writer.patience = Some(Patience::default());
    let written = poll_fn(|context| {
        if let Poll::Ready(written) = writer.poll(context, &mut &*conn) {
            return Poll::Ready(written);
        }
        watch.poll_gone(context, conn, writer.written).map(|()| Err(Error::Closed))
    })
    .await;
    match written {
        Ok(()) => {
            *room = writer.into_room();
            Ok(Written::Whole { is_kept })
        }
        Err(Error::Body(error)) if writer.written == 0 => Ok(Written::Nothing(error)),
        Err(error @ Error::BodyLength) if writer.written == 0 => {
            Ok(Written::Nothing(io::Error::other(error)))
        }
        Err(error) => {
            if writer.ends_with_the_connection() {
                // Otherwise the client would take what came for the whole answer.
                lock(conn).stream.reset();
            }
            Err(error)
        }
    }
}

async fn refuse<S: Service>(
    conn: &Shared,
    service: &S,
    refusal: Refusal,
    closing: Pin<&mut Closing<impl Future<Output = ()>>>,
) -> Result<After, Error> {
    let asked = Asked { version: Version::HTTP_11, is_head: false, is_kept: false };
    let begun = Begun { asked, framing: Framing::None, message: 0, is_idempotent: true };
    let answer = (service.refuse(refusal), &mut Vec::new());
    write::<S>(conn, &mut Watch::new(None, true), answer, &begun).await?;
    close(conn, service.tolerance(), closing).await;
    Ok(After::Closed)
}
