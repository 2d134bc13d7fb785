//! How a sidecar takes its leave: `spillway drain`, which its own preStop hook runs, and `GET /drained`,
//! for which the application's hook waits.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{App, Gate, PATIENCE, Reply, Spillway, eventually, raw, read_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const RULES: &str = "";

async fn is_leaving(sidecar: &Spillway) {
    eventually("it is not ready", || async {
        (sidecar.admin().get("/ready").await.status == 503).then_some(())
    })
    .await;
}

#[tokio::test]
async fn until_nodes_have_learnt_of_it_connections_are_answered_and_sent_elsewhere() {
    let app = App::start().await;
    app.on("/page", Reply::ok("page"));
    let sidecar = Spillway::proxy(RULES, &app).with("--drain-delay", "2").start().await;
    let kept = sidecar.client();
    assert_eq!(kept.get("/page").await.header("connection"), "");
    let draining = tokio::spawn(sidecar.drain());
    is_leaving(&sidecar).await;
    // The connection from before, and one that comes only now.
    for client in [kept, sidecar.client()] {
        let answer = client.get("/page").await;
        assert_eq!((answer.status, answer.header("connection").as_str()), (200, "close"));
    }
    assert!(!draining.is_finished());
    assert_eq!(draining.await.expect("it ends").code, Some(0));
    eventually("no new connection is taken", || async {
        sidecar.client().try_send("GET", "/page", "").await.err()
    })
    .await;
}

#[tokio::test]
async fn sigterm_ends_the_delay() {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).with("--drain-delay", "3600").start().await;
    let draining = tokio::spawn(sidecar.drain());
    is_leaving(&sidecar).await;
    sidecar.terminate().await;
    assert_eq!(sidecar.ended().await, Some(0));
    drop(draining);
}

#[tokio::test]
async fn nobody_waits_for_an_application_that_has_ended_as_that_of_a_job_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let app = format!("http://{}", listener.local_addr().expect("a bound port"));
    let sidecar = Spillway::proxy_to(RULES, &app).with("--drain-delay", "3600").start().await;
    let draining = tokio::spawn(sidecar.drain());
    is_leaving(&sidecar).await;
    assert!(!draining.is_finished(), "the application still listens");
    drop(listener);
    assert_eq!(draining.await.expect("it ends").code, Some(0));
    eventually("no new connection is taken", || async {
        TcpStream::connect(sidecar.address()).await.err()
    })
    .await;
}

#[tokio::test]
async fn a_drain_waits_for_the_end_of_an_answer_and_not_only_for_its_beginning() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let app = format!("http://{}", listener.local_addr().expect("a bound port"));
    let sidecar = Spillway::proxy_to(RULES, &app).with("--drain-delay", "0").start().await;
    let mut client = TcpStream::connect(sidecar.address()).await.expect("a connection");
    client.write_all(b"GET /long HTTP/1.1\r\nHost: app\r\n\r\n").await.expect("sent");
    let (mut upstream, _) = listener.accept().await.expect("the sidecar connects");
    read_until(&mut upstream, "\r\n\r\n").await;
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst";
    upstream.write_all(half).await.expect("sent");
    assert!(read_until(&mut client, "first").await.contains("200"));
    let draining = tokio::spawn(sidecar.drain());
    is_leaving(&sidecar).await;
    eventually("no new connection is taken", || async {
        TcpStream::connect(sidecar.address()).await.err()
    })
    .await;
    assert!(!draining.is_finished());
    upstream.write_all(b"final").await.expect("sent");
    assert_eq!(read_until(&mut client, "final").await, "final");
    assert_eq!(draining.await.expect("it ends").code, Some(0));
}

/// A WebSocket, an event stream or the like: an app that a test plays, and a client beside it.
struct Streamed {
    client: TcpStream,
    app: TcpStream,
}

const WEBSOCKET: (&str, &str) = (
    "GET /live HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
);
const EVENTS: (&str, &str) = (
    "GET /events HTTP/1.1\r\nHost: app\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n: hello\n\n",
);
/// "Going away" (RFC 6455 section 7.4.1), as a server sends it.
const CLOSE_1001: &[u8] = b"\x88\x02\x03\xe9";

