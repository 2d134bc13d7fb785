//! A job that runs without the client's cookies is started by pages of the application only.

use support::{Answer, App, Client, Gate, Reply, Spillway, folder};

const RULES: &str = r#"
    [[route]]
    name    = "orders"
    match   = { path = "/orders" }
    [route.offload]
    queue     = "work"
    when      = "always"
    replay_as = "caller"
    auth      = { check = "/me", identity = "check:X-User-Id" }

    [[route]]
    name    = "plain"
    match   = { path = "/plain" }
    [route.offload]
    queue     = "work"
    when      = "always"
    auth      = { check = "/me", identity = "check:X-User-Id" }

    [[route]]
    name    = "slow"
    match   = { path = "/slow" }
    cors    = { origins = ["https://pages.example"], credentials = true }
    [route.offload]
    queue      = "work"
    when       = "slow"
    after      = "5s"
    spill_over = 1
    auth       = { check = "/me", identity = "check:X-User-Id" }

    [queue.work]
"#;

async fn application() -> App {
    let app = App::start().await;
    app.on("/me", Reply::ok("").with("x-user-id", "alice"));
    for path in ["/orders", "/plain", "/slow"] {
        app.on(path, Reply::ok("done"));
    }
    app
}

fn is_refused(answer: &Answer) -> bool {
    (answer.status, answer.problem().as_str()) == (403, "cross-site")
}

#[tokio::test]
async fn another_sites_form_starts_no_job_in_the_users_name() {
    let (app, jobs) = (application().await, folder());
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let alice = proxy.client().with("cookie", "session=a");
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("referer", "https://evil.example/form"),
        ("x-nothing", "said"),
    ] {
        assert!(is_refused(&alice.with(name, value).post("/plain", "x").await), "{name}: {value}");
    }
    let queued =
        r#"spillway_offload_requests_total{reason="always",result="queued",route="plain"}"#;
    assert_eq!(proxy.metric(queued).await, 0.0);
    for (name, value) in [("sec-fetch-site", "same-origin"), ("origin", proxy.url().as_str())] {
        assert_eq!(alice.with(name, value).post("/plain", "x").await.status, 202, "{name}");
    }
    assert_eq!(alice.get("/plain").await.status, 202, "reading changes nothing");
    // The application itself sees where the request of a caller comes from.
    let evil = alice.with("origin", "https://evil.example").post("/orders", "x").await;
    assert_eq!(evil.status, 202);
}

#[tokio::test]
async fn a_request_of_another_site_that_would_be_executed_anyway_is_but_not_queued() {
    let (app, jobs) = (application().await, folder());
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let gate = Gate::default();
    app.on("/slow", Reply::ok("slow").behind(&gate));
    let alice = proxy.client().with("cookie", "session=a");
    let own = alice.with("sec-fetch-site", "same-origin");
    let post = |client: &Client, body: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.post("/slow", body).await.status })
    };
    let first = post(&own, "1");
    gate.until_waited(1).await;
    let other = post(&alice.with("sec-fetch-site", "cross-site"), "2");
    gate.until_waited(2).await;
    assert_eq!(own.post("/slow", "3").await.status, 202, "more than one execution is queued");
    let named = alice.with("sec-fetch-site", "cross-site").with("origin", "https://pages.example");
    assert_eq!(named.post("/slow", "4").await.status, 202, "the route's cors names this page");
    gate.open();
    assert_eq!((first.await.expect("no panic"), other.await.expect("no panic")), (200, 200));
}
