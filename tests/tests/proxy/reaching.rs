//! Reaching an application that is busy, restarts, listens elsewhere than the name's first address says, or
//! closes connections as they are needed.

use std::net::SocketAddr;
use std::time::Duration;
use support::{App, Client, Reply, Spillway, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// Longer than any test waits: whoever gets an answer did not wait for this to run out.
const FOR_EVER: &str = "300";

/// A listener in whose queue there is room for so many connections that nobody has taken yet.
fn listener(backlog: u32) -> (TcpListener, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(backlog).expect("listens");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Answers one request on each connection, with `ok`, and closes.
fn serve(listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    })
}

async fn answer(mut stream: TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") && !read.ends_with(b"body") {
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let said = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    // Who is gone needs no answer.
    let _ = stream.write_all(said).await;
}

fn ask(sidecar: &Spillway, method: &'static str, count: usize) -> Vec<JoinHandle<(u16, String)>> {
    let ask = |client: Client| {
        tokio::spawn(async move {
            let answer = client.send(method, "/", if method == "POST" { "body" } else { "" }).await;
            (answer.status, answer.text())
        })
    };
    (0..count).map(|_| ask(sidecar.client())).collect()
}

async fn all_are_answered(asking: Vec<JoinHandle<(u16, String)>>) {
    for answer in asking {
        assert_eq!(answer.await.expect("an answer"), (200, "ok".to_owned()));
    }
}

async fn until_in_flight(sidecar: &Spillway, count: usize) {
    eventually("all requests are in flight", || async {
        let in_flight = sidecar.metric("spillway_http_requests_in_flight").await;
        (in_flight >= count as f64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_burst_beyond_the_queue_of_a_busy_app_is_answered_whole() {
    for method in ["GET", "POST"] {
        let (listener, address) = listener(8);
        let sidecar = Spillway::proxy_to("", &format!("http://{address}")).start().await;
        let asking = ask(&sidecar, method, 24);
        until_in_flight(&sidecar, 24).await;
        let app = serve(listener);
        all_are_answered(asking).await;
        app.abort();
    }
}

#[tokio::test]
async fn the_time_for_connecting_is_a_setting_and_within_the_routes() {
    let (listener, address) = listener(0);
    // The one place in the queue.
    let _taken = TcpStream::connect(address).await.expect("the one place");
    let app = format!("http://{address}");
    let short = Spillway::proxy_to("", &app).with("--connect-timeout", "1").start().await;
    let refused = short.client().get("/").await;
    assert_eq!((refused.status, refused.problem().as_str()), (502, "upstream-unreachable"));
    let rules = "[[route]]\nname = \"all\"\nmatch = { path = \"/\" }\ntimeout = \"1s\"\n";
    let long = Spillway::proxy_to(rules, &app).with("--connect-timeout", FOR_EVER).start().await;
    let refused = long.client().get("/").await;
    assert_eq!((refused.status, refused.problem().as_str()), (504, "upstream-timeout"));
    drop(listener);
}

/// A cached route whose answer is stale, and an application that takes no connections any more.
async fn stale_and_unreachable(rules: &str) -> (Spillway, Vec<TcpStream>, TcpListener) {
    let (listener, address) = listener(0);
    let sidecar = Spillway::proxy_to(rules, &format!("http://{address}"));
    let sidecar = sidecar.with("--connect-timeout", FOR_EVER).start().await;
    let client = sidecar.client();
    let asking = tokio::spawn(async move { client.get("/kept").await.text() });
    let (stream, _) = listener.accept().await.expect("a connection");
    answer(stream).await;
    assert_eq!(asking.await.expect("an answer"), "ok");
    let taken = TcpStream::connect(address).await.expect("the one place");
    (sidecar, vec![taken], listener)
}

#[tokio::test]
async fn a_stale_answer_is_served_while_connecting_takes_its_time() {
    let rules = "[[route]]\nname = \"kept\"\nmatch = { path = \"/kept\" }\ntimeout = \"10m\"\n\
                 cache = { sidecar = \"1ms\", stale_if_error = \"1h\" }\n";
    let (sidecar, _taken, _listener) = stale_and_unreachable(rules).await;
    // The first one connects, the others wait for it.
    let asking: Vec<_> = (0..5)
        .map(|_| {
            let client = sidecar.client();
            tokio::spawn(async move { client.get("/kept").await })
        })
        .collect();
    for answer in asking {
        let answer = answer.await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert!(answer.cache().contains("stale-on-error"), "{}", answer.cache());
    }
}

#[tokio::test]
async fn what_could_be_connected_again_is_not_refused_after_failures() {
    let (listener, address) = listener(64);
    drop(listener);
    let sidecar = Spillway::proxy_to("", &format!("http://{address}")).start().await;
    for refused in ask(&sidecar, "GET", 20) {
        assert_eq!(refused.await.expect("an answer").0, 502);
    }
    // Back within the pause after the failures.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("the port is free");
    let app = serve(socket.listen(64).expect("listens"));
    all_are_answered(ask(&sidecar, "POST", 20)).await;
    app.abort();
}

#[tokio::test]
async fn localhost_is_whichever_family_the_app_listens_on() {
    for host in ["127.0.0.1", "::1"] {
        let Ok(listener) = TcpListener::bind((host, 0)).await else {
            eprintln!("this machine has no {host}");
            continue;
        };
        let port = listener.local_addr().expect("bound").port();
        let app = serve(listener);
        let sidecar = Spillway::proxy_to("", &format!("http://localhost:{port}")).start().await;
        all_are_answered(ask(&sidecar, "GET", 5)).await;
        app.abort();
    }
}

#[tokio::test]
async fn a_post_takes_no_connection_that_was_idle_for_long_and_a_get_does() {
    let app = App::start().await;
    app.on("/", Reply::ok("ok"));
    let sidecar = Spillway::proxy("", &app).start().await;
    let client = sidecar.client();
    client.post("/", "body").await;
    client.post("/", "body").await;
    assert_eq!(app.connections(), 1, "it was idle for a moment");
    // What is tried is that the time counts.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    client.get("/").await;
    assert_eq!(app.connections(), 1, "a GET may be sent again");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    client.post("/", "body").await;
    assert_eq!(app.connections(), 2);
}
