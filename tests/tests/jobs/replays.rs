//! A job's request comes to the application as its caller sent it, or as nobody's: never as somebody
//! else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{App, Asked, Client, Cloud, Gate, Reply, Spillway, eventually, folder};

const RULES: &str = r#"
    [[route]]
    name    = "orders"
    match   = { path = "/orders" }
    [route.offload]
    queue     = "work"
    when      = "always"
    replay_as = "caller"
    auth      = { check = "/me", identity = "check:X-User-Id", keep = ["X-User-Id", "X-Roles"] }

    [[route]]
    name    = "plain"
    match   = { path = "/plain" }
    [route.offload]
    queue     = "work"
    when      = "always"
    auth      = { check = "/me", identity = "check:X-User-Id", keep = ["X-User-Id"] }

    [queue.work]
    visibility   = "5s"
    max_attempts = 2
"#;

/// Fields that say something about one exchange only, or are written anew by who sends a request.
const OF_THE_EXCHANGE: [&str; 6] =
    ["content-length", "host", "idempotency-key", "traceparent", "if-none-match", "range"];

async fn application() -> App {
    let app = App::start().await;
    app.answer("/me", |asked| {
        let user = match asked.header("cookie") {
            Some(cookie) if cookie.contains("session=a") => "alice",
            Some(cookie) if cookie.contains("session=b") => "bob",
            _ => return Reply::status(401),
        };
        Reply::ok("").with("x-user-id", user).with("x-roles", "reader").with("x-roles", "writer")
    });
    for path in ["/orders", "/plain", "/direct"] {
        app.on(path, Reply::ok("done"));
    }
    app
}

fn browser(proxy: &Spillway, session: &str) -> Client {
    let cookie = format!("theme=dark; session={session}");
    let client = proxy.client().with("cookie", &cookie).with("origin", &proxy.url());
    client.with("x-csrf-token", "t0ken").with("accept-encoding", "br")
}

async fn ended(client: &Client, location: &str) -> serde_json::Value {
    let status = eventually("the job ends", || async {
        let status = client.with("prefer", "wait=5").get(location).await.json();
        let is_open = matches!(status["status"].as_str(), Some("queued" | "running"));
        (!is_open).then_some(status)
    });
    status.await
}

fn reason(status: &serde_json::Value) -> (&str, &str) {
    (status["status"].as_str().unwrap_or(""), status["reason"].as_str().unwrap_or(""))
}

/// What the application was sent, but for what belongs to one exchange or to a job.
fn lines(asked: &Asked) -> Vec<(String, String)> {
    let lines = asked.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let is_compared = |name: &str| !OF_THE_EXCHANGE.contains(&name) && !name.starts_with("x-job-");
    let mut lines: Vec<_> = lines.filter(|(name, _)| is_compared(name)).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn the_application_gets_the_same_request_later_and_nobody_in_between_sees_it() {
    let (app, jobs) = (application().await, folder());
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let alice = browser(&proxy, "a-s3cret").with("x-line", "1").with("x-line", "2");
    let alice = alice.with("authorization", "Bearer s3cret").with("content-type", "text/plain");
    alice.post("/direct", "x").await;
    let conditional = alice.with("range", "bytes=0-1").with("if-none-match", "\"1\"");
    let accepted = conditional.post("/orders", "x").await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    for file in std::fs::read_dir(jobs.path()).expect("a folder") {
        let path = file.expect("a file").path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!bytes.windows(6).any(|part| part == b"s3cret"), "{}", path.display());
    }
    let _consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    assert_eq!(reason(&ended(&alice, &accepted.header("location")).await), ("succeeded", ""));
    let (direct, replayed) = (app.asked("/direct").remove(0), app.asked("/orders").remove(0));
    let mut wanted = lines(&direct);
    for (name, value) in [("x-roles", "reader"), ("x-roles", "writer"), ("x-user-id", "alice")] {
        wanted.push((name.to_owned(), value.to_owned()));
    }
    wanted.sort();
    assert_eq!(lines(&replayed), wanted);
    assert_eq!(replayed.body, "x");
    assert!(
        !replayed.headers.contains_key("range") && !replayed.headers.contains_key("if-none-match")
    );
}

