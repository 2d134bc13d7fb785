//! Slow requests answered at once, and what happens to their jobs.

use std::time::Duration;
use support::{Answer, App, Client, Gate, Reply, Spillway, eventually, folder};
use tempfile::TempDir;

const RULES: &str = r#"
    [[route]]
    name  = "reports"
    match = { path = "/reports", methods = ["POST"] }
    [route.offload]
    queue = "work"
    when  = "always"
    max_body = "1MiB"
    auth  = { check = "/session", identity = "cookie:session", keep = ["X-User-Id"] }

    [[route]]
    name    = "slow"
    match   = { path = "/slow", methods = ["POST"] }
    offload = { queue = "work", when = "slow", after = "50ms", auth = "none" }

    [[route]]
    name    = "polite"
    match   = { path = "/polite", methods = ["POST"] }
    offload = { queue = "work", when = "prefer", auth = "none" }

    [queue.work]
    path         = "/reports"
    visibility   = "1s"
    job_timeout  = "10s"
    max_attempts = 3
    message      = "report generation initiated"
    notify       = { app = "/hooks/ready" }
"#;

struct World {
    app: App,
    proxy: Spillway,
    jobs: TempDir,
    alice: Client,
}

async fn world() -> World {
    let app = App::start().await;
    app.answer("/session", |asked| match asked.header("cookie") {
        Some("session=alice") => Reply::ok("").with("x-user-id", "alice"),
        Some("session=bob") => Reply::ok("").with("x-user-id", "bob"),
        _ => Reply::status(401),
    });
    app.on("/hooks/ready", Reply::status(204));
    app.answer("/reports", |asked| {
        Reply::status(201)
            .with("content-type", "text/report")
            .with("x-own", "kept")
            .with("set-cookie", "not=stored")
            .body([b"report of ".as_slice(), &asked.body].concat())
    });
    let jobs = folder();
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let alice =
        proxy.client().with("cookie", "session=alice").with("sec-fetch-site", "same-origin");
    World { app, proxy, jobs, alice }
}

impl World {
    async fn consumer(&self) -> Spillway {
        Spillway::consume(RULES, &self.app).jobs("work", self.jobs.path()).start().await
    }

    /// Starts a job; its location.
    async fn start_job(&self, body: &str) -> String {
        let accepted = self.alice.post("/reports", body.to_owned()).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        accepted.header("location")
    }
}

/// Waits for the end of a job.
async fn ended(client: &Client, location: &str) -> Answer {
    eventually("the job ends", || async {
        let status = client.with("prefer", "wait=5").get(location).await;
        let is_open = matches!(status.json()["status"].as_str(), Some("queued" | "running"));
        (!is_open).then_some(status)
    })
    .await
}

#[tokio::test]
async fn a_job_is_accepted_run_and_its_answer_is_the_apps_own() {
    let world = world().await;
    let accepted = world.alice.with("content-type", "text/plain").post("/reports", "May").await;
    assert_eq!((accepted.status, accepted.header("retry-after").as_str()), (202, "1"));
    let json = accepted.json();
    assert_eq!(
        (json["status"].as_str(), json["message"].as_str()),
        (Some("queued"), Some("report generation initiated"))
    );
    let location = accepted.header("location");
    assert_eq!(json["location"].as_str(), Some(location.as_str()));
    assert_eq!(world.alice.get(&location).await.json()["status"], "queued");
    assert_eq!(world.alice.get(&format!("{location}/result")).await.problem(), "job-unfinished");
    assert_eq!(world.app.count("/reports"), 0);

    let _consumer = world.consumer().await;
    assert_eq!(ended(&world.alice, &location).await.json()["status"], "succeeded");
    let result = world.alice.get(&format!("{location}/result")).await;
    assert_eq!((result.status, result.text().as_str()), (201, "report of May"));
    assert_eq!(
        (result.header("content-type").as_str(), result.header("x-own").as_str()),
        ("text/report", "kept")
    );
    assert_eq!(
        (result.header("set-cookie").as_str(), result.header("cache-control").as_str()),
        ("", "no-store")
    );

    let replayed = world.app.asked("/reports").remove(0);
    let id = location.rsplit('/').next();
    assert_eq!((replayed.header("x-job-id"), replayed.header("idempotency-key")), (id, id));
    assert_eq!(
        (replayed.header("x-job-attempt"), replayed.header("x-user-id")),
        (Some("1"), Some("alice"))
    );
    assert_eq!(
        (replayed.header("content-type"), replayed.header("cookie")),
        (Some("text/plain"), None)
    );
}

