//! The client's end against a server of raw bytes.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use http1::client::{Connection, Mended, Outgoing, ResponseBody, Unanswered, send};
use http1::head::Reason;
use http1::pool::{For, Pool};
use http1::received::Received;
use http1::stream::Stream;
use http1::{Error, Refusal};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};

type Body =
    http_body_util::combinators::MapErr<Full<Bytes>, fn(std::convert::Infallible) -> io::Error>;

fn body(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {})
}

/// How long an answer is waited for here.
const PATIENCE: Duration = Duration::from_secs(60);

fn outgoing<'a, B>(
    method: &'a Method,
    target: &'a str,
    headers: &'a HeaderMap,
    body: B,
) -> Outgoing<'a, B> {
    static NOTHING: Received = Received::none();
    let (began, came) = (Instant::now(), &NOTHING);
    Outgoing { method, target, headers, came, added: "", body, timeout: PATIENCE, began }
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
    ) -> Result<Response<ResponseBody<Body>>, Unanswered<Body>> {
        let connection = self
            .free
            .take()
            .or_else(|| self.pool.take(Instant::now(), For::Repeatable))
            .expect("a free connection");
        self.server.write_all(answer).await.expect("room");
        let headers = HeaderMap::new();
        let request = outgoing(&method, "/", &headers, body(""));
        send(connection, request, None, &self.pool).await?.into_response()
    }
}

async fn text(response: Response<ResponseBody<Body>>) -> String {
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
    assert!(upstream.pool.take(Instant::now(), For::Repeatable).is_some());
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
        assert!(upstream.pool.take(Instant::now(), For::Repeatable).is_none(), "{answer}");
    }
    // Nor when nobody read it to its end, or something came while it was idle.
    let mut upstream = Upstream::new();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    drop(upstream.ask(Method::GET, answer).await.expect("an answer"));
    assert!(upstream.pool.take(Instant::now(), For::Repeatable).is_none());
    let mut upstream = Upstream::new();
    text(upstream.ask(Method::GET, answer).await.expect("an answer")).await;
    upstream.server.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.expect("room");
    assert!(upstream.pool.take(Instant::now(), For::Repeatable).is_none());
}

#[tokio::test]
async fn a_connection_is_free_at_once_where_the_body_came_with_the_head() {
    let mut upstream = Upstream::new();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let mut body = upstream.ask(Method::GET, answer).await.expect("an answer").into_body();
    assert_eq!(body.whole().as_deref(), Some(&b"ok"[..]));
    assert!(body.collect().await.expect("nothing more").to_bytes().is_empty());
    // The next one is asked on it. Its body is still to come.
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no";
    let mut body = upstream.ask(Method::GET, half).await.expect("an answer").into_body();
    assert_eq!(body.whole(), None);
    assert!(upstream.pool.take(Instant::now(), For::Repeatable).is_none());
    upstream.server.write_all(b"k").await.expect("room");
    assert_eq!(body.collect().await.expect("a whole body").to_bytes(), "ok");
    assert!(upstream.pool.take(Instant::now(), For::Repeatable).is_some());
}

#[tokio::test]
async fn a_body_of_unknown_length_is_read_to_find_its_end() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"[..],
        b"HTTP/1.0 200 OK\r\n\r\nok",
    ] {
        let mut upstream = Upstream::new();
        let mut body = upstream.ask(Method::GET, answer).await.expect("an answer").into_body();
        assert_eq!(body.whole(), None);
    }
}