impl Streamed {
    async fn open(sidecar: &Spillway, app: &TcpListener, (asked, answer): (&str, &str)) -> Self {
        let mut client = TcpStream::connect(sidecar.address()).await.expect("a connection");
        client.write_all(asked.as_bytes()).await.expect("sent");
        let (mut app, _) = app.accept().await.expect("the sidecar connects");
        read_until(&mut app, "\r\n\r\n").await;
        app.write_all(answer.as_bytes()).await.expect("sent");
        read_until(&mut client, "\r\n\r\n").await;
        Self { client, app }
    }

    /// Bytes that reach the other side.
    async fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
        from.write_all(bytes).await.expect("open");
        let mut read = vec![0; bytes.len()];
        let heard = tokio::time::timeout(PATIENCE, to.read_exact(&mut read)).await;
        heard.expect("in time").expect("open");
        assert_eq!(read, bytes);
    }
}

async fn in_front_of_a_played_app() -> (Spillway, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let app = format!("http://{}", listener.local_addr().expect("a bound port"));
    (Spillway::proxy_to(RULES, &app).with("--drain-delay", "0").start().await, listener)
}

/// Both preStop hooks at once, as the kubelet runs them. They return although a stream is open.
async fn hooks(sidecar: &Spillway) {
    let admin = sidecar.admin();
    let (own, the_apps) = tokio::join!(sidecar.drain(), admin.get("/drained"));
    assert_eq!(own.code, Some(0), "{}", own.errors);
    assert_eq!((the_apps.status, the_apps.text().as_str()), (200, "drained\n"));
}

#[tokio::test]
async fn a_websocket_lives_until_the_app_says_goodbye_beside_a_native_sidecar() {
    let (sidecar, listener) = in_front_of_a_played_app().await;
    let mut socket = Streamed::open(&sidecar, &listener, WEBSOCKET).await;
    hooks(&sidecar).await;
    // The hook has returned; now the app gets its SIGTERM. The sidecar gets none yet.
    Streamed::pass(&mut socket.client, &mut socket.app, b"ping").await;
    Streamed::pass(&mut socket.app, &mut socket.client, CLOSE_1001).await;
    drop(socket);
    sidecar.terminate().await;
    assert_eq!(sidecar.ended().await, Some(0));
}

#[tokio::test]
async fn a_websocket_lives_until_the_app_says_goodbye_beside_an_ordinary_container() {
    let (sidecar, listener) = in_front_of_a_played_app().await;
    let mut socket = Streamed::open(&sidecar, &listener, WEBSOCKET).await;
    hooks(&sidecar).await;
    // Both get their SIGTERM at once.
    sidecar.terminate().await;
    sidecar.until_said("draining").await;
    Streamed::pass(&mut socket.client, &mut socket.app, b"ping").await;
    Streamed::pass(&mut socket.app, &mut socket.client, CLOSE_1001).await;
    assert_eq!(sidecar.metric("spillway_streams_open{kind=\"upgrade\"}").await, 1.0);
    drop(socket);
    assert_eq!(sidecar.ended().await, Some(0));
}

#[tokio::test]
async fn an_event_stream_is_not_waited_for_and_not_cut() {
    let (sidecar, listener) = in_front_of_a_played_app().await;
    let mut events = Streamed::open(&sidecar, &listener, EVENTS).await;
    hooks(&sidecar).await;
    assert_eq!(sidecar.metric("spillway_streams_open{kind=\"events\"}").await, 1.0);
    events.app.write_all(b"data: bye\n\n").await.expect("open");
    assert!(read_until(&mut events.client, "bye\n\n").await.contains("data: bye"));
    drop(events.app);
    read_until(&mut events.client, "\0").await;
    sidecar.terminate().await;
    assert_eq!(sidecar.ended().await, Some(0));
}

#[tokio::test]
async fn a_stream_that_nobody_ends_has_the_grace_period_after_sigterm() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let app = format!("http://{}", listener.local_addr().expect("a bound port"));
    let sidecar = Spillway::proxy_to(RULES, &app).with("--grace", "1").start().await;
    let mut socket = Streamed::open(&sidecar, &listener, WEBSOCKET).await;
    sidecar.terminate().await;
    sidecar.until_said("at the end of the grace period").await;
    assert_eq!(sidecar.ended().await, Some(0));
    assert_eq!(read_until(&mut socket.client, "\0").await, "");
}