#[tokio::test]
async fn the_app_is_told_once_when_a_job_ends() {
    let world = world().await;
    let _consumer = world.consumer().await;
    let location = world.start_job("May").await;
    let told = world.app.until_asked("/hooks/ready", 1).await.remove(0);
    let event: serde_json::Value = serde_json::from_slice(&told.body).expect("JSON");
    let id = location.rsplit('/').next();
    assert_eq!((event["specversion"].as_str(), event["id"].as_str()), (Some("1.0"), id));
    assert_eq!(
        (event["data"]["status"].as_str(), event["data"]["user"].as_str()),
        (Some("succeeded"), Some("alice"))
    );
    assert_eq!(told.header("webhook-id"), id);
    assert!(told.header("webhook-signature").is_some_and(|signature| signature.starts_with("v1,")));
}

#[tokio::test]
async fn a_client_can_not_tell_the_app_that_a_job_is_finished() {
    let world = world().await;
    let answer = world.alice.post("/hooks/ready", "{}").await;
    assert_eq!((answer.status, answer.problem().as_str()), (404, "hook-path"));
    assert_eq!(world.app.count("/hooks/ready"), 0);
}

#[tokio::test]
async fn a_job_that_kills_every_consumer_ends_as_failed() {
    let world = world().await;
    let gate = Gate::default();
    world.app.on("/reports", Reply::ok("never").behind(&gate));
    let location = world.start_job("May").await;
    for attempt in 1..=3 {
        let consumer = world.consumer().await;
        world.app.until_asked("/reports", attempt).await;
        consumer.kill().await;
    }
    let _consumer = world.consumer().await;
    let status = ended(&world.alice, &location).await.json();
    assert_eq!(
        (status["status"].as_str(), status["reason"].as_str()),
        (Some("failed"), Some("attempts-exhausted"))
    );
    assert_eq!(world.app.count("/reports"), 3);
}

#[tokio::test]
async fn nobody_sees_cancels_or_guesses_anothers_job() {
    let world = world().await;
    let location = world.start_job("secret").await;
    let bob =
        world.proxy.client().with("cookie", "session=bob").with("sec-fetch-site", "same-origin");
    let nobody = world.proxy.client();
    for stranger in [&bob, &nobody] {
        for (method, target) in [
            ("GET", location.clone()),
            ("DELETE", location.clone()),
            ("GET", format!("{location}/result")),
        ] {
            let answer = stranger.send(method, &target, "").await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (404, "job-unknown"),
                "{method} {target}"
            );
        }
    }
    let guessed = format!("{}0", &location[..location.len() - 1]);
    let guessed =
        if guessed == location { format!("{}1", &location[..location.len() - 1]) } else { guessed };
    assert_eq!(world.alice.get(&guessed).await.status, 404);
    assert_eq!(world.alice.get(&location).await.json()["status"], "queued");
}

#[tokio::test]
async fn only_those_whom_the_app_accepts_start_jobs() {
    let world = world().await;
    let nobody = world.proxy.client().post("/reports", "x").await;
    assert_eq!((nobody.status, nobody.problem().as_str()), (401, "offload-unauthorized"));
    let forged = world
        .proxy
        .client()
        .with("cookie", "session=mallory")
        .with("sec-fetch-site", "same-origin")
        .with("x-user-id", "alice")
        .post("/reports", "x")
        .await;
    assert_eq!((forged.status, forged.problem().as_str()), (401, "offload-unauthorized"));
    let queued =
        r#"spillway_offload_requests_total{reason="always",result="queued",route="reports"}"#;
    assert_eq!(world.proxy.metric(queued).await, 0.0);
}

#[tokio::test]
async fn a_retry_with_its_key_gets_the_same_job_and_another_request_is_refused() {
    let world = world().await;
    let keyed = world.alice.with("idempotency-key", "monday");
    let first = keyed.post("/reports", "May").await.header("location");
    assert_eq!(keyed.post("/reports", "May").await.header("location"), first);
    let other = keyed.post("/reports", "June").await;
    assert_eq!((other.status, other.problem().as_str()), (422, "idempotency-mismatch"));
    let bob = world
        .proxy
        .client()
        .with("cookie", "session=bob")
        .with("sec-fetch-site", "same-origin")
        .with("idempotency-key", "monday");
    assert_ne!(bob.post("/reports", "June").await.header("location"), first);
    let _consumer = world.consumer().await;
    assert_eq!(ended(&world.alice, &first).await.json()["status"], "succeeded");
    world.app.until_asked("/reports", 2).await;
    assert_eq!(world.app.count("/reports"), 2, "one for alice and one for bob");
}

