//! HTTP/2 in the clear, in and out: with curl, and a server of our own. Over TLS: tls.rs.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use support::{App, Reply, Spillway, curl, raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_client_may_begin_with_http_2_and_the_app_sees_http_1() {
    let app = App::start().await;
    app.answer("/any", |asked| {
        Reply::ok(format!(
            "{} {} {}",
            asked.header("host").unwrap_or_default(),
            asked.header("cookie").unwrap_or_default(),
            asked.body.len()
        ))
    });
    let sidecar = Spillway::proxy("", &app).start().await;
    let url = format!("{}/any", sidecar.url());
    let body = "x".repeat(100_000);
    let plain = ["--http2-prior-knowledge", "--write-out", " %{http_version} %{response_code}"];
    let sent = ["--header", "Cookie: a=1", "--header", "Host: shop.example", "--data", &body];
    let said = curl(&[&plain[..], &sent, &[&url]].concat()).await;
    assert_eq!(said, "shop.example a=1 100000 2 200");
}

#[tokio::test]
async fn cookies_that_come_one_by_one_are_one_field_for_the_app() {
    let app = App::start().await;
    app.answer("/", |asked| Reply::ok(asked.header("cookie").unwrap_or_default().to_owned()));
    let sidecar = Spillway::proxy("", &app).start().await;
    let stream = TcpStream::connect(sidecar.address()).await.expect("listens");
    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = made.await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::get("http://h/").header("cookie", "a=1").header("cookie", "b=2");
    let request = request.body(Full::new(Bytes::new())).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(body, "a=1; b=2");
}

/// An app of HTTP/2 that says what it was asked, and takes uploads to `/never` without an answer.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let app = format!("h2c://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let echo = service_fn(|request: Request<Incoming>| async move {
                let (host, version) = (request.uri().authority().cloned(), request.version());
                let is_silent = request.uri().path() == "/never";
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                if is_silent {
                    std::future::pending::<()>().await;
                }
                let said = format!("{version:?} {} {}", host.expect("an authority"), body.len());
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(said))))
            });
            let served = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), echo);
            tokio::spawn(served);
        }
    });
    app
}

#[tokio::test]
async fn an_app_may_speak_http_2_to_clients_of_http_1() {
    let sidecar = Spillway::proxy_to("", &echo().await).start().await;
    let client = sidecar.client().with("host", "shop.example");
    assert_eq!(client.post("/any", "four").await.text(), "HTTP/2.0 shop.example 4");
    assert_eq!(client.get("/any").await.text(), "HTTP/2.0 shop.example 0");
}

/// Posts four bytes, each later than the time-out of the route after the one before.
async fn upload(address: &str, asked: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("listens");
    let head =
        format!("{asked} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("open");
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        stream.write_all(b"x").await.expect("open");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    answer
}

#[tokio::test]
async fn the_time_of_an_upload_is_not_the_apps_over_either_protocol() {
    const HASTY: &str =
        "[[route]]\nname = \"hasty\"\nmatch = { path = \"/{*rest}\" }\ntimeout = \"300ms\"\n";
    let app = App::start().await;
    app.answer("/any", |asked| Reply::ok(format!("{}", asked.body.len())));
    let over_http1 = Spillway::proxy(HASTY, &app).start().await;
    // What may be sent again is read first.
    for asked in ["POST /any", "PUT /any"] {
        let answer = upload(over_http1.address(), asked).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n4"), "{answer}");
    }
    let over_http2 = Spillway::proxy_to(HASTY, &echo().await).start().await;
    let answer = upload(over_http2.address(), "POST /any").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("h 4"), "{answer}");
    // From then on it is.
    let answer = upload(over_http2.address(), "POST /never").await;
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("upstream-timeout"), "{answer}");
}

#[tokio::test]
async fn what_goes_wrong_towards_an_app_of_http_2_has_the_names_it_has_elsewhere() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let app = format!("h2c://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let read = service_fn(|request: Request<Incoming>| async move {
                // A body that breaks off has no answer that anybody reads.
                let _ = request.into_body().collect().await;
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
            });
            let served = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), read);
            tokio::spawn(served);
        }
    });
    let rules = "[[route]]\nname = \"small\"\nmatch = { path = \"/small\" }\nmax_body = \"1KiB\"\n";
    let sidecar = Spillway::proxy_to(rules, &app).start().await;
    let long = "x".repeat(5000);
    let chunks = format!(
        "POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    let refused = raw(sidecar.address(), &chunks, "}").await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    let gone = Spillway::proxy_to("", "h2c://127.0.0.1:9").start().await;
    for _ in 0..8 {
        assert_eq!(gone.client().get("/").await.problem(), "upstream-unreachable");
    }
}
