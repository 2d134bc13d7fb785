//! Bodies on their way into a job: what they hold of memory, where they wait, and that they arrive.

use std::path::Path;
use std::time::Duration;
use support::{App, Emulator, Reply, Setup, Spillway, eventually, folder, read_until};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const RULES: &str = r#"
    [[route]]
    name  = "reports"
    match = { path = "/reports", methods = ["POST"] }
    [route.offload]
    queue = "work"
    when  = "always"
    auth  = { identity = "header:X-User" }

    [[route]]
    name  = "slow"
    match = { path = "/slow", methods = ["POST"] }
    [route.offload]
    queue = "work"
    when  = "slow"
    after = "100ms"
    class = "body:/kind"
    auth  = "none"

    [[route]]
    name         = "impatient"
    match        = { path = "/impatient", methods = ["POST"] }
    idle_timeout = "1s"
    offload      = { queue = "work", when = "always", auth = "none" }

    [[route]]
    name    = "videos"
    match   = { path = "/videos", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none", max_body = "64MiB" }

    [queue.work]
    visibility  = "5s"
    job_timeout = "30s"
"#;

const MIB: usize = 1024 * 1024;
/// The largest body that a job takes, by default.
const BODY_BYTES_MAX: usize = 8 * MIB;
/// Uploads that stop on their way.
const STALLED: usize = 60;
/// The process in all: 64 MiB for bodies, and as much for everything else.
const MEMORY_KIB_MAX: u64 = 128 * 1024;

/// A process through which bodies pass that are larger than this.
const PASSING_KIB_MAX: u64 = 64 * 1024;

async fn proxy(app: &App, jobs: &Path) -> Spillway {
    Spillway::proxy(RULES, app).jobs("work", jobs).start().await
}

/// The process's own, of a size.
fn with_spool(app: &App, jobs: &Path, size: &str) -> Setup {
    Spillway::proxy(RULES, app).jobs("work", jobs).with("--spool-size", size)
}

/// Bodies that wait in the folder.
fn spooled(folder: &TempDir) -> usize {
    let entries = std::fs::read_dir(folder.path()).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().starts_with("spillway-body-")).count()
}

/// Bytes that no text has, all different from their neighbours.
fn binary(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number % 251) as u8 ^ 0x80).collect()
}

/// Text that a message carries as it is.
fn json(count: usize) -> Vec<u8> {
    format!(r#"{{"kind":"annual","text":"{}"}}"#, "x".repeat(count)).into_bytes()
}

/// Begins an upload of so many bytes.
async fn begin(proxy: &Spillway, path: &str, length: usize) -> TcpStream {
    let mut client = TcpStream::connect(proxy.address()).await.expect("listens");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nX-User: alice\r\nContent-Length: {length}\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.expect("open");
    client
}

async fn send_in_chunks(proxy: &Spillway, path: &str, body: &[u8]) -> String {
    let mut client = TcpStream::connect(proxy.address()).await.expect("listens");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nX-User: alice\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.expect("open");
    for chunk in body.chunks(100_000) {
        let size = format!("{:x}\r\n", chunk.len());
        client.write_all(&[size.as_bytes(), chunk, b"\r\n"].concat()).await.expect("open");
    }
    client.write_all(b"0\r\n\r\n").await.expect("open");
    read_until(&mut client, "}").await
}

fn peak_kib(process: &Spillway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
    let status = status.expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
}

#[tokio::test]
async fn uploads_that_stop_hold_little_memory_and_others_are_accepted_meanwhile() {
    let (app, jobs) = (App::start().await, folder());
    let proxy = proxy(&app, jobs.path()).await;
    let part = binary(BODY_BYTES_MAX - 1000);
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut client = begin(&proxy, "/reports", BODY_BYTES_MAX).await;
        client.write_all(&part).await.expect("open");
        stalled.push(client);
    }
    let mut small = Vec::new();
    for _ in 0..STALLED {
        let mut client = begin(&proxy, "/reports", 200_000).await;
        client.write_all(&part[..199_000]).await.expect("open");
        small.push(client);
    }
    eventually("all of them wait on the disk", || async {
        (spooled(&jobs) == 2 * STALLED).then_some(())
    })
    .await;
    let honest = proxy.client().with("x-user", "bob").post("/reports", part.clone()).await;
    assert_eq!(honest.status, 202, "{}", honest.text());
    let peak = peak_kib(&proxy);
    assert!(peak <= MEMORY_KIB_MAX, "{peak} KiB");
    drop((stalled, small));
    eventually("the spool is empty", || async { (spooled(&jobs) == 0).then_some(()) }).await;
    let accepted =
        r#"spillway_offload_requests_total{reason="always",result="queued",route="reports"}"#;
    assert_eq!(proxy.metric(accepted).await, 1.0, "half a body is no job");
}