#[tokio::test]
async fn a_job_survives_the_death_of_everyone_who_touched_it() {
    let World { app, proxy, jobs, alice } = world().await;
    let gate = Gate::default();
    app.on("/reports", Reply::ok("late").behind(&gate));
    let location = alice.post("/reports", "May").await.header("location");
    proxy.kill().await;
    let first = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    app.until_asked("/reports", 1).await;
    first.kill().await;
    // Its visibility and lease of a second run out; another worker takes over.
    let _second = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    let attempts = app.until_asked("/reports", 2).await;
    assert_eq!(attempts[1].header("x-job-attempt"), Some("2"));
    gate.open();
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let alice =
        proxy.client().with("cookie", "session=alice").with("sec-fetch-site", "same-origin");
    assert_eq!(ended(&alice, &location).await.json()["status"], "succeeded");
    assert_eq!(alice.get(&format!("{location}/result")).await.text(), "late");
}

#[tokio::test]
async fn a_job_that_runs_longer_than_its_visibility_is_run_once() {
    let world = world().await;
    let gate = Gate::default();
    world.app.on("/reports", Reply::ok("done").behind(&gate));
    let (first, _second) = (world.consumer().await, world.consumer().await);
    let location = world.start_job("May").await;
    world.app.until_asked("/reports", 1).await;
    // Three visibility time-outs of a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    gate.open();
    assert_eq!(ended(&world.alice, &location).await.json()["attempt"], 1);
    assert_eq!(world.app.count("/reports"), 1);
    drop(first);
}

#[tokio::test]
async fn an_app_that_fails_for_a_while_is_asked_again() {
    let world = world().await;
    world.app.answer("/reports", |asked| match asked.header("x-job-attempt") {
        Some("1") => Reply::status(500).with("retry-after", "0"),
        _ => Reply::ok("at last"),
    });
    let _consumer = world.consumer().await;
    let location = world.start_job("May").await;
    let status = ended(&world.alice, &location).await.json();
    assert_eq!(
        (status["status"].as_str(), status["attempt"].as_u64()),
        (Some("succeeded"), Some(2))
    );
}

#[tokio::test]
async fn an_app_that_keeps_failing_ends_the_job_with_its_last_answer() {
    let world = world().await;
    world.app.on("/reports", Reply::status(500).with("retry-after", "0").body("broken"));
    let _consumer = world.consumer().await;
    let location = world.start_job("May").await;
    let status = ended(&world.alice, &location).await.json();
    assert_eq!(
        (status["status"].as_str(), status["reason"].as_str()),
        (Some("failed"), Some("http-500"))
    );
    assert_eq!(world.app.count("/reports"), 3);
    let result = world.alice.get(&format!("{location}/result")).await;
    assert_eq!((result.status, result.text().as_str()), (500, "broken"));
}

#[tokio::test]
async fn a_refusal_or_a_login_page_ends_the_job_at_once() {
    for (code, reason) in [(422, "http-422"), (302, "redirected")] {
        let world = world().await;
        world.app.on("/reports", Reply::status(code).with("location", "/login"));
        let _consumer = world.consumer().await;
        let location = world.start_job("May").await;
        let status = ended(&world.alice, &location).await.json();
        assert_eq!(
            (status["status"].as_str(), status["reason"].as_str()),
            (Some("failed"), Some(reason))
        );
        assert_eq!(world.app.count("/reports"), 1);
    }
}

#[tokio::test]
async fn a_cancelled_job_is_not_run() {
    let world = world().await;
    let location = world.start_job("May").await;
    assert_eq!(world.alice.send("DELETE", &location, "").await.json()["status"], "cancelled");
    let next = world.start_job("June").await;
    let _consumer = world.consumer().await;
    ended(&world.alice, &next).await;
    assert_eq!(ended(&world.alice, &location).await.json()["status"], "cancelled");
    assert!(world.app.asked("/reports").iter().all(|asked| asked.body == "June"));
}

#[tokio::test]
async fn a_form_is_answered_with_a_page_that_ends_at_the_result() {
    let world = world().await;
    let browser = world.alice.with("accept", "text/html,application/xhtml+xml");
    let posted = browser
        .with("content-type", "application/x-www-form-urlencoded")
        .post("/reports", "month=May")
        .await;
    assert_eq!(posted.status, 303);
    let page = browser.get(&posted.header("location")).await;
    assert_eq!(
        (page.status, page.header("content-type").as_str()),
        (200, "text/html; charset=utf-8")
    );
    assert!(
        page.text().contains("report generation initiated") && page.text().contains("<noscript>")
    );
    let _consumer = world.consumer().await;
    let status = format!("/_spillway/jobs/{}", posted.header("x-job-id"));
    ended(&world.alice, &status).await;
    // A report that is no page ends the page that waited for it.
    let done = browser.get(&posted.header("location")).await.text();
    assert!(done.contains("<h1 id=title>Done</h1>"), "{done}");
    assert!(done.contains(&format!("0; url={status}/result")), "{done}");
}