#[tokio::test]
async fn what_a_user_may_no_more_is_not_done_in_the_users_name() {
    let (app, jobs) = (application().await, folder());
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let alice = browser(&proxy, "a");
    let location = alice.post("/orders", "x").await.header("location");
    let other = alice.post("/orders", "y").await.header("location");
    // Logged out, or somebody else logged in since: by the same cookie.
    let asks = Arc::new(AtomicBool::new(false));
    let second = Arc::clone(&asks);
    app.answer("/me", move |_| match second.swap(true, Ordering::SeqCst) {
        false => Reply::status(401),
        true => Reply::ok("").with("x-user-id", "mallory"),
    });
    let consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    eventually("both have failed", || async {
        let failed = r#"spillway_jobs_total{outcome="failed",queue="work",reason="unauthorized"}"#;
        (consumer.metric(failed).await == 2.0).then_some(())
    })
    .await;
    assert_eq!(app.count("/orders"), 0);
    app.on("/me", Reply::ok("").with("x-user-id", "alice"));
    for location in [location, other] {
        assert_eq!(reason(&ended(&alice, &location).await), ("failed", "unauthorized"));
    }
}

#[tokio::test]
async fn credentials_end_with_their_time_and_a_retry_by_hand_does_not_renew_them() {
    let (app, jobs) = (application().await, folder());
    let rules =
        RULES.replacen("replay_as = \"caller\"", "replay_as = \"caller\"\nreplay_ttl = \"1ms\"", 1);
    let proxy = Spillway::proxy(&rules, &app).jobs("work", jobs.path()).start().await;
    let alice = browser(&proxy, "a");
    let location = alice.post("/orders", "x").await.header("location");
    let _consumer = Spillway::consume(&rules, &app).jobs("work", jobs.path()).start().await;
    assert_eq!(reason(&ended(&alice, &location).await), ("failed", "credentials-expired"));
    let files = format!("file:{}", jobs.path().display());
    let id = location.rsplit('/').next().expect("an id").to_owned();
    let queue = format!("work={files}");
    let routes = jobs.path().join("routes.toml");
    std::fs::write(&routes, &rules).expect("a rules file");
    let routes = routes.display().to_string();
    let own = ["--routes", &routes, "--results", &files, "--queue", &queue];
    let again = [&["jobs", "retry", &id][..], &own].concat();
    let again = support::run(&again).await;
    assert_eq!(again.code, Some(0), "{}", again.errors);
    eventually("it has failed again", || async {
        let status = ended(&alice, &location).await;
        (status["attempt"] == 2).then_some(())
    })
    .await;
    assert_eq!(reason(&ended(&alice, &location).await), ("failed", "credentials-expired"));
    let show = support::run(&[&["jobs", "show", &id][..], &own].concat()).await;
    assert!(show.output.contains("\"sealed\": \"concealed\""), "{}", show.output);
    assert_eq!(app.count("/orders"), 0);
}

#[tokio::test]
async fn credentials_of_one_job_do_not_run_anothers() {
    let (app, cloud) = (application().await, Cloud::start().await);
    // Somebody who may write to the queue stands between proxy and consumer.
    cloud.queue("accepted", &[]).await;
    cloud.queue("work", &[]).await;
    cloud.bucket("results");
    let queue = format!("work=sqs:{}", cloud.queue_url("accepted"));
    let proxy = Spillway::proxy(RULES, &app).with("--queue", &queue);
    let proxy = proxy.with("--results", "s3://results/jobs");
    let proxy =
        cloud.environment().iter().fold(proxy, |proxy, (name, value)| proxy.env(name, value));
    let proxy = proxy.start().await;
    let (alice, bob) = (browser(&proxy, "a"), browser(&proxy, "b"));
    let of_alice = alice.post("/orders?of=alice", "x").await.header("location");
    let of_bob = bob.post("/orders?of=bob", "x").await.header("location");
    let names = ["job-id", "method", "path", "host", "headers", "route", "sealed"];
    let columns = names.map(|name| cloud.attributes("accepted", name));
    let message = |user: &str| -> Vec<(&str, &str)> {
        let row = columns[2].iter().position(|path| path.ends_with(user)).expect("its job");
        names.iter().zip(&columns).map(|(name, column)| (*name, column[row].as_str())).collect()
    };
    let (genuine, mut stolen) = (message("bob"), message("alice"));
    // Alice's credentials, for what Bob asked; and Bob's own, for something else.
    let seal = stolen.last().expect("a seal").1;
    let mut forged = genuine.clone();
    *forged.last_mut().expect("a seal") = ("sealed", seal);
    cloud.send("work", "x", &forged).await;
    stolen[2] = ("path", "/orders?of=everybody");
    cloud.send("work", "x", &stolen).await;
    let _consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    assert_eq!(reason(&ended(&bob, &of_bob).await), ("failed", "seal-broken"));
    assert_eq!(reason(&ended(&alice, &of_alice).await), ("failed", "seal-broken"));
    assert_eq!(app.count("/orders"), 0);
}

