//! Answers of cached routes go out while they come in, to all who asked for them, and are stored at
//! their end.

use support::{Spillway, read_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const RULES: &str = r#"
    [[route]]
    name    = "all"
    match   = { path = "/{*rest}" }
    timeout = "500ms"
    cache   = { sidecar = "1m" }
"#;
/// Bytes of the largest entry under the default budget.
const ENTRY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// An application whose answers a test writes piece by piece.
struct App(TcpListener);

impl App {
    async fn start() -> (Self, Spillway) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound port"));
        let sidecar = Spillway::proxy_to(RULES, &url).start().await;
        (Self(listener), sidecar)
    }

    /// The next request, on a connection of its own; the answer has this head.
    async fn asked(&self, fields: &str) -> Asked {
        let (mut stream, _) = self.0.accept().await.expect("a connection");
        let request = read_until(&mut stream, "\r\n\r\n").await;
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes())
            .await
            .expect("open");
        Asked { request, stream }
    }
}

struct Asked {
    request: String,
    stream: TcpStream,
}

impl Asked {
    /// A chunk of an answer without a length.
    async fn chunk(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.stream.write_all(chunk.as_bytes()).await.expect("open");
    }

    /// The connection is not used again: the next request comes on one of its own.
    async fn end(mut self) {
        self.stream.write_all(b"0\r\n\r\n").await.expect("open");
    }
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\nContent-Type: text/plain\r\n";

async fn ask(sidecar: &Spillway, path: &str, fields: &str) -> TcpStream {
    let mut stream = TcpStream::connect(sidecar.address()).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.expect("open");
    stream
}

/// All that comes until the end, however that is.
async fn rest(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn what_has_come_is_read_by_all_while_the_rest_is_waited_for_and_kept_at_the_end() {
    let (app, sidecar) = App::start().await;
    let mut leader = ask(&sidecar, "/export", "").await;
    let mut asked = app.asked(CHUNKED).await;
    asked.chunk("first").await;
    assert!(read_until(&mut leader, "first").await.contains("fwd=uri-miss; stored"));
    let mut follower = ask(&sidecar, "/export", "").await;
    assert!(read_until(&mut follower, "first").await.contains("collapsed"));
    // Longer than the route's timeout, which is for the head.
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    asked.chunk("second").await;
    asked.end().await;
    for reader in [&mut leader, &mut follower] {
        let rest = rest(reader).await;
        assert!(rest.contains("second") && rest.ends_with("0\r\n\r\n"), "{rest}");
    }
    let hit = sidecar.client().with("host", "h").get("/export").await;
    assert_eq!(hit.text(), "firstsecond");
    assert!(hit.cache().starts_with("hit"), "{}", hit.cache());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_broken_for_all_and_not_kept() {
    let (app, sidecar) = App::start().await;
    let mut leader = ask(&sidecar, "/export", "").await;
    let mut asked = app.asked(CHUNKED).await;
    asked.chunk("first").await;
    read_until(&mut leader, "first").await;
    let mut follower = ask(&sidecar, "/export", "").await;
    read_until(&mut follower, "first").await;
    drop(asked);
    for reader in [&mut leader, &mut follower] {
        assert!(!rest(reader).await.ends_with("0\r\n\r\n"), "a clean end");
    }
    let mut again = ask(&sidecar, "/export", "").await;
    let asked = app.asked(CHUNKED).await;
    asked.end().await;
    assert!(rest(&mut again).await.contains("fwd=uri-miss"));
}

#[tokio::test]
async fn followers_of_an_answer_that_becomes_too_large_are_served_and_it_is_not_kept() {
    let (app, sidecar) = App::start().await;
    let mut leader = ask(&sidecar, "/film", "").await;
    let mut asked = app.asked(CHUNKED).await;
    asked.chunk("first").await;
    read_until(&mut leader, "first").await;
    let mut follower = ask(&sidecar, "/film", "").await;
    read_until(&mut follower, "first").await;
    let leading = tokio::spawn(async move { rest(&mut leader).await.len() });
    let following = tokio::spawn(async move { rest(&mut follower).await.len() });
    let piece = "x".repeat(64 * 1024);
    let pieces = 2 * ENTRY_BYTES_MAX / piece.len();
    for _ in 0..pieces {
        asked.chunk(&piece).await;
    }
    asked.end().await;
    for read in [leading, following] {
        assert!(read.await.expect("no panic") > 2 * ENTRY_BYTES_MAX);
    }
    let not_stored = r#"spillway_cache_not_stored_total{reason="too-large",route="all"}"#;
    assert!(sidecar.metric("spillway_cache_entries").await < 1.0);
    // Though the first reader had been told `stored` by then.
    assert!((sidecar.metric(not_stored).await - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn who_differs_in_what_the_answer_varies_by_asks_for_itself() {
    let (app, sidecar) = App::start().await;
    let vary = format!("{CHUNKED}Vary: Accept-Language\r\n");
    // The first request is asked again with the field; from then on it is known to count.
    let mut german = ask(&sidecar, "/page", "Accept-Language: de\r\n").await;
    let first = app.asked(&vary).await;
    first.end().await;
    let mut second = app.asked(&vary).await;
    assert!(second.request.to_ascii_lowercase().contains("accept-language: de"));
    second.chunk("guten tag").await;
    read_until(&mut german, "guten tag").await;
    let mut french = ask(&sidecar, "/page", "Accept-Language: fr\r\n").await;
    let mut third = app.asked(&vary).await;
    third.chunk("bonjour").await;
    assert!(read_until(&mut french, "bonjour").await.contains("bonjour"));
    second.end().await;
    third.end().await;
}

#[tokio::test]
async fn a_part_of_what_is_not_kept_is_the_apps_to_give() {
    let (app, sidecar) = App::start().await;
    let mut film = ask(&sidecar, "/film", "Range: bytes=5-9\r\n").await;
    let length = format!("Content-Length: {}\r\n", 2 * ENTRY_BYTES_MAX);
    let _whole = app.asked(&length).await;
    let mut asked = app.asked("Content-Length: 5\r\nX-Part: 1\r\n").await;
    assert!(asked.request.to_ascii_lowercase().contains("range: bytes=5-9"));
    asked.stream.write_all(b"56789").await.expect("open");
    let answer = rest(&mut film).await;
    assert!(answer.contains("X-Part: 1") && answer.ends_with("56789"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_turns_out_too_large_ends_the_one_that_was_stored() {
    let (app, sidecar) = App::start().await;
    let mut first = ask(&sidecar, "/grows", "").await;
    let mut small = app.asked(CHUNKED).await;
    small.chunk("small").await;
    small.end().await;
    assert!(rest(&mut first).await.contains("small"));
    let entries = "spillway_cache_entries";
    support::eventually("it is stored", || async {
        (sidecar.metric(entries).await >= 1.0).then_some(())
    })
    .await;
    let admin = sidecar.admin().with("x-spillway-admin", "1");
    let order = r#"{ "all": true, "soft": true }"#;
    let purged = admin.with("content-type", "application/json").post("/purge", order).await;
    assert_eq!(purged.status, 200);
    let mut second = ask(&sidecar, "/grows", "").await;
    let mut large = app.asked(CHUNKED).await;
    let piece = "x".repeat(64 * 1024);
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        second.read_to_end(&mut all).await.expect("open");
        all.len()
    });
    for _ in 0..=ENTRY_BYTES_MAX / piece.len() {
        large.chunk(&piece).await;
    }
    support::eventually("the old answer is gone", || async {
        (sidecar.metric(entries).await == 0.0).then_some(())
    })
    .await;
    large.end().await;
    assert!(reading.await.expect("read") > ENTRY_BYTES_MAX);
}