#[tokio::test]
async fn a_slow_request_is_adopted_and_never_run_twice() {
    let world = world().await;
    let gate = Gate::default();
    world.app.on("/slow", Reply::ok("slow answer").behind(&gate));
    let _consumer = world.consumer().await;
    let client = world.proxy.client();
    let accepted = client.post("/slow", "x").await;
    assert_eq!((accepted.status, accepted.json()["status"].as_str()), (202, Some("running")));
    let location = accepted.header("location");
    assert_eq!(client.get(&location).await.json()["status"], "running");
    gate.open();
    assert_eq!(ended(&client, &location).await.json()["status"], "succeeded");
    assert_eq!(client.get(&format!("{location}/result")).await.text(), "slow answer");
    assert_eq!(world.app.count("/slow"), 1);
    let told = world.app.until_asked("/hooks/ready", 1).await.remove(0);
    assert_eq!(told.header("webhook-id"), location.rsplit('/').next());
    // The same route answers directly when it is quick.
    world.app.on("/slow", Reply::ok("quick"));
    let quick = client.post("/slow", "x").await;
    assert_eq!((quick.status, quick.text().as_str()), (200, "quick"));
}

#[tokio::test]
async fn an_adopted_request_whose_sidecar_dies_ends_as_failed_unknown() {
    let World { app, proxy, jobs, .. } = world().await;
    let gate = Gate::default();
    app.on("/slow", Reply::ok("never seen").behind(&gate));
    let location = proxy.client().post("/slow", "x").await.header("location");
    proxy.kill().await;
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let status = ended(&proxy.client(), &location).await.json();
    assert_eq!(
        (status["status"].as_str(), status["reason"].as_str()),
        (Some("failed"), Some("unknown"))
    );
}

#[tokio::test]
async fn a_sidecar_that_is_told_to_end_finishes_what_it_adopted() {
    let World { app, proxy, jobs, .. } = world().await;
    let gate = Gate::default();
    app.on("/slow", Reply::ok("slow answer").behind(&gate));
    let location = proxy.client().post("/slow", "x").await.header("location");
    proxy.terminate().await;
    eventually("it drains", || async {
        (proxy.admin().get("/ready").await.status == 503).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(proxy.ended().await, Some(0));
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let status = ended(&proxy.client(), &location).await.json();
    assert_eq!(status["status"], "succeeded");
}

#[tokio::test]
async fn a_client_chooses_by_prefer_and_is_told_that_it_was_heard() {
    let world = world().await;
    world.app.on("/polite", Reply::ok("now"));
    let client = world.proxy.client();
    assert_eq!(client.post("/polite", "x").await.text(), "now");
    let accepted = client.with("prefer", "respond-async").post("/polite", "x").await;
    assert_eq!(
        (accepted.status, accepted.header("preference-applied").as_str()),
        (202, "respond-async")
    );
    let _consumer = world.consumer().await;
    assert_eq!(ended(&client, &accepted.header("location")).await.json()["status"], "succeeded");
}

#[tokio::test]
async fn a_client_that_waits_gets_the_apps_own_answer_when_it_comes_in_time() {
    let world = world().await;
    let waiting = world.alice.with("prefer", "wait=20");
    let consumer = world.consumer().await;
    let answer = waiting.post("/reports", "May").await;
    assert_eq!((answer.status, answer.text().as_str()), (201, "report of May"));
    assert_eq!(answer.header("preference-applied"), "wait=20");
    drop(consumer);
    let late = world.alice.with("prefer", "wait=0").post("/reports", "June").await;
    assert_eq!((late.status, late.json()["status"].as_str()), (202, Some("queued")));
}

#[tokio::test]
async fn a_body_that_is_not_text_or_too_large_for_a_message_arrives_unchanged() {
    let world = world().await;
    world.app.answer("/reports", |asked| Reply::ok(asked.body.clone()));
    let _consumer = world.consumer().await;
    let binary: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for body in [binary, Vec::new()] {
        let accepted = world.alice.post("/reports", body.clone()).await;
        let location = accepted.header("location");
        ended(&world.alice, &location).await;
        assert_eq!(world.alice.get(&format!("{location}/result")).await.body, body);
    }
    let large = world.alice.post("/reports", vec![b'x'; 2 * 1024 * 1024]).await;
    assert_eq!((large.status, large.problem().as_str()), (413, "body-too-large"));
}

#[tokio::test]
async fn a_part_of_a_large_result_can_be_fetched() {
    let world = world().await;
    let large: String = (0..400_000).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
    let body = large.repeat(5);
    world.app.on("/reports", Reply::ok(body.clone()));
    let _consumer = world.consumer().await;
    let location = world.start_job("May").await;
    ended(&world.alice, &location).await;
    let part =
        world.alice.with("range", "bytes=1000000-1000009").get(&format!("{location}/result")).await;
    assert_eq!((part.status, part.text().as_str()), (206, &body[1_000_000..1_000_010]));
    assert_eq!(world.alice.get(&format!("{location}/result")).await.body.len(), body.len());
}
