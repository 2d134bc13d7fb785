//! A day at a sidecar in short: what most requests are, and some of everything else. By this releases
//! are trained (`cargo xtask image`): the compiler lays the program out for what it saw it do.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::generate_simple_self_signed;
use std::sync::Arc;
use support::{Answer, App, Client, Reply, Spillway, folder, raw, system};
use tokio::net::TcpStream;
use tokio::process::Command;

const RULES: &str = r#"
    [[route]]
    name  = "assets"
    match = { path = "/assets/{*rest}" }
    cache = { sidecar = "1h", ignore_cookies = true }

    [[route]]
    name  = "prices"
    match = { path = "/prices/{id}", methods = ["GET"] }
    cache = { sidecar = "50ms", stale_while_revalidate = "1s", ignore_cookies = true, tags = ["price-{id}"] }
    shard = { map = "market", from = ["path:id"] }

    [[route]]
    name  = "pages"
    match = { path = "/pages/{*rest}" }
    cache = { sidecar = "from-origin" }

    [[route]]
    name    = "reports"
    match   = { path = "/reports", methods = ["POST"] }
    offload = { queue = "q", when = "always", auth = "none" }

    [queue.q]

    [shard_map.market]
    key_type = "int"
    ranges = [ { from = 1, shard = "a" } ]
    until  = 1001
    shards = { a = {} }
"#;

/// Rounds of some 90 requests each, on each of the connections; a test needs no more than this.
const ROUNDS: usize = 2;
const CONNECTIONS: usize = 8;
/// Bytes of answers: an icon, a price, a page, a script, a picture.
const SIZES: [usize; 5] = [10, 1_000, 10_000, 100_000, 300_000];

/// What a browser sends with every request.
const BROWSER: [(&str, &str); 9] = [
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "de,en-US;q=0.7,en;q=0.3"),
    ("cookie", "session=5f2b8c1d9e; theme=dark; seen=1"),
    ("referer", "https://shop.example/market"),
    ("sec-fetch-dest", "empty"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "same-origin"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
];

async fn app() -> App {
    let app = App::start().await;
    for size in SIZES {
        let reply = Reply::ok("x".repeat(size)).with("etag", &format!("\"{size}\""));
        let reply = reply.with("content-type", "text/plain").with("x-frame-options", "DENY");
        let varied = reply.clone().with("vary", "accept-encoding").with("server", "app/1.0");
        app.on(&format!("/assets/{size}"), varied);
        app.on(&format!("/plain/{size}"), reply);
    }
    for id in 1..=40 {
        let reply = Reply::ok(format!("{{\"price\":{id}}}"));
        app.on(&format!("/prices/{id}"), reply.with("content-type", "application/json"));
    }
    let page = Reply::ok("p".repeat(5_000)).with("cache-control", "max-age=60, must-revalidate");
    app.on("/pages/market", page);
    app.on("/pages/mine", Reply::ok("mine").with("cache-control", "private"));
    app.on("/forms", Reply::status(303).with("location", "/pages/market"));
    app.on("/reports", Reply::ok("a report"));
    app
}

fn is(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
}

/// Half hits, a third what passes, and the rest.
async fn round(client: &Client, number: usize) {
    for size in SIZES.into_iter().chain([1_000; 40]) {
        is(&client.get(&format!("/assets/{size}")).await, 200);
    }
    for size in SIZES.into_iter().chain([1_000; 20]) {
        is(&client.get(&format!("/plain/{size}")).await, 200);
    }
    for id in [number % 40, (number + 7) % 40] {
        is(&client.get(&format!("/prices/{}", id + 1)).await, 200);
    }
    is(&client.get("/pages/market").await, 200);
    is(&client.get("/pages/mine").await, 200);
    is(&client.send("HEAD", "/assets/1000", "").await, 200);
    is(&client.with("if-none-match", "\"1000\"").get("/assets/1000").await, 304);
    is(&client.with("range", "bytes=10-19").get("/assets/1000").await, 206);
    is(&client.post("/forms", "name=value&".repeat(20)).await, 303);
    is(&client.send("PUT", "/forms", "x".repeat(20_000)).await, 303);
    is(&client.get("/plain/nothing").await, 404);
    is(&client.get("/prices/9999").await, 404);
}

/// As many with prior knowledge, which curl 7.88 forgets after its first request.
async fn over_http_2(address: &str, rounds: usize) {
    let stream = TcpStream::connect(address).await.expect("listens");
    let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = made.await.expect("HTTP/2");
    tokio::spawn(connection);
    for number in 0..rounds * 20 {
        let path = if number % 2 == 0 { "assets" } else { "plain" };
        let request = Request::get(format!("http://h/{path}/1000?{}", number % 20));
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body.len(), 1000);
    }
}

/// So many requests for each of the paths over one connection, by curl.
async fn by_curl(url: &str, rounds: usize, version: &str) {
    let target = |path: &str| format!("{url}{path}?[1-{}]", rounds * 10);
    let output = Command::new(system("curl", "SPILLWAY_CURL"))
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--insecure",
            "--output",
            "/dev/null",
            version,
        ])
        .args([target("/assets/1000"), target("/plain/1000")])
        .output()
        .await
        .expect("curl starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

#[tokio::test]
async fn a_day_of_all_kinds_of_requests_has_the_answers_it_should() {
    let rounds =
        std::env::var("SPILLWAY_ROUNDS").map_or(ROUNDS, |it| it.parse().expect("a number"));
    let (app, jobs, files) = (app().await, folder(), folder());
    let made = generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(files.path().join("tls.crt"), made.cert.pem()).expect("written");
    std::fs::write(files.path().join("tls.key"), made.signing_key.serialize_pem())
        .expect("written");
    let plain = Spillway::proxy(RULES, &app).jobs("q", jobs.path()).start().await;
    let secure = Spillway::proxy(RULES, &app).jobs("q", jobs.path());
    let secure = secure.with("--tls-dir", &files.path().display().to_string()).start().await;
    let consumer = Spillway::consume(RULES, &app).jobs("q", jobs.path()).start().await;

    let browser = BROWSER.iter().fold(plain.client(), |it, (name, value)| it.with(name, value));
    let client = Arc::new(browser);
    let at_work: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                for round in 0..rounds {
                    self::round(&client, number + round).await;
                }
            })
        })
        .collect();
    for task in at_work {
        task.await.expect("its answers were right");
    }
    over_http_2(plain.address(), rounds).await;
    let url = secure.url().replace("http:", "https:");
    by_curl(&url, rounds, "--http1.1").await;
    by_curl(&url, rounds, "--http2").await;
    for _ in 0..rounds.min(20) {
        is(&plain.client().post("/reports", "wanted").await, 202);
        let said = raw(plain.address(), "GET / HTTP/1.1\r\nHost : h\r\n\r\n", "\r\n").await;
        assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    }
    consumer.until_said("job finished").await;
    // Not killed: what was seen is written at the end.
    for process in [plain, secure, consumer] {
        process.terminate().await;
        assert_eq!(process.ended().await, Some(0));
    }
}
