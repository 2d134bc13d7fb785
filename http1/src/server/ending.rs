//! What follows an answer on its connection: the next request, or a close that lets the client read the
//! answer.

use super::idle::Closing;
use super::shared::{Shared, lock};
use super::tolerance::Tolerance;
use crate::conn::{Conn, Error};
use bytes::Bytes;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::timeout;

/// How many bytes of a request's body are read and discarded to keep the connection.
const DISCARD_BYTES_MAX: usize = 256 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a lingering close may take: the client reads its answer once it has sent what it wanted to
/// (`lingering_time` and `lingering_timeout` of nginx).
const LINGER_TIMEOUT: Duration = Duration::from_secs(30);
const LINGER_PAUSE: Duration = Duration::from_secs(5);

/// Reads what is left of the body after an answer, or closes so that the client can read the answer.
pub(super) async fn settle(
    conn: &Shared,
    may_go_on: bool,
    tolerance: Option<&Tolerance>,
    closing: Pin<&mut Closing<impl Future<Output = ()>>>,
) -> Result<bool, Error> {
    if may_go_on && lock(conn).is_done() {
        return Ok(true);
    }
    // A client that was never sent `100 Continue` may send its body or not.
    let is_told = lock(conn).continue_owed.is_empty();
    if may_go_on && is_told && discard(conn).await {
        return Ok(true);
    }
    close(conn, tolerance, closing).await;
    Ok(false)
}

/// Whether [`settle`] will close the connection, as far as can be known when the answer begins: more of the
/// body is to come than is discarded, or the client still waits to be told to send it. The answer must say so
/// (RFC 9112 section 9.6), or the client sends its next request into a connection that closes.
pub(super) fn will_close(conn: &Conn) -> bool {
    let is_too_much = conn.left().is_some_and(|left| left > DISCARD_BYTES_MAX as u64);
    !conn.is_done() && (is_too_much || !conn.continue_owed.is_empty())
}

/// Reads and discards the rest of a body, and returns whether it came to its end.
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

/// Closes in stages, so that the client can read what it was sent: a connection that is closed with bytes
/// unread is reset, and a reset overtakes them (RFC 9112 section 9.6). While the server closes it closes at
/// once.
pub(super) async fn close(
    conn: &Shared,
    tolerance: Option<&Tolerance>,
    closing: Pin<&mut Closing<impl Future<Output = ()>>>,
) {
    let all = async {
        poll_fn(|context| Pin::new(&mut lock(conn).stream).poll_shutdown(context)).await?;
        loop {
            lock(conn).read.clear();
            let read = poll_fn(|context| lock(conn).poll_read(context));
            match timeout(LINGER_PAUSE, read).await {
                Ok(Ok(bytes)) if bytes > 0 => {}
                _ => return Ok::<_, io::Error>(()),
            }
        }
    };
    let hold = tolerance.map(|own| own.lingering.enter(true));
    let let_go = async {
        match hold {
            Some(hold) => hold.await,
            None => std::future::pending().await,
        }
    };
    // The connection ends in any case.
    tokio::select! {
        biased;
        () = closing => {}
        _ = timeout(LINGER_TIMEOUT, all) => {}
        () = let_go => {}
    }
}
