//! `Idempotency-Key`s of requests that are executed at once: one execution for one key, whatever
//! becomes of the first answer.

use support::{Answer, App, Client, Gate, Reply, Spillway, eventually, folder};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const RULES: &str = r#"
    [[route]]
    name  = "slow"
    match = { path = "/slow", methods = ["POST", "GET", "HEAD"] }
    [route.offload]
    queue = "work"
    when  = "slow"
    after = "300ms"
    auth  = { identity = "header:X-User" }

    [[route]]
    name  = "patient"
    match = { path = "/patient", methods = ["POST"] }
    [route.offload]
    queue      = "work"
    when       = "slow"
    after      = "60s"
    spill_over = 1
    auth       = { identity = "header:X-User" }

    [[route]]
    name  = "inline"
    match = { path = "/inline", methods = ["POST"] }
    [route.offload]
    queue    = "work"
    when     = "slow"
    after    = "60s"
    fallback = "inline"
    auth     = { identity = "header:X-User" }

    [queue.work]
    visibility  = "5s"
    job_timeout = "60s"
    notify      = { app = "/hooks/ready" }
"#;

const KEY: &str = "order-7";

async fn world() -> (App, Spillway, TempDir, Client) {
    let (app, jobs) = (App::start().await, folder());
    app.on("/hooks/ready", Reply::status(204));
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let client = client(&proxy);
    (app, proxy, jobs, client)
}

fn client(proxy: &Spillway) -> Client {
    keyed(proxy, KEY)
}

fn keyed(proxy: &Spillway, key: &str) -> Client {
    proxy.client().with("x-user", "alice").with("idempotency-key", key)
}

/// Sends it now, from elsewhere.
fn sending(client: &Client, path: &'static str) -> tokio::task::JoinHandle<Answer> {
    let client = client.with("x-sent", "elsewhere");
    tokio::spawn(async move { client.post(path, "pay 100").await })
}

async fn ended(client: &Client, location: &str) -> serde_json::Value {
    client.with("prefer", "wait=40").get(location).await.json()
}

#[tokio::test]
async fn a_retry_of_an_adopted_request_is_the_same_job() {
    let (app, proxy, _jobs, client) = world().await;
    let gate = Gate::default();
    app.on("/slow", Reply::status(201).body("paid").behind(&gate));
    let first = client.post("/slow", "pay 100").await;
    assert_eq!((first.status, first.json()["status"].as_str()), (202, Some("running")));
    assert_eq!(first.header("idempotency-key"), KEY);
    let retry = client.post("/slow", "pay 100").await;
    assert_eq!((retry.status, retry.json()["status"].as_str()), (202, Some("running")));
    assert_eq!(retry.json()["id"], first.json()["id"]);
    assert_eq!(retry.header("idempotency-key"), KEY);
    let other = client.post("/slow", "pay 200").await;
    assert_eq!((other.status, other.problem().as_str()), (422, "idempotency-mismatch"));
    let stranger = proxy.client().with("x-user", "bob").get(&first.header("location")).await;
    assert_eq!(stranger.problem(), "job-unknown");
    gate.open();
    let location = first.header("location");
    assert_eq!(ended(&client, &location).await["status"], "succeeded");
    let late = client.post("/slow", "pay 100").await;
    assert_eq!((late.status, late.json()["status"].as_str()), (202, Some("succeeded")));
    assert_eq!(client.get(&format!("{location}/result")).await.text(), "paid");
    assert_eq!((app.count("/slow"), app.until_asked("/hooks/ready", 1).await.len()), (1, 1));
}

#[tokio::test]
async fn a_quick_answer_is_given_again_as_it_was() {
    let (app, proxy, _jobs, _client) = world().await;
    app.answer("/slow", |asked| {
        let answer = Reply::status(if asked.body.is_empty() { 404 } else { 201 });
        answer.with("x-own", "kept").with("etag", "\"own\"").body("paid")
    });
    for (method, key, body) in [("POST", "a", "pay 100"), ("GET", "b", ""), ("HEAD", "c", "")] {
        let client = keyed(&proxy, key);
        let first = client.send(method, "/slow", body).await;
        let code = if body.is_empty() { 404 } else { 201 };
        assert_eq!((first.status, first.header("idempotency-key").as_str()), (code, key));
        let again = eventually("its answer is kept", || async {
            let again = client.send(method, "/slow", body).await;
            (again.status != 202).then_some(again)
        })
        .await;
        for name in ["x-own", "etag", "idempotency-key", "cache-control", "content-type"] {
            assert_eq!(again.header(name), first.header(name), "{name}");
        }
        assert_eq!((again.status, again.text()), (first.status, first.text()), "{method}");
        let other = client.send(method, "/slow?other", body).await;
        // An answer to HEAD has no problem in it.
        assert_eq!(other.status, 422, "{method}");
    }
    assert_eq!(app.count("/slow"), 3);
}