#[tokio::test]
async fn an_answer_that_can_be_read_in_two_ways_is_refused() {
    for (answer, refusal) in [
        ("content-length: 2\r\ncontent-length: 3\r\n\r\nok", Refusal::LengthRepeated),
        ("content-length: 2, 3\r\n\r\nok", Refusal::LengthRepeated),
        ("content-length: two\r\n\r\nok", Refusal::Length),
        ("content-length: 2\r\ntransfer-encoding: gzip\r\n\r\n", Refusal::LengthAndCoding),
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
async fn lengths_that_contradict_each_other_in_one_way_go_on_as_one_or_none_and_the_connection_ends()
 {
    for (method, status, fields, sent, left) in [
        (
            Method::GET,
            200,
            "content-length: 2\r\ntransfer-encoding: chunked\r\n",
            "2\r\nok\r\n0\r\n\r\n",
            None,
        ),
        (Method::GET, 200, "content-length: 2\r\nContent-Length: 2\r\n", "ok", Some("2")),
        (Method::GET, 200, "content-length: 2, 2\r\n", "ok", None),
        (Method::HEAD, 200, "content-length: 0\r\ntransfer-encoding: chunked\r\n", "", None),
        (Method::HEAD, 200, "content-length: 7\r\ncontent-length: 7\r\n", "", Some("7")),
        (Method::HEAD, 200, "content-length: 7\r\ncontent-length: 8\r\n", "", None),
        (Method::GET, 204, "content-length: x\r\n", "", None),
        (Method::GET, 304, "content-length: 0\r\ntransfer-encoding: chunked\r\n", "", None),
    ] {
        let mut upstream = Upstream::new();
        let answer = format!("HTTP/1.1 {status} X\r\n{fields}\r\n{sent}");
        let response = upstream.ask(method, answer.as_bytes()).await.expect("an answer");
        assert!(response.extensions().get::<Mended>().is_some(), "{answer:?}");
        let length = response.headers().get("content-length").map(|it| it.to_str().expect("text"));
        assert_eq!(length, left, "{answer:?}");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body.len(), if sent.is_empty() { 0 } else { 2 }, "{answer:?}");
        assert!(
            upstream.pool.take(Instant::now(), For::Repeatable).is_none(),
            "{answer:?}: used again"
        );
    }
}

#[tokio::test]
async fn the_words_after_a_status_are_kept_where_they_are_not_the_usual_ones() {
    for (line, words) in
        [("200 OK", None), ("200 Fine", Some("Fine")), ("299 ", None), ("404", Some(""))]
    {
        let mut upstream = Upstream::new();
        let answer = format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n");
        let response = upstream.ask(Method::GET, answer.as_bytes()).await.expect("an answer");
        let reason = response.extensions().get::<Reason>().map(Reason::as_bytes);
        assert_eq!(reason, words.map(str::as_bytes), "{line}");
    }
}

#[tokio::test]
async fn a_coding_that_is_none_ends_with_the_connection() {
    let mut upstream = Upstream::new();
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: nothing\r\n\r\nok";
    let response = upstream.ask(Method::GET, answer).await.expect("an answer");
    upstream.server.shutdown().await.expect("open");
    assert_eq!(text(response).await, "ok");
    assert!(upstream.pool.take(Instant::now(), For::Repeatable).is_none());
}

#[tokio::test]
async fn an_upstream_that_closes_without_a_word_is_told_from_one_that_broke_off() {
    let mut upstream = Upstream::new();
    upstream.server.shutdown().await.expect("open");
    let connection = upstream.free.take().expect("free");
    let (method, headers) = (Method::GET, HeaderMap::new());
    let request = outgoing(&method, "/", &headers, body(""));
    let silent = send(connection, request, None, &upstream.pool).await.err().expect("no answer");
    assert!(silent.is_silent && matches!(silent.error, Error::Closed));
    let mut upstream = Upstream::new();
    upstream.server.write_all(b"HTTP/1.1 200").await.expect("room");
    upstream.server.shutdown().await.expect("open");
    let connection = upstream.free.take().expect("free");
    let request = outgoing(&method, "/", &headers, body(""));
    let broken = send(connection, request, None, &upstream.pool).await.err().expect("no answer");
    assert!(!broken.is_silent && matches!(broken.error, Error::Closed));
}

#[tokio::test]
async fn a_body_is_sent_with_its_length() {
    let mut upstream = Upstream::new();
    let connection = upstream.free.take().expect("free");
    let (method, headers) = (Method::POST, HeaderMap::new());
    let request = outgoing(&method, "/a?b", &headers, body("abc"));
    upstream.server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("room");
    send(connection, request, None, &upstream.pool).await.expect("an answer");
    drop(upstream.pool.take(Instant::now(), For::Repeatable));
    let mut heard = String::new();
    upstream.server.read_to_string(&mut heard).await.expect("text");
    assert_eq!(heard, "POST /a?b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
}

#[tokio::test]
async fn a_target_with_spaces_or_line_ends_is_not_sent() {
    for target in ["/a b", "/a\r\nX: 1", ""] {
        let mut upstream = Upstream::new();
        let connection = upstream.free.take().expect("free");
        let (method, headers) = (Method::GET, HeaderMap::new());
        let request = outgoing(&method, target, &headers, body(""));
        let refused = send(connection, request, None, &upstream.pool).await.err().expect("refused");
        assert!(matches!(refused.error, Error::Refused(Refusal::Target)), "{target:?}");
    }
}

#[tokio::test]
async fn added_lines_follow_the_fields() {
    let mut upstream = Upstream::new();
    let connection = upstream.free.take().expect("free");
    let mut headers = HeaderMap::new();
    headers.insert("a", HeaderValue::from_static("1"));
    let request = Outgoing { added: "b: 2\r\n", ..outgoing(&Method::GET, "/", &headers, body("")) };
    upstream.server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("room");
    send(connection, request, None, &upstream.pool).await.expect("an answer");
    drop(upstream.pool.take(Instant::now(), For::Repeatable));
    let mut heard = String::new();
    upstream.server.read_to_string(&mut heard).await.expect("text");
    assert_eq!(heard, "GET / HTTP/1.1\r\nA: 1\r\nb: 2\r\n\r\n");
}

/// A body of pieces that come a second apart.
fn upload(pieces: usize) -> impl http_body::Body<Data = Bytes, Error = io::Error> + Unpin {
    let pieces = futures_util::stream::unfold(0, move |sent| async move {
        sleep(Duration::from_secs(1)).await;
        let frame = Frame::data(Bytes::from_static(&[b'x'; 1024]));
        (sent < pieces).then_some((Ok(frame), sent + 1))
    });
    StreamBody::new(Box::pin(pieces))
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_does_not_answer_is_given_up_and_not_asked_again() {
    let mut upstream = Upstream::new();
    let (connection, headers) = (upstream.free.take().expect("free"), HeaderMap::new());
    let began = Instant::now();
    let request = outgoing(&Method::GET, "/", &headers, body(""));
    let late = send(connection, request, None, &upstream.pool).await.err().expect("no answer");
    assert!(matches!(late.error, Error::TooSlow) && !late.is_silent);
    assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_not_the_upstreams_delay_and_its_answer_is_waited_for_afterwards() {
    let Upstream { pool, mut server, free } = Upstream::new();
    let (connection, headers) = (free.expect("free"), HeaderMap::new());
    let (began, pieces) = (Instant::now(), 2 * PATIENCE.as_secs());
    let reader = tokio::spawn(async move {
        let mut read = vec![0; 4096];
        while server.read(&mut read).await.is_ok_and(|read| read > 0) {}
    });
    let request = outgoing(&Method::POST, "/", &headers, upload(pieces as usize));
    let late = send(connection, request, None, &pool).await.err().expect("no answer");
    assert!(matches!(late.error, Error::TooSlow));
    let took = began.elapsed().as_secs();
    assert!(
        (pieces + PATIENCE.as_secs()..pieces + PATIENCE.as_secs() + 2).contains(&took),
        "{took}"
    );
    reader.await.expect("it read all");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_stops_reading_an_upload_is_given_up() {
    let mut upstream = Upstream::new();
    let (connection, headers) = (upstream.free.take().expect("free"), HeaderMap::new());
    let began = Instant::now();
    // Sixty-four of them fill its buffer.
    let request = outgoing(&Method::POST, "/", &headers, upload(1000));
    let late = send(connection, request, None, &upstream.pool).await.err().expect("no answer");
    assert!(matches!(late.error, Error::TooSlow));
    assert!((120..130).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}