#[tokio::test]
async fn only_the_sidecars_own_hook_begins_a_drain() {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let admin = sidecar.admin();
    let json = admin.with("content-type", "application/json");
    let asked = json.with("x-spillway-admin", "1");
    assert_eq!(admin.get("/drain").await.status, 405);
    assert_eq!(asked.get("/drain").await.status, 405);
    assert_eq!(admin.with("x-spillway-admin", "1").post("/drain", "{}").await.status, 415);
    assert_eq!(json.post("/drain", "{}").await.status, 403);
    assert_eq!(asked.with("origin", "https://evil.example").post("/drain", "").await.status, 403);
    assert_eq!(asked.with("sec-fetch-site", "same-site").post("/drain", "").await.status, 403);
    assert_eq!(asked.with("host", "evil.example").post("/drain", "").await.status, 421);
    assert_eq!(admin.with("host", "evil.example").get("/routes").await.status, 421);
    assert_eq!(admin.post("/drained", "").await.status, 405);
    assert_eq!(admin.get("/ready").await.status, 200);
    // Probes and metrics are for whoever asks.
    let foreign = admin.with("host", "pod.example").with("origin", "https://evil.example");
    for path in ["/ready", "/live", "/startup", "/metrics"] {
        assert_eq!(foreign.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_process_that_is_not_there_is_told_of() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = free.local_addr().expect("a bound port").to_string();
    drop(free);
    let refused = support::run(&["drain", "--admin", &address]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains(&address), "{}", refused.errors);
}

#[tokio::test]
async fn idle_connections_of_others_do_not_keep_a_probe_out() {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(sidecar.admin_address()).await.expect("a connection"));
    }
    assert_eq!(sidecar.admin().get("/ready").await.status, 200);
    // The first of them gave way.
    assert_eq!(read_until(&mut idle[0], "\0").await, "");
}

#[tokio::test]
async fn the_applications_hook_is_answered_at_once_when_too_many_wait() {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let mut waiting = Vec::new();
    for _ in 0..128 {
        let mut one = TcpStream::connect(sidecar.admin_address()).await.expect("a connection");
        one.write_all(b"GET /drained HTTP/1.1\r\nHost: pod\r\n\r\n").await.expect("sent");
        waiting.push(one);
    }
    eventually("all places are taken", || async {
        let more = raw(sidecar.admin_address(), "GET /drained HTTP/1.1\r\nHost: pod\r\n\r\n", "\n");
        let more = tokio::time::timeout(std::time::Duration::from_secs(1), more).await.ok()?;
        more.starts_with("HTTP/1.1 503 ").then_some(())
    })
    .await;
    // Nothing drains: the others are told so, and the sidecar goes on.
    assert!(read_until(&mut waiting[0], "drain\n").await.contains("there is no drain"));
    assert_eq!(sidecar.admin().get("/ready").await.status, 200);
}

/// A client's connection of HTTP/2, and what it sends on.
async fn http2(
    sidecar: &Spillway,
) -> (SendRequest<Full<Bytes>>, tokio::task::JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(sidecar.address()).await.expect("a connection");
    let opened = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = opened.expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

async fn ask(mut sender: SendRequest<Full<Bytes>>, path: &str) -> hyper::Result<Bytes> {
    let request = http::Request::get(format!("http://app{path}")).body(Full::default());
    let answer = sender.send_request(request.expect("a request")).await?;
    Ok(answer.into_body().collect().await?.to_bytes())
}

#[tokio::test]
async fn clients_of_http_2_are_told_as_the_drain_begins_and_keep_their_streams() {
    let app = App::start().await;
    let gate = Gate::default();
    app.on("/long", Reply::ok("finished").behind(&gate));
    app.on("/short", Reply::ok("short"));
    let sidecar = Spillway::proxy(RULES, &app).with("--drain-delay", "3600").start().await;
    let (sender, connection) = http2(&sidecar).await;
    let long = tokio::spawn(ask(sender.clone(), "/long"));
    app.until_asked("/long", 1).await;
    let draining = tokio::spawn(sidecar.drain());
    eventually("GOAWAY", || async { ask(sender.clone(), "/short").await.err() }).await;
    assert!(!long.is_finished() && !draining.is_finished());
    gate.open();
    assert_eq!(long.await.expect("no panic").expect("an answer"), "finished");
    connection.await.expect("no panic").expect("a good end");
    // Who comes only now is answered, and told after it.
    let (sender, connection) = http2(&sidecar).await;
    assert_eq!(ask(sender.clone(), "/short").await.expect("an answer"), "short");
    connection.await.expect("no panic").expect("a good end");
    sidecar.terminate().await;
    assert_eq!(sidecar.ended().await, Some(0));
}