#[tokio::test]
async fn a_retry_while_the_first_is_executed_is_promised_its_end() {
    let (app, _proxy, _jobs, client) = world().await;
    let gate = Gate::default();
    app.on("/patient", Reply::ok("paid").behind(&gate));
    let first = sending(&client, "/patient");
    app.until_asked("/patient", 1).await;
    let other = client.post("/patient", "pay 200").await;
    assert_eq!((other.status, other.problem().as_str()), (422, "idempotency-mismatch"));
    // Another request would be one too many, and is queued; this one is known.
    let retry = client.post("/patient", "pay 100").await;
    assert_eq!((retry.status, retry.json()["status"].as_str()), (202, Some("running")));
    gate.open();
    assert_eq!(first.await.expect("an answer").text(), "paid");
    let location = retry.header("location");
    assert_eq!(ended(&client, &location).await["status"], "succeeded");
    assert_eq!(client.get(&format!("{location}/result")).await.text(), "paid");
    let told = app.until_asked("/hooks/ready", 1).await.remove(0);
    let event: serde_json::Value = serde_json::from_slice(&told.body).expect("JSON");
    assert_eq!(event["id"], retry.json()["id"]);
    assert_eq!(client.post("/patient", "pay 100").await.text(), "paid");
    assert_eq!(app.count("/patient"), 1);
}

#[tokio::test]
async fn a_client_that_left_in_the_middle_finds_its_answer() {
    let (app, proxy, _jobs, client) = world().await;
    let gate = Gate::default();
    app.on("/patient", Reply::ok("x".repeat(1_000_000)).behind(&gate));
    let mut left = TcpStream::connect(proxy.address()).await.expect("listens");
    let head = format!(
        "POST /patient HTTP/1.1\r\nHost: {}\r\nX-User: alice\r\nIdempotency-Key: {KEY}\r\nContent-Length: 7\r\n\r\npay 100",
        client.host()
    );
    left.write_all(head.as_bytes()).await.expect("open");
    app.until_asked("/patient", 1).await;
    drop(left);
    gate.open();
    let again = eventually("its answer is kept", || async {
        let again = client.post("/patient", "pay 100").await;
        (again.status != 202).then_some(again)
    })
    .await;
    assert_eq!((again.status, again.body.len()), (200, 1_000_000));
    assert_eq!(app.count("/patient"), 1);
}

#[tokio::test]
async fn an_answer_too_large_to_be_kept_is_given_once() {
    let (app, _proxy, _jobs, client) = world().await;
    app.on("/slow", Reply::ok("x".repeat(3 * 1024 * 1024)));
    let first = client.post("/slow", "pay 100").await;
    assert_eq!((first.status, first.body.len()), (200, 3 * 1024 * 1024));
    let again = eventually("its end is stored", || async {
        let again = client.post("/slow", "pay 100").await;
        (again.status != 202).then_some(again)
    })
    .await;
    assert_eq!((again.status, again.problem().as_str()), (409, "already-answered"));
    assert!(again.text().contains("job k1."), "{}", again.text());
    assert_eq!(app.count("/slow"), 1);
}

#[tokio::test]
async fn a_request_that_was_not_done_may_be_sent_again_under_its_key() {
    let (app, proxy, _jobs, client) = world().await;
    for (code, key) in [(503, "a"), (429, "b")] {
        let client = keyed(&proxy, key);
        app.on("/slow", Reply::status(code));
        let busy = client.post("/slow", "pay 100").await;
        assert_eq!((busy.status, busy.header("idempotency-key").as_str()), (code, ""));
        app.on("/slow", Reply::ok("paid"));
        let again = client.post("/slow", "pay 100").await;
        assert_eq!((again.status, again.text().as_str()), (200, "paid"));
        assert_eq!(again.header("idempotency-key"), key);
    }
    // The application's own failure may have come after its work.
    app.on("/slow", Reply::status(500));
    assert_eq!(client.post("/slow", "pay 100").await.status, 500);
    app.on("/slow", Reply::ok("paid"));
    let again = eventually("its answer is kept", || async {
        let again = client.post("/slow", "pay 100").await;
        (again.status != 202).then_some(again)
    })
    .await;
    assert_eq!(again.status, 500);
}

