//! Calls to an app of HTTP/2: more at once than it takes on one connection, on connections that it ends,
//! and to one that is not there.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Gate, Script, Spillway, python};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Says how many bytes it was sent.
async fn count(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok(Response::new(Full::new(Bytes::from(body.len().to_string()))))
}

async fn bound() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let app = format!("h2c://{}", listener.local_addr().expect("bound"));
    (listener, app)
}

#[tokio::test]
async fn as_many_connections_are_made_as_the_calls_need_and_no_more() {
    const CALLS: usize = 25;
    let (listener, app) = bound().await;
    let (connections, gate) = (Arc::new(AtomicUsize::new(0)), Gate::default());
    let (made, held) = (Arc::clone(&connections), gate.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            made.fetch_add(1, Ordering::SeqCst);
            let held = held.clone();
            let answer = service_fn(move |request| {
                let held = held.clone();
                async move {
                    held.pass().await;
                    count(request).await
                }
            });
            let mut server = http2::Builder::new(TokioExecutor::new());
            let served =
                server.max_concurrent_streams(10).serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(served);
        }
    });
    let sidecar = Spillway::proxy_to("", &app).start().await;
    // Over one connection, and so one thread.
    let stream = TcpStream::connect(sidecar.address()).await.expect("listens");
    let made = client::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = made.expect("HTTP/2");
    tokio::spawn(connection);
    let asking: Vec<_> = (0..CALLS)
        .map(|_| {
            let mut sender = sender.clone();
            let request = Request::post("http://h/").body(Full::new(Bytes::from("four")));
            tokio::spawn(async move { sender.send_request(request.expect("a request")).await })
        })
        .collect();
    gate.until_waited(CALLS).await;
    assert_eq!(connections.load(Ordering::SeqCst), CALLS.div_ceil(10));
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.expect("no panic").expect("an answer").status(), 200);
    }
}

/// How an app says that it did not process a call.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    /// The connection ends, and the last stream that was processed is none.
    GoAway,
    /// This stream only.
    Reset,
    /// The connection ends, and the call's stream may have been processed.
    GoAwayAfter,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const REFUSED_STREAM: u32 = 7;
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
}

/// Reads a call's frames until it has sent so many bytes, or all; its stream.
async fn call(stream: &mut TcpStream, bytes: usize) -> u32 {
    let mut preface = [0; PREFACE];
    stream.read_exact(&mut preface).await.expect("a preface");
    stream.write_all(&frame(SETTINGS, 0, &[])).await.expect("open");
    let (mut id, mut sent) = (0, 0);
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.expect("its payload");
        match head[3] {
            HEADERS => id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            DATA => sent += length,
            _ => continue,
        }
        let is_all = head[4] & END_STREAM != 0;
        if is_all || (sent >= bytes && sent > 0) {
            return id;
        }
    }
}

/// An app that refuses a call on each of its first connections, once it has sent so much, and then serves.
async fn refusing(refusal: Refusal, times: usize, bytes: usize) -> String {
    let (listener, app) = bound().await;
    tokio::spawn(async move {
        for _ in 0..times {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let id = call(&mut stream, bytes).await;
                let said = match refusal {
                    Refusal::GoAway => frame(GOAWAY, 0, &[0; 8]),
                    Refusal::GoAwayAfter => frame(GOAWAY, 0, &[id.to_be_bytes(), [0; 4]].concat()),
                    Refusal::Reset => frame(RST_STREAM, id, &REFUSED_STREAM.to_be_bytes()),
                };
                stream.write_all(&said).await.expect("open");
                if matches!(refusal, Refusal::Reset) {
                    // The connection stands.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            });
        }
        while let Ok((stream, _)) = listener.accept().await {
            let served = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(count));
            tokio::spawn(served);
        }
    });
    app
}

#[tokio::test]
async fn a_call_that_was_not_processed_is_sent_whole_over_another_connection() {
    for refusal in [Refusal::GoAway, Refusal::Reset] {
        for (times, length) in [(1, 4), (3, 60_000)] {
            let app = refusing(refusal, times, length).await;
            let sidecar = Spillway::proxy_to("", &app).start().await;
            let answer = sidecar.client().post("/", vec![b'x'; length]).await;
            assert_eq!((answer.status, answer.text()), (200, length.to_string()), "{refusal:?}");
            let retries = r#"spillway_upstream_retries_total{upstream="app"}"#;
            assert_eq!(sidecar.metric(retries).await, times as f64);
        }
    }
}

