//! The client's end against a server of raw bytes.

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use http1::client::{Connection, Incoming, Outgoing, Unanswered, send};
use http1::pool::Pool;
use http1::stream::Stream;
use http1::{Error, Refusal};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

type Body =
    http_body_util::combinators::MapErr<Full<Bytes>, fn(std::convert::Infallible) -> io::Error>;

fn body(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {})
}

struct Upstream {
    pool: Arc<Pool>,
    server: DuplexStream,
    free: Option<Connection>,
}

impl Upstream {
    fn new() -> Self {
        let (client, server) = tokio::io::duplex(1 << 16);
        let pool = Arc::new(Pool::new(4, Duration::from_secs(60)));
        Self { pool, server, free: Some(Connection::new(Stream::other(client))) }
    }

    /// Asks on the connection, which is answered with these bytes.
    async fn ask(
        &mut self,
        method: Method,
        answer: &[u8],
    ) -> Result<Response<Incoming<Body>>, Unanswered> {
        let connection = self.free.take().or_else(|| self.pool.take()).expect("a free connection");
        self.server.write_all(answer).await.expect("room");
        let headers = HeaderMap::new();
        let outgoing = Outgoing { method: &method, target: "/", headers: &headers, body: body("") };
        send(connection, outgoing, None, &self.pool).await?.into_response()
    }
}

async fn text(response: Response<Incoming<Body>>) -> String {
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

#[tokio::test]
async fn a_connection_comes_back_when_its_answer_was_read() {
    let mut upstream = Upstream::new();
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nkeep-alive: max=9, timeout=60\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let response = upstream.ask(Method::GET, answer.as_bytes()).await.expect("an answer");
        assert_eq!(text(response).await, "ok", "{answer}");
    }
    let response = upstream.ask(Method::GET, b"HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(response.expect("an answer").status(), StatusCode::NO_CONTENT);
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
    let response = upstream.ask(Method::HEAD, head).await.expect("an answer");
    assert_eq!(text(response).await, "");
    assert!(upstream.pool.take().is_some());
}

#[tokio::test]
async fn a_connection_does_not_come_back_when_it_may_hold_something_else() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nkeep-alive: timeout=0\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
    ] {
        let mut upstream = Upstream::new();
        let response = upstream.ask(Method::GET, answer.as_bytes()).await.expect("an answer");
        assert_eq!(text(response).await, "ok", "{answer}");
        assert!(upstream.pool.take().is_none(), "{answer}");
    }
    // Nor when nobody read it to its end, or something came while it was idle.
    let mut upstream = Upstream::new();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    drop(upstream.ask(Method::GET, answer).await.expect("an answer"));
    assert!(upstream.pool.take().is_none());
    let mut upstream = Upstream::new();
    text(upstream.ask(Method::GET, answer).await.expect("an answer")).await;
    upstream.server.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.expect("room");
    assert!(upstream.pool.take().is_none());
}

#[tokio::test]
async fn an_answer_that_can_be_read_in_two_ways_is_refused() {
    for (answer, refusal) in [
        ("content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n", Refusal::LengthAndCoding),
        ("content-length: 2\r\ncontent-length: 2\r\n\r\nok", Refusal::LengthRepeated),
        ("content-length: 2, 2\r\n\r\nok", Refusal::Length),
        ("transfer-encoding: gzip\r\n\r\n", Refusal::Coding),
        ("transfer-encoding: x, chunked\r\n\r\n0\r\n\r\n", Refusal::Coding),
        ("x : 1\r\n\r\n", Refusal::Field),
        ("x: 1\n\r\n", Refusal::LineEnding),
        ("x: 1\r\n y\r\n\r\n", Refusal::Field),
    ] {
        let mut upstream = Upstream::new();
        let answer = format!("HTTP/1.1 200 OK\r\n{answer}");
        let refused = upstream.ask(Method::GET, answer.as_bytes()).await.err();
        let refused = refused.unwrap_or_else(|| panic!("{answer:?} was taken"));
        assert!(
            matches!(refused.error, Error::Refused(it) if it == refusal),
            "{answer:?}: {}",
            refused.error
        );
        assert!(!refused.is_silent);
    }
}

#[tokio::test]
async fn a_coding_that_is_none_ends_with_the_connection() {
    let mut upstream = Upstream::new();
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: nothing\r\n\r\nok";
    let response = upstream.ask(Method::GET, answer).await.expect("an answer");
    upstream.server.shutdown().await.expect("open");
    assert_eq!(text(response).await, "ok");
    assert!(upstream.pool.take().is_none());
}

#[tokio::test]
async fn an_upstream_that_closes_without_a_word_is_told_from_one_that_broke_off() {
    let mut upstream = Upstream::new();
    upstream.server.shutdown().await.expect("open");
    let connection = upstream.free.take().expect("free");
    let (method, headers) = (Method::GET, HeaderMap::new());
    let outgoing = Outgoing { method: &method, target: "/", headers: &headers, body: body("") };
    let silent = send(connection, outgoing, None, &upstream.pool).await.err().expect("no answer");
    assert!(silent.is_silent && matches!(silent.error, Error::Closed));
    let mut upstream = Upstream::new();
    upstream.server.write_all(b"HTTP/1.1 200").await.expect("room");
    upstream.server.shutdown().await.expect("open");
    let connection = upstream.free.take().expect("free");
    let outgoing = Outgoing { method: &method, target: "/", headers: &headers, body: body("") };
    let broken = send(connection, outgoing, None, &upstream.pool).await.err().expect("no answer");
    assert!(!broken.is_silent && matches!(broken.error, Error::Closed));
}

#[tokio::test]
async fn a_body_is_sent_with_its_length() {
    let mut upstream = Upstream::new();
    let connection = upstream.free.take().expect("free");
    let (method, headers) = (Method::POST, HeaderMap::new());
    let outgoing =
        Outgoing { method: &method, target: "/a?b", headers: &headers, body: body("abc") };
    upstream.server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("room");
    send(connection, outgoing, None, &upstream.pool).await.expect("an answer");
    drop(upstream.pool.take());
    let mut heard = String::new();
    upstream.server.read_to_string(&mut heard).await.expect("text");
    assert_eq!(heard, "POST /a?b HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc");
}

#[tokio::test]
async fn a_target_with_spaces_or_line_ends_is_not_sent() {
    for target in ["/a b", "/a\r\nX: 1", ""] {
        let mut upstream = Upstream::new();
        let connection = upstream.free.take().expect("free");
        let (method, headers) = (Method::GET, HeaderMap::new());
        let outgoing = Outgoing { method: &method, target, headers: &headers, body: body("") };
        let refused =
            send(connection, outgoing, None, &upstream.pool).await.err().expect("refused");
        assert!(matches!(refused.error, Error::Refused(Refusal::Target)), "{target:?}");
    }
}