#[tokio::test]
async fn a_seal_that_is_too_large_for_a_message_waits_in_the_store_and_goes_with_it() {
    let (app, cloud) = (application().await, Cloud::start().await);
    cloud.queue("work", &[]).await;
    cloud.bucket("results");
    let proxy = Spillway::proxy(RULES, &app).cloud("work", &cloud).start().await;
    let long = "x".repeat(20_000);
    let alice = browser(&proxy, "a").with("x-long", &long);
    let location = alice.post("/orders", "x").await.header("location");
    assert_eq!(cloud.attributes("work", "sealed"), ["store"]);
    assert_eq!(cloud.keys("results", "jobs/sealed/").len(), 1);
    let _consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    assert_eq!(reason(&ended(&alice, &location).await), ("succeeded", ""));
    assert_eq!(app.asked("/orders").remove(0).header("x-long"), Some(long.as_str()));
    eventually("the seal is removed", || async {
        cloud.keys("results", "jobs/sealed/").is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_a_rotation_the_old_key_opens_and_a_stranger_s_does_not() {
    let (app, jobs) = (application().await, folder());
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let alice = browser(&proxy, "a");
    let location = alice.post("/orders", "x").await.header("location");
    let consume = |secret: &str| {
        Spillway::consume(RULES, &app).jobs("work", jobs.path()).env("SPILLWAY_SECRET", secret)
    };
    let rotated = consume(&format!("{},{}", "n".repeat(40), support::SECRET)).start().await;
    assert_eq!(reason(&ended(&alice, &location).await), ("succeeded", ""));
    rotated.kill().await;
    let location = alice.post("/orders", "x").await.header("location");
    let _stranger = consume(&"n".repeat(40)).start().await;
    assert_eq!(reason(&ended(&alice, &location).await), ("failed", "seal-broken"));
    assert_eq!(app.count("/orders"), 1);
}

#[tokio::test]
async fn a_consumer_of_older_rules_leaves_the_job_to_one_that_knows_whom_to_ask() {
    let (app, jobs) = (application().await, folder());
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let alice = browser(&proxy, "a");
    let location = alice.post("/orders", "x").await.header("location");
    let older = RULES.replace("/orders", "/other").replace("\"orders\"", "\"other\"");
    let old = Spillway::consume(&older, &app).jobs("work", jobs.path()).start().await;
    old.until_said("rules-missing").await;
    assert_ne!(alice.get(&location).await.json()["status"], "failed");
    old.kill().await;
    let _new = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    assert_eq!(reason(&ended(&alice, &location).await), ("succeeded", ""));
}

#[tokio::test]
async fn one_callers_slow_check_holds_up_nobody_elses_jobs() {
    let (app, jobs) = (application().await, folder());
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let (alice, bob) = (browser(&proxy, "a"), browser(&proxy, "b"));
    let of_alice = alice.post("/orders", "x").await.header("location");
    let of_bob = bob.post("/plain", "y").await.header("location");
    let gate = Gate::default();
    let closed = gate.clone();
    app.answer("/me", move |asked| match asked.header("cookie") {
        Some(cookie) if cookie.contains("session=a") => Reply::ok("").behind(&closed),
        _ => Reply::ok("").with("x-user-id", "bob"),
    });
    let consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    gate.until_waited(1).await;
    consumer.until_said("the authorization check did not answer").await;
    assert_eq!(reason(&ended(&bob, &of_bob).await), ("succeeded", ""));
    let up = r#"spillway_consumer_app_up{upstream="app"}"#;
    assert_eq!(consumer.metric(up).await, 1.0, "it takes connections");
    drop(of_alice);
}

#[tokio::test]
async fn a_job_whose_seal_was_taken_off_does_not_run_as_nobody() {
    let (app, cloud) = (application().await, Cloud::start().await);
    cloud.queue("work", &[]).await;
    cloud.bucket("results");
    let attributes = [
        ("job-id", "v1.1.2.3.4"),
        ("method", "POST"),
        ("path", "/orders"),
        ("host", "h"),
        ("headers", r#"{"x-user-id":"alice"}"#),
        ("route", "orders"),
    ];
    cloud.send("work", "x", &attributes).await;
    let consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    eventually("it has failed", || async {
        let failed = r#"spillway_jobs_total{outcome="failed",queue="work",reason="seal-broken"}"#;
        (consumer.metric(failed).await == 1.0).then_some(())
    })
    .await;
    assert_eq!(app.count("/orders"), 0);
}
