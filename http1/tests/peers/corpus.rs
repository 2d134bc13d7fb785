//! Raw bytes as a server meets them, and the answer to each. Nothing ambiguous reaches the service.

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use http1::Refusal;
use http1::head::RequestHead;
use http1::server::{Exchange, RequestBody, Service, serve};
use http1::stream::Stream;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers with what it was asked; a refusal with its name.
#[derive(Clone, Default)]
struct Mirror {
    seen: Arc<Mutex<Vec<String>>>,
    broken: Arc<Mutex<Vec<&'static str>>>,
}

impl Service for Mirror {
    type Body = UnsyncBoxBody<Bytes, io::Error>;

    async fn answer(
        &self,
        head: &mut RequestHead,
        body: RequestBody,
        _: Exchange,
    ) -> Response<Self::Body> {
        let body = match body.collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(error) => return text(400, &format!("[{error}]")),
        };
        let seen = format!("{} {} {body}", head.method, head.target.path_and_query);
        if let Ok(mut all) = self.seen.lock() {
            all.push(seen.clone());
        }
        text(200, &seen)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Self::Body> {
        text(refusal.status(), refusal.name())
    }

    fn broken(&self, error: &io::Error) -> Response<Self::Body> {
        panic!("{error}");
    }

    fn body_refused(&self, refusal: Refusal) {
        if let Ok(mut all) = self.broken.lock() {
            all.push(refusal.name());
        }
    }
}

fn text(status: u16, text: &str) -> Response<UnsyncBoxBody<Bytes, io::Error>> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    response
}

async fn served(stream: tokio::io::DuplexStream, mirror: Mirror) {
    // How the connection ended is of no interest: what was answered is.
    let _ = serve(Stream::other(stream), &mirror, std::future::pending()).await;
}

/// All that comes back until the server closes, and what the service saw.
async fn exchange(request: &[u8]) -> (String, Vec<String>) {
    let mirror = Mirror::default();
    let answer = answered(&mirror, request).await;
    let seen = mirror.seen.lock().expect("no panic").clone();
    (answer, seen)
}

