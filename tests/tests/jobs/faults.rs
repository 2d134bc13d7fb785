//! What goes wrong around a job or a cached answer, and must not become the user's problem.

use std::time::Duration;
use support::{App, Reply, Spillway, accepted, eventually, folder, raw};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const RULES: &str = r#"
    [[route]]
    name    = "work"
    match   = { path = "/work", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none" }

    [[route]]
    name  = "tenant"
    match = { path = "/tenant" }
    cache = { sidecar = "1m", headers = ["x-tenant"] }

    [[route]]
    name  = "checked"
    match = { path = "/checked" }
    cache = { sidecar = "from-origin" }

    [[route]]
    name     = "small"
    match    = { path = "/small", methods = ["POST"] }
    max_body = "1KiB"

    [queue.work]
    visibility  = "1s"
    job_timeout = "30s"
"#;

async fn sidecar(app: &App) -> (Spillway, tempfile::TempDir) {
    let jobs = folder();
    let sidecar = Spillway::proxy(RULES, app).jobs("work", jobs.path()).start().await;
    (sidecar, jobs)
}

#[tokio::test]
async fn an_answer_that_streams_longer_than_the_visibility_is_asked_for_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (app, jobs) = (App::start().await, folder());
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let location = proxy.client().post("/work", "x").await.header("location");
    let consume = || Spillway::consume_for(RULES, &url).jobs("work", jobs.path()).start();
    let (_first, _second) = (consume().await, consume().await);
    let mut app = accepted(&listener).await;
    app.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.expect("sent");
    // Three visibility time-outs of a second, a piece of the answer in each.
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        app.write_all(b"5\r\npiece\r\n").await.expect("sent");
    }
    app.write_all(b"0\r\n\r\n").await.expect("sent");
    let client = proxy.client();
    eventually("the job ends", || async {
        (client.get(&location).await.json()["status"] == "succeeded").then_some(())
    })
    .await;
    assert_eq!(client.get(&format!("{location}/result")).await.text(), "piece".repeat(6));
    let again = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(again.is_err(), "the job was run again");
}

#[tokio::test]
async fn a_field_that_connection_names_is_gone_before_the_key_is_made() {
    let app = App::start().await;
    app.answer("/tenant", |asked| {
        Reply::ok(asked.header("x-tenant").unwrap_or("nobody").to_owned())
    });
    let (sidecar, _jobs) = sidecar(&app).await;
    let poison =
        "GET /tenant HTTP/1.1\r\nHost: h\r\nX-Tenant: victim\r\nConnection: x-tenant\r\n\r\n";
    assert!(raw(sidecar.address(), poison, "nobody").await.contains("nobody"));
    let honest = "GET /tenant HTTP/1.1\r\nHost: h\r\nX-Tenant: victim\r\n\r\n";
    assert!(raw(sidecar.address(), honest, "victim").await.contains("victim"));
    let no_host = "GET /tenant HTTP/1.1\r\nHost: h\r\nConnection: host\r\n\r\n";
    assert!(raw(sidecar.address(), no_host, "\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn an_upgrade_to_anything_but_websocket_is_no_way_around_the_rules() {
    let app = App::start().await;
    app.on("/work", Reply::ok("run at once"));
    let (sidecar, _jobs) = sidecar(&app).await;
    let request = "POST /work HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nContent-Length: 1\r\n\r\nx";
    assert!(raw(sidecar.address(), request, "\r\n\r\n").await.starts_with("HTTP/1.1 202"));
    assert_eq!(app.count("/work"), 0);
}

#[tokio::test]
async fn headers_that_look_like_ours_to_the_app_do_not_reach_it() {
    let app = App::start().await;
    app.on("/", Reply::ok(""));
    let jobs = folder();
    let sidecar = Spillway::proxy(RULES, &app).jobs("work", jobs.path());
    let sidecar = sidecar.with("--trusted-proxy", "127.0.0.1").start().await;
    let request = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\nX_Job_Id: 1\r\nX-Shard-Key: 1\r\n\r\n";
    raw(sidecar.address(), request, "\r\n\r\n").await;
    let asked = app.asked("/").remove(0);
    assert_eq!(asked.header("x-forwarded-for"), Some("6.6.6.6, 203.0.113.9, 127.0.0.1"));
    assert_eq!((asked.header("x_job_id"), asked.header("x-shard-key")), (None, None));
}

#[tokio::test]
async fn an_answer_that_must_be_checked_each_time_is_not_shared_by_those_who_waited() {
    let app = App::start().await;
    let gate = support::Gate::default();
    app.on(
        "/checked",
        Reply::ok("x").with("etag", "\"1\"").with("cache-control", "no-cache").behind(&gate),
    );
    let (sidecar, _jobs) = sidecar(&app).await;
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let client = sidecar.client();
            tokio::spawn(async move { client.get("/checked").await.status })
        })
        .collect();
    app.until_asked("/checked", 1).await;
    gate.open();
    for status in asking {
        assert_eq!(status.await.expect("an answer"), 200);
    }
    assert_eq!(app.count("/checked"), 3);
}

#[tokio::test]
async fn a_body_whose_length_nobody_told_is_cut_at_the_routes_limit() {
    let app = App::start().await;
    app.on("/small", Reply::ok(""));
    let (sidecar, _jobs) = sidecar(&app).await;
    let body = "400\r\n".to_owned() + &"x".repeat(1024) + "\r\n1\r\ny\r\n0\r\n\r\n";
    let request =
        format!("POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let answer = raw(sidecar.address(), &request, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn lists_are_trimmed_and_a_variable_that_is_empty_is_not_set() {
    let app = App::start().await;
    app.on("/b", Reply::ok("from b"));
    let rules = "[[route]]\nname = \"b\"\nmatch = { path = \"/b\" }\nupstream = \"b\"\n";
    let both = format!("a={0}, b={0} ,", app.url());
    let setup = Spillway::proxy(rules, &app).env("SPILLWAY_UPSTREAM", &both);
    let setup = setup.env("SPILLWAY_RESULTS", "").env("SPILLWAY_GRACE", " ");
    let setup = setup.env("SPILLWAY_TRUSTED_PROXY", " private, 10.0.0.0/8 ");
    let sidecar = setup.env("SPILLWAY_UNSIGNED_FROM", "none").start().await;
    assert_eq!(sidecar.client().get("/b").await.text(), "from b");
}
