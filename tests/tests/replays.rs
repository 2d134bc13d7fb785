//! A job's request comes to the application as its caller sent it, or as nobody's: never as somebody
//! else's, and never for another site.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Answer, App, Asked, Client, Cloud, Gate, Reply, Spillway, eventually, folder};

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
    for path in ["/orders", "/plain", "/slow", "/direct"] {
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

const WAITING: &str = r#"
    [[route]]
    name    = "patient"
    match   = { path = "/patient" }
    offload = { queue = "work", when = "always", auth = "none", wait = "20s" }

    [[route]]
    name    = "strict"
    match   = { path = "/strict" }
    offload = { queue = "work", when = "always", auth = "none", wait = "200ms", wait_ends = "504" }

    [queue.work]
"#;

#[tokio::test]
async fn a_client_that_knows_no_202_waits_for_the_applications_own_answer() {
    let (app, jobs) = (App::start().await, folder());
    let gate = Gate::default();
    app.on("/patient", Reply::status(201).body("made").with("x-own", "1"));
    app.on("/strict", Reply::ok("late").behind(&gate));
    let proxy = Spillway::proxy(WAITING, &app).jobs("work", jobs.path()).start().await;
    let consumer = Spillway::consume(WAITING, &app).jobs("work", jobs.path()).start().await;
    let answer = proxy.client().post("/patient", "x").await;
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.header("x-own").as_str()),
        (201, "made", "1")
    );
    assert_eq!(answer.header("preference-applied"), "", "it asked for nothing");
    let late = proxy.client().post("/strict", "x").await;
    assert_eq!((late.status, late.problem().as_str()), (504, "wait-over"));
    assert!(late.json()["detail"].as_str().is_some_and(|it| it.contains("/_spillway/jobs/v1.")));
    let knows = proxy.client().with("prefer", "respond-async").post("/strict", "x").await;
    assert_eq!(knows.status, 202);
    gate.open();
    consumer.kill().await;
    // Nobody runs it: whoever waits at the drain is let go with the job.
    let waiting = tokio::spawn({
        let client = proxy.client();
        async move { client.post("/patient", "x").await }
    });
    eventually("it waits", || async {
        let queued =
            r#"spillway_offload_requests_total{reason="always",result="queued",route="patient"}"#;
        (proxy.metric(queued).await == 2.0).then_some(())
    })
    .await;
    let drained = proxy.drain();
    assert_eq!(waiting.await.expect("no panic").status, 202);
    drained.await;
}