async fn answered(mirror: &Mirror, request: &[u8]) -> String {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let served = tokio::spawn(served(server, mirror.clone()));
    client.write_all(request).await.expect("room for all");
    client.shutdown().await.expect("open");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("an answer");
    served.await.expect("no panic");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Requests that are answered, with what the service sees of them.
const TAKEN: &[(&str, &[u8], &[&str])] = &[
    ("plain", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", &["GET / "]),
    ("empty lines before", b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", &["GET / "]),
    ("a body", b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", &["POST /a abc"]),
    ("an empty body", b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", &["POST /a "]),
    (
        "chunks",
        b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        &["POST /a abcde"],
    ),
    (
        "Chunked in capitals",
        b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        &["POST /a "],
    ),
    (
        "two in one piece",
        b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
        &["GET /1 ", "GET /2 "],
    ),
    (
        "a body and the next",
        b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nabGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
        &["POST /1 ab", "GET /2 "],
    ),
    ("spaces round a value", b"GET / HTTP/1.1\r\nHost:  h \t\r\n\r\n", &["GET / "]),
    ("bytes over 127 in a value", b"GET / HTTP/1.1\r\nHost: h\r\nX: \xc3\xa9\r\n\r\n", &["GET / "]),
    ("HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", &["GET / "]),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", &["OPTIONS * "]),
    ("absolute", b"GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n", &["GET /a "]),
];

/// Requests that are refused, with the status and the name.
const REFUSED: &[(&str, &[u8], &str)] = &[
    ("bare LF", b"GET / HTTP/1.1\nHost: h\n\n", "400 line-ending"),
    ("bare LF in the last line", b"GET / HTTP/1.1\r\nHost: h\r\n\n", "400 line-ending"),
    ("bare LF before the head", b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "400 line-ending"),
    ("bare CR in a value", b"GET / HTTP/1.1\r\nHost: h\rX: 1\r\n\r\n", "400 field"),
    ("CR CR LF", b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", "400 field"),
    ("NUL in a value", b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", "400 field"),
    ("NUL in a name", b"GET / HTTP/1.1\r\nHost: h\r\nX\0: a\r\n\r\n", "400 field"),
    ("space before the colon", b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", "400 field"),
    ("no name", b"GET / HTTP/1.1\r\nHost: h\r\n: v\r\n\r\n", "400 field"),
    ("no colon", b"GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", "400 field"),
    ("a folded line", b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", "400 field"),
    ("a folded first line", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", "400 field"),
    ("no version", b"GET /\r\nHost: h\r\n\r\n", "400 start-line"),
    ("two spaces", b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "400 start-line"),
    ("space at the end", b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", "400 start-line"),
    ("a tab", b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", "400 start-line"),
    ("a space in the target", b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "400 start-line"),
    ("NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", "400 start-line"),
    ("no target", b"GET HTTP/1.1\r\nHost: h\r\n\r\n", "400 start-line"),
    ("no method", b" / HTTP/1.1\r\nHost: h\r\n\r\n", "400 start-line"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400 start-line"),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", "505 version"),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", "505 version"),
    ("http/1.1", b"GET / http/1.1\r\nHost: h\r\n\r\n", "400 start-line"),
    (
        "a length and a coding",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
        "400 length-and-coding",
    ),
    (
        "a coding and a length",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX",
        "400 length-and-coding",
    ),
    (
        "two lengths",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "400 length-repeated",
    ),
    (
        "the same length twice",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "400 length-repeated",
    ),
    ("a list of lengths", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\na", "400 length"),
    ("a signed length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na", "400 length"),
    ("a negative length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\na", "400 length"),
    ("a hexadecimal length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\na", "400 length"),
    ("no length in it", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", "400 length"),
    (
        "a length that overflows",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551617\r\n\r\na",
        "400 length",
    ),
    (
        "another coding",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "501 coding",
    ),
    (
        "chunked and identity",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "501 coding",
    ),
    (
        "chunked twice",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "501 coding",
    ),
    (
        "an odd chunked",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "400 field",
    ),
    (
        "x chunked",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "501 coding",
    ),
    (
        "a coding in HTTP/1.0",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400 coding-in-old-version",
    ),
];

/// Bodies that are refused while they are read.
const BROKEN_BODIES: &[(&str, &[u8], &str)] = &[
    ("no size", b"\r\nabc\r\n0\r\n\r\n", "chunk-size"),
    ("a size in words", b"z\r\nabc\r\n0\r\n\r\n", "chunk-size"),
    ("0x before the size", b"0x3\r\nabc\r\n0\r\n\r\n", "chunk-size"),
    ("a sign", b"+3\r\nabc\r\n0\r\n\r\n", "chunk-size"),
    ("a space before the size", b" 3\r\nabc\r\n0\r\n\r\n", "chunk-size"),
    ("a space after the size", b"3 \r\nabc\r\n0\r\n\r\n", "chunk-size"),
    ("a size that overflows", b"10000000000000003\r\nabc\r\n0\r\n\r\n", "chunk-size"),
    ("LF after the size", b"3\nabc\r\n0\r\n\r\n", "line-ending"),
    ("CR in the extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n", "chunk-extension"),
    ("LF ends the extension", b"3;a\nabc\r\n0\r\n\r\n", "line-ending"),
    ("more than it says", b"3\r\nabcd\r\n0\r\n\r\n", "chunk-end"),
    ("LF after the data", b"3\r\nabc\n0\r\n\r\n", "chunk-end"),
    ("a trailer without a colon", b"0\r\nX\r\n\r\n", "trailer"),
    ("LF after a trailer", b"0\r\nX: 1\n\r\n", "trailer"),
];

#[tokio::test]
async fn what_the_standard_allows_reaches_the_service() {
    for (what, request, expected) in TAKEN {
        let (answer, seen) = exchange(request).await;
        assert_eq!(seen, *expected, "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), expected.len(), "{what}");
    }
}

#[tokio::test]
async fn what_two_programs_may_read_in_two_ways_is_refused_by_name_and_the_connection_closes() {
    for (what, request, expected) in REFUSED {
        // A second request that hides behind it must not be seen.
        let request = [request, &b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"[..]].concat();
        let (answer, seen) = exchange(&request).await;
        let (status, name) = expected.split_once(' ').expect("status and name");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{name}")), "{what}: {answer}");
        assert!(answer.contains("Connection: close\r\n"), "{what}: {answer}");
        assert!(seen.is_empty(), "{what}: {seen:?}");
    }
}

#[tokio::test]
async fn a_malformed_body_breaks_off_and_nothing_after_it_is_taken_for_a_request() {
    for (what, body, name) in BROKEN_BODIES {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let next = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
        let mirror = Mirror::default();
        let answer = answered(&mirror, &[&head[..], body, next].concat()).await;
        let seen = mirror.seen.lock().expect("no panic").clone();
        assert_eq!(*mirror.broken.lock().expect("no panic"), [*name], "{what}");
        assert!(answer.contains(&format!("[{name}: ")), "{what}: {answer}");
        assert!(answer.contains("Connection: close\r\n"), "{what}: {answer}");
        assert!(seen.is_empty(), "{what}: {seen:?}");
    }
}

#[tokio::test]
async fn heads_and_chunk_lines_are_limited() {
    let fields = |count: usize| {
        let lines: String = (0..count).map(|number| format!("X-{number}: 1\r\n")).collect();
        format!("GET / HTTP/1.1\r\n{lines}\r\n")
    };
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(bytes));
    let field = |bytes: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(bytes));
    let extension = |bytes: usize| {
        let line = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(bytes));
        format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{line}")
    };
    for (request, expected) in [
        (fields(100), "HTTP/1.1 200"),
        (fields(101), "HTTP/1.1 431"),
        (target(16 * 1024 - 1), "HTTP/1.1 200"),
        (target(16 * 1024), "HTTP/1.1 414"),
        (target(64 * 1024), "HTTP/1.1 414"),
        (field(31 * 1024), "HTTP/1.1 200"),
        (field(32 * 1024), "HTTP/1.1 431"),
        (field(1024 * 1024 / 2), "HTTP/1.1 431"),
        (extension(200), "HTTP/1.1 200"),
        (extension(300), "HTTP/1.1 400"),
    ] {
        let (answer, _) = exchange(request.as_bytes()).await;
        let start = &request[..request.len().min(60)];
        assert!(answer.starts_with(expected), "{start}… of {} bytes: {answer}", request.len());
    }
}

#[tokio::test]
async fn a_request_is_read_alike_however_it_is_cut() {
    let request = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    for cut in 1..request.len() {
        let mirror = Mirror::default();
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(served(server, mirror.clone()));
        let (first, second) = request.split_at(cut);
        client.write_all(first).await.expect("room");
        // Whoever serves has read what there is.
        tokio::task::yield_now().await;
        client.write_all(second).await.expect("room");
        client.shutdown().await.expect("open");
        client.read_to_end(&mut Vec::new()).await.expect("answers");
        served.await.expect("no panic");
        let seen = mirror.seen.lock().expect("no panic").clone();
        assert_eq!(seen, ["POST /a abc", "GET /b "], "cut at {cut}");
    }
}