#[tokio::test]
async fn a_client_that_stops_sending_is_cut_off_and_keeps_nothing() {
    let (app, jobs) = (App::start().await, folder());
    let proxy = proxy(&app, jobs.path()).await;
    let mut client = begin(&proxy, "/impatient", MIB).await;
    client.write_all(&binary(MIB - 1)).await.expect("open");
    eventually("it waits on the disk", || async { (spooled(&jobs) == 1).then_some(()) }).await;
    // Until the connection is closed, on which nothing more is sent.
    read_until(&mut client, "\0").await;
    assert_eq!(spooled(&jobs), 0);
}

#[tokio::test]
async fn a_slow_and_steady_upload_becomes_a_job() {
    const PIECES: usize = 8;
    let (app, jobs) = (App::start().await, folder());
    app.on("/reports", Reply::ok("done"));
    let proxy = proxy(&app, jobs.path()).await;
    let body = binary(PIECES * 10_000);
    let mut client = begin(&proxy, "/reports", body.len()).await;
    for piece in body.chunks(10_000) {
        client.write_all(piece).await.expect("open");
        // Slowness itself is what is tested: longer in all than a body may take in memory.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let accepted = read_until(&mut client, "}").await;
    assert!(accepted.starts_with("HTTP/1.1 202 "), "{accepted}");
    let _consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    let asked = app.until_asked("/reports", 1).await.remove(0);
    assert!(asked.body == body);
    assert_eq!(spooled(&jobs), 0);
}

/// Bodies on both sides of what a message takes, and of what stays in memory.
fn bodies() -> Vec<Vec<u8>> {
    vec![
        json(1000),
        json(300_000),
        json(900_000),
        json(2 * MIB),
        binary(256 * 1024),
        binary(256 * 1024 + 1),
        binary(5 * MIB),
    ]
}

async fn arrive(app: &App, proxy: &Spillway) {
    app.on("/reports", Reply::ok("done"));
    let client = proxy.client().with("x-user", "alice");
    let bodies = bodies();
    for (number, body) in bodies.iter().enumerate() {
        let key = client.with("idempotency-key", &format!("key-{number}"));
        let first = key.post("/reports", body.clone()).await;
        let again = key.post("/reports", body.clone()).await;
        assert_eq!((first.status, again.status), (202, 202), "{}", again.text());
        assert_eq!(first.header("location"), again.header("location"));
        let other = key.post("/reports", [body.as_slice(), b" "].concat()).await;
        assert_eq!(other.problem(), "idempotency-mismatch");
        let chunked = send_in_chunks(proxy, "/reports", body).await;
        assert!(chunked.starts_with("HTTP/1.1 202 "), "{chunked}");
    }
    let asked = app.until_asked("/reports", 2 * bodies.len()).await;
    for body in &bodies {
        let arrived = asked.iter().filter(|asked| asked.body == *body).count();
        assert_eq!(arrived, 2, "of {} bytes", body.len());
    }
}

#[tokio::test]
async fn bodies_of_every_size_arrive_byte_for_byte() {
    let (app, jobs) = (App::start().await, folder());
    let proxy = proxy(&app, jobs.path()).await;
    let _consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    arrive(&app, &proxy).await;
    eventually("the spool is empty", || async { (spooled(&jobs) == 0).then_some(()) }).await;
}

#[tokio::test]
async fn bodies_of_every_size_arrive_byte_for_byte_over_sqs_and_s3() {
    let (emulator, app, spool) = (Emulator::start().await, App::start().await, folder());
    emulator.boto3("s3.create_bucket(Bucket='results', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})").await;
    let queue = emulator.boto3("print(sqs.create_queue(QueueName='work')['QueueUrl'])").await;
    let cloud = |setup: Setup| {
        let setup = setup
            .with("--queue", &format!("work=sqs:{queue}"))
            .with("--results", "s3://results/jobs")
            .with("--spool", &spool.path().display().to_string());
        let environment = emulator.environment();
        environment.iter().fold(setup, |setup, (name, value)| setup.env(name, value))
    };
    let proxy = cloud(Spillway::proxy(RULES, &app)).start().await;
    let _consumer = cloud(Spillway::consume(RULES, &app)).start().await;
    arrive(&app, &proxy).await;
    eventually("the spool is empty", || async { (spooled(&spool) == 0).then_some(()) }).await;
}

#[tokio::test]
async fn jobs_with_large_bodies_pass_through_both_halves_and_are_never_held() {
    const JOBS: usize = 4;
    let (app, jobs) = (App::start().await, folder());
    let gate = support::Gate::default();
    app.on("/videos", Reply::ok("done").behind(&gate));
    let proxy = proxy(&app, jobs.path()).await;
    let consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    let body = binary(30 * MIB);
    for _ in 0..JOBS {
        assert_eq!(proxy.client().post("/videos", body.clone()).await.status, 202);
    }
    let asked = app.until_asked("/videos", JOBS).await;
    assert!(asked.iter().all(|asked| asked.body == body), "byte for byte");
    for (name, process) in [("proxy", &proxy), ("consumer", &consumer)] {
        let peak = peak_kib(process);
        assert!(peak <= PASSING_KIB_MAX, "{name}: {peak} KiB");
    }
    gate.open();
    eventually("the spool is empty", || async { (spooled(&jobs) == 0).then_some(()) }).await;
}

#[tokio::test]
async fn an_execution_that_is_adopted_has_its_large_body_from_the_spool() {
    let (app, jobs) = (App::start().await, folder());
    let gate = support::Gate::default();
    app.on("/slow", Reply::ok("done").behind(&gate));
    let proxy = proxy(&app, jobs.path()).await;
    let client = proxy.client();
    for body in [binary(5 * MIB), json(2 * MIB)] {
        let adopted = client.post("/slow", body.clone()).await;
        assert_eq!((adopted.status, adopted.json()["status"].as_str()), (202, Some("running")));
        let asked = app.until_asked("/slow", 1).await;
        assert!(asked.iter().any(|asked| asked.body == body));
        eventually("what was sent needs no room", || async { (spooled(&jobs) == 0).then_some(()) })
            .await;
    }
    gate.open();
}

#[tokio::test]
async fn a_body_that_finds_no_room_in_the_spool_is_refused_by_name() {
    let (app, jobs) = (App::start().await, folder());
    let proxy = with_spool(&app, jobs.path(), "1Mi").start().await;
    let client = proxy.client().with("x-user", "alice");
    let refused = client.post("/reports", binary(2 * MIB)).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "no-room"));
    assert!(refused.text().contains("spool-full; nothing is started"), "{}", refused.text());
    let counted =
        r#"spillway_offload_requests_total{reason="always",result="spool-full",route="reports"}"#;
    assert_eq!((proxy.metric(counted).await, spooled(&jobs)), (1.0, 0));
    assert_eq!(client.post("/reports", binary(MIB / 2)).await.status, 202, "there is room again");
}

#[tokio::test]
async fn what_a_killed_process_left_in_its_spool_is_gone_when_it_is_back() {
    let (app, jobs) = (App::start().await, folder());
    let proxy = with_spool(&app, jobs.path(), "1Gi").start().await;
    let mut client = begin(&proxy, "/reports", MIB).await;
    client.write_all(&binary(MIB - 1)).await.expect("open");
    eventually("it waits on the disk", || async { (spooled(&jobs) == 1).then_some(()) }).await;
    proxy.kill().await;
    assert_eq!(spooled(&jobs), 1);
    let _proxy = with_spool(&app, jobs.path(), "1Gi").start().await;
    assert_eq!(spooled(&jobs), 0);
}
