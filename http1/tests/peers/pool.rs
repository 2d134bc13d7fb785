//! Which idle connection a request gets, and what becomes of one that met a connection that had ended.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use http1::client::{self, Connection, Outgoing, send, send_unsent};
use http1::pool::{For, Pool};
use http1::received::Received;
use http1::stream::Stream;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::time::{Instant, advance};

static NOTHING: Received = Received::none();

type Body =
    http_body_util::combinators::MapErr<Full<Bytes>, fn(std::convert::Infallible) -> io::Error>;

fn body(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {})
}

fn outgoing<'a>(
    method: &'a Method,
    headers: &'a HeaderMap,
    text: &'static str,
) -> Outgoing<'a, Body> {
    Outgoing {
        method,
        target: "/",
        headers,
        came: &NOTHING,
        added: "",
        body: body(text),
        timeout: Duration::from_secs(60),
        began: Instant::now(),
    }
}

const IDLE_MAX: Duration = Duration::from_secs(15);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A pool with one connection that is idle from now on.
async fn pool(keep_alive: &str) -> (Arc<Pool>, DuplexStream) {
    let (client, mut server) = tokio::io::duplex(1 << 16);
    let pool = Arc::new(Pool::new(4, IDLE_MAX));
    ask(&pool, Connection::new(Stream::other(client)), &mut server, keep_alive).await;
    (pool, server)
}

async fn ask(
    pool: &Arc<Pool>,
    connection: Connection,
    server: &mut DuplexStream,
    keep_alive: &str,
) {
    let answer = format!("HTTP/1.1 204 No Content\r\n{keep_alive}\r\n");
    server.write_all(answer.as_bytes()).await.expect("room");
    let (method, headers) = (Method::GET, HeaderMap::new());
    send(connection, outgoing(&method, &headers, ""), None, pool).await.expect("an answer");
}

/// Whether there is one for a request that may not be repeated, after so long.
async fn has_one_after(idle: f64, keep_alive: &str) -> bool {
    let (pool, _server) = pool(keep_alive).await;
    advance(seconds(idle)).await;
    pool.take(Instant::now(), For::Once).is_some()
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_takes_a_connection_that_is_sure_to_stand() {
    assert!(has_one_after(0.9, "").await);
    assert!(!has_one_after(1.1, "").await, "nobody knows how long this upstream keeps it");
    // It says 5 s, of which 4 are believed.
    assert!(has_one_after(1.9, "keep-alive: timeout=5\r\n").await);
    assert!(!has_one_after(2.1, "keep-alive: timeout=5\r\n").await);
}

#[tokio::test(start_paused = true)]
async fn what_may_be_repeated_takes_any_and_the_other_one_stays_for_it() {
    let (pool, _server) = pool("").await;
    advance(seconds(14.0)).await;
    assert!(pool.take(Instant::now(), For::Once).is_none());
    assert!(pool.take(Instant::now(), For::Repeatable).is_some());
}

#[tokio::test(start_paused = true)]
async fn half_of_what_an_upstream_was_seen_to_keep_counts() {
    let (pool, mut server) = pool("").await;
    advance(seconds(8.0)).await;
    let connection = pool.take(Instant::now(), For::Repeatable).expect("it stands");
    ask(&pool, connection, &mut server, "").await;
    advance(seconds(3.9)).await;
    let connection = pool.take(Instant::now(), For::Once).expect("half of 8 s are not over");
    ask(&pool, connection, &mut server, "").await;
    advance(seconds(4.1)).await;
    assert!(pool.take(Instant::now(), For::Once).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_closes_sooner_than_before_is_believed() {
    for is_swept in [false, true] {
        let (pool, mut server) = pool("").await;
        advance(seconds(8.0)).await;
        let connection = pool.take(Instant::now(), For::Repeatable).expect("it stands");
        ask(&pool, connection, &mut server, "").await;
        advance(seconds(2.0)).await;
        drop(server);
        if is_swept {
            pool.sweep();
        }
        assert!(pool.take(Instant::now(), For::Repeatable).is_none(), "it was closed");
        let (client, mut server) = tokio::io::duplex(1 << 16);
        ask(&pool, Connection::new(Stream::other(client)), &mut server, "").await;
        advance(seconds(1.1)).await;
        assert!(pool.take(Instant::now(), For::Once).is_none(), "half of 2 s are over");
    }
}

/// A connection that has ended, though nothing tells of it before it is written to.
struct Ended;

impl AsyncRead for Ended {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Ended {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_request_of_which_nothing_was_sent_goes_out_whole_over_another_connection() {
    let pool = Arc::new(Pool::new(4, IDLE_MAX));
    let (method, headers) = (Method::POST, HeaderMap::new());
    let ended = Connection::new(Stream::other(Ended));
    let request = outgoing(&method, &headers, "once");
    let unanswered = send(ended, request, None, &pool).await.err().expect("no answer");
    let unsent = unanswered.unsent.expect("the request itself");
    let (client, mut server) = tokio::io::duplex(1 << 16);
    server.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.expect("room");
    let other = Connection::new(Stream::other(client));
    let answer = send_unsent(unsent, other, None, &pool).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::OK);
    drop(answer);
    let mut heard = String::new();
    server.read_to_string(&mut heard).await.expect("text");
    assert_eq!(heard, "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nonce");
}

#[tokio::test]
async fn a_request_of_which_a_byte_was_sent_is_not_given_back() {
    let pool = Arc::new(Pool::new(4, IDLE_MAX));
    let (method, headers) = (Method::POST, HeaderMap::new());
    // Room for eight bytes, and then nobody is there.
    let (connection, server) = tokio::io::duplex(8);
    let request = outgoing(&method, &headers, "once");
    let connection = Connection::new(Stream::other(connection));
    let sending = send(connection, request, None, &pool);
    let (sent, ()) = tokio::join!(sending, async {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        drop(server);
    });
    let client::Unanswered { unsent, is_silent, .. } = sent.err().expect("no answer");
    assert!(is_silent && unsent.is_none());
}