#[tokio::test]
async fn what_was_queued_under_its_key_is_not_executed_besides() {
    let (app, proxy, jobs, client) = world().await;
    let gate = Gate::default();
    app.on("/patient", Reply::ok("paid").behind(&gate));
    let busy = sending(&keyed(&proxy, "other"), "/patient");
    app.until_asked("/patient", 1).await;
    let queued = client.post("/patient", "pay 100").await;
    assert_eq!((queued.status, queued.json()["offloaded"].as_str()), (202, Some("overload")));
    gate.open();
    assert_eq!(busy.await.expect("an answer").status, 200);
    let again = eventually("there is a place again", || async {
        let again = client.post("/patient", "pay 100").await;
        (again.json()["offloaded"] == "slow").then_some(again)
    })
    .await;
    assert_eq!(again.json()["id"], queued.json()["id"]);
    assert_eq!(again.json()["status"], "queued");
    assert_eq!(app.count("/patient"), 1);
    let _consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    assert_eq!(ended(&client, &queued.header("location")).await["status"], "succeeded");
    assert_eq!(app.count("/patient"), 2);
}

#[tokio::test]
async fn an_execution_that_died_with_its_process_ends_unknown_and_is_not_repeated() {
    let (app, proxy, jobs, client) = world().await;
    let gate = Gate::default();
    app.on("/patient", Reply::ok("paid").behind(&gate));
    let first = sending(&client, "/patient");
    app.until_asked("/patient", 1).await;
    // The record is all that there is: nobody else was promised anything yet.
    proxy.kill().await;
    first.abort();
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let _consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    let client = self::client(&proxy);
    let retry = client.post("/patient", "pay 100").await;
    assert_eq!((retry.status, retry.json()["status"].as_str()), (202, Some("running")));
    let end = ended(&client, &retry.header("location")).await;
    assert_eq!((end["status"].as_str(), end["reason"].as_str()), (Some("failed"), Some("unknown")));
    app.until_asked("/hooks/ready", 1).await;
    let late = client.post("/patient", "pay 100").await;
    assert_eq!((late.status, late.json()["status"].as_str()), (202, Some("failed")));
    assert_eq!(app.count("/patient"), 1);
}

#[tokio::test]
async fn without_its_record_a_request_is_refused_or_executed_without_a_promise() {
    let (app, cloud) = (App::start().await, support::Cloud::start().await);
    cloud.bucket("results");
    cloud.queue("work", &[]).await;
    app.on("/slow", Reply::ok("paid"));
    app.on("/inline", Reply::ok("paid"));
    let proxy = Spillway::proxy(RULES, &app).cloud("work", &cloud).start().await;
    let client = client(&proxy);
    cloud.s3().set(support::Fault::Fail);
    let refused = client.post("/slow", "pay 100").await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "offload-unavailable"));
    assert!(refused.text().contains("nothing is started"), "{}", refused.text());
    let inline = client.post("/inline", "pay 100").await;
    assert_eq!((inline.status, inline.header("idempotency-key").as_str()), (200, ""));
    assert_eq!((app.count("/slow"), app.count("/inline")), (0, 1));
    cloud.s3().clear();
    let again = client.post("/slow", "pay 100").await;
    assert_eq!((again.status, again.header("idempotency-key").as_str()), (200, KEY));
}

#[tokio::test]
async fn fifty_at_once_are_one_execution() {
    const CLIENTS: usize = 50;
    let (app, _proxy, _jobs, client) = world().await;
    let gate = Gate::default();
    app.on("/slow", Reply::ok("paid").behind(&gate));
    let all: Vec<_> = (0..CLIENTS).map(|_| sending(&client, "/slow")).collect();
    let mut ids = std::collections::BTreeSet::new();
    for answer in all {
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text());
        ids.insert(answer.header("location"));
    }
    gate.open();
    assert_eq!((ids.len(), app.count("/slow")), (1, 1));
    let location = ids.first().expect("one");
    assert_eq!(ended(&client, location).await["status"], "succeeded");
}

#[tokio::test]
async fn check_says_what_a_key_costs() {
    let files = folder();
    let routes = files.path().join("routes.toml");
    std::fs::write(&routes, RULES).expect("a file");
    let checked = support::run(&["check", &routes.display().to_string()]).await;
    let says = "slow: an Idempotency-Key costs a request one conditional write";
    assert!(checked.output.contains(says), "{}", checked.output);
}