#[tokio::test]
async fn a_call_that_may_have_been_processed_is_not_sent_again() {
    let app = refusing(Refusal::GoAwayAfter, 1, 4).await;
    let sidecar = Spillway::proxy_to("", &app).start().await;
    let answer = sidecar.client().post("/", "four").await;
    assert_eq!((answer.status, answer.problem().as_str()), (502, "upstream-unreachable"));
}

#[tokio::test]
async fn a_call_of_which_too_much_was_sent_is_not_sent_in_part() {
    for refusal in [Refusal::GoAway, Refusal::Reset] {
        // More than the window that an app opens by default would never be sent: 65,535 bytes are.
        let app = refusing(refusal, 1, 65_535).await;
        let sidecar = Spillway::proxy_to("", &app).start().await;
        let mut stream = TcpStream::connect(sidecar.address()).await.expect("listens");
        let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("open");
        stream.write_all(&[b'x'; 200_000]).await.expect("open");
        let answer = support::read_until(&mut stream, "}").await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{refusal:?}: {answer}");
        assert!(answer.contains("upstream-unreachable"), "{refusal:?}: {answer}");
    }
}

#[tokio::test]
async fn an_app_that_refuses_everything_is_not_asked_for_ever() {
    let app = refusing(Refusal::Reset, 1000, 4).await;
    let sidecar = Spillway::proxy_to("", &app).start().await;
    let answer = sidecar.client().post("/", "four").await;
    assert_eq!((answer.status, answer.problem().as_str()), (502, "upstream-unreachable"));
}

/// A server of gRPC whose connections end all the time, in good order.
const SERVER: &str = r#"
import grpc
from concurrent import futures

class Calls(grpc.GenericRpcHandler):
    def service(self, call):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request.upper())

options = [("grpc.max_connection_age_ms", 50), ("grpc.max_connection_age_grace_ms", 10000)]
server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
server.add_generic_rpc_handlers((Calls(),))
print("127.0.0.1:%d" % server.add_insecure_port("127.0.0.1:0"))
server.start()
server.wait_for_termination()
"#;

const CLIENT: &str = r#"
import grpc, os
from concurrent import futures
channel = grpc.insecure_channel(os.environ["ADDRESS"], options=[("grpc.enable_retries", 0)])
call = channel.unary_unary("/s/m")
def outcome(number):
    try:
        return call(b"x", timeout=20).decode()
    except grpc.RpcError as error:
        return "%s %s" % (error.code().name, error.details())
with futures.ThreadPoolExecutor(8) as many:
    print(sorted(set(many.map(outcome, range(int(os.environ["CALLS"]))))))
"#;

async fn outcomes(sidecar: &Spillway, calls: usize) -> String {
    let own = [("ADDRESS", sidecar.address().to_owned()), ("CALLS", calls.to_string())];
    python(CLIENT, &own.map(|(name, value)| (name.to_owned(), value))).await
}

#[tokio::test]
async fn connections_that_age_cost_no_call() {
    let app = Script::start(SERVER).await;
    let sidecar = Spillway::proxy_to("", &format!("h2c://{}", app.address)).start().await;
    assert_eq!(outcomes(&sidecar, 3000).await, "['X']");
}

#[tokio::test]
async fn a_refusal_of_ours_is_a_status_of_grpc_with_the_problems_name() {
    let rules = "default = \"refuse\"\n[[route]]\nname = \"calls\"\nmatch = { path = \"/s/m\" }\n";
    let gone = Spillway::proxy_to(rules, "h2c://127.0.0.1:9").start().await;
    assert_eq!(outcomes(&gone, 1).await, "['UNAVAILABLE upstream-unreachable']");
    let strict = Spillway::proxy_to("default = \"refuse\"\n", "h2c://127.0.0.1:9").start().await;
    assert_eq!(outcomes(&strict, 1).await, "['UNIMPLEMENTED no-route']");
    // For the log and the metrics it is what it is for everybody.
    let refused = r#"spillway_http_requests_total{code="5xx",route="calls"}"#;
    assert_eq!(gone.metric(refused).await, 1.0);
}

#[tokio::test]
async fn a_call_whose_connection_breaks_in_its_answer_ends_as_unavailable() {
    let (listener, app) = bound().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let id = call(&mut stream, 0).await;
            // `:status 200`, indexed (RFC 7541 appendix A); the end of the head, not of the stream.
            let mut head = frame(HEADERS, id, &[0x88]);
            head[4] = 4;
            stream.write_all(&head).await.expect("open");
        }
    });
    let sidecar = Spillway::proxy_to("", &app).start().await;
    assert_eq!(outcomes(&sidecar, 1).await, "['UNAVAILABLE upstream-unreachable']");
}
