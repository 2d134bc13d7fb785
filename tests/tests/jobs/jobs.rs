//! What a caller sees of a job, what the application says of it, and what an operator can do.

use support::{App, Client, Gate, Reply, Spillway, accepted, eventually, folder, read_until, run};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const RULES: &str = r#"
    [[route]]
    name    = "reports"
    match   = { path = "/reports/{tenant}", methods = ["POST"] }
    cors    = { origins = ["https://app.example.com"], credentials = true }
    [route.offload]
    queue       = "work"
    when        = "always"
    auth        = "none"
    tenant      = "path:tenant"
    concurrency = 3

    [[route]]
    name    = "urgent"
    match   = { path = "/urgent", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none", deadline = "1ms" }

    [[route]]
    name    = "slow"
    match   = { path = "/slow", methods = ["POST"] }
    offload = { queue = "work", when = "slow", after = "50ms", auth = "none" }

    [queue.work]
    visibility         = "5s"
    max_attempts       = 1
    concurrency        = 4
    tenant_concurrency = 1
    notify             = { app = "/hooks/ready" }
"#;

struct World {
    app: App,
    proxy: Spillway,
    jobs: TempDir,
    client: Client,
}

async fn world() -> World {
    let app = App::start().await;
    app.on("/hooks/ready", Reply::status(204));
    let jobs = folder();
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let client = proxy.client();
    World { app, proxy, jobs, client }
}

impl World {
    async fn consumer(&self) -> Spillway {
        Spillway::consume(RULES, &self.app).jobs("work", self.jobs.path()).start().await
    }

    async fn start_job(&self, path: &str) -> String {
        let accepted = self.client.post(path, "May").await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        accepted.header("location")
    }

    async fn ended(&self, location: &str) -> serde_json::Value {
        self.client.with("prefer", "wait=25").get(location).await.json()
    }

    /// `spillway jobs …` on the same folder.
    async fn operator(&self, arguments: &[&str]) -> support::Ended {
        let files = format!("file:{}", self.jobs.path().display());
        let rules = self.jobs.path().join("routes.toml");
        std::fs::write(&rules, RULES).expect("a rules file");
        let (rules, queue) = (rules.display().to_string(), format!("work={files}"));
        let own = ["--routes", &rules, "--queue", &queue, "--results", &files];
        run(&[&["jobs"], arguments, &own].concat()).await
    }
}

fn id(location: &str) -> &str {
    location.rsplit('/').next().expect("a segment")
}

#[tokio::test]
async fn a_client_that_waits_for_the_status_is_told_that_it_was_heard() {
    let world = world().await;
    let location = world.start_job("/reports/a").await;
    let status = world.client.with("prefer", "wait=0").get(&location).await;
    assert_eq!(status.header("preference-applied"), "wait=0");
    assert_eq!(
        (status.json()["status"].as_str(), status.header("retry-after").as_str()),
        (Some("queued"), "1")
    );
}

#[tokio::test]
async fn a_stream_tells_each_change_and_ends_with_the_job() {
    let world = world().await;
    let gate = Gate::default();
    world.app.on("/reports/a", Reply::ok("done").behind(&gate));
    let location = world.start_job("/reports/a").await;
    let mut stream = TcpStream::connect(world.proxy.address()).await.expect("it listens");
    let request = format!(
        "GET {location} HTTP/1.1\r\nhost: h\r\naccept: text/event-stream\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("open");
    let begin = read_until(&mut stream, "queued").await;
    let _consumer = world.consumer().await;
    let asked = world.app.until_asked("/reports/a", 1).await.remove(0);
    let report = world.client.with("authorization", asked.header("x-job-token").expect("a token"));
    let at = asked.header("x-job-progress").expect("an address").to_owned();
    let said = report.send("PUT", &at, r#"{"percent": 40, "message": "reading"}"#).await;
    assert_eq!(said.status, 204, "{}", said.text());
    let begin = begin + &read_until(&mut stream, "reading").await;
    assert!(begin.contains("\r\nContent-Type: text/event-stream\r\n"), "{begin}");
    gate.open();
    let text = begin + &read_until(&mut stream, "\0").await;
    let events: Vec<serde_json::Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    let seen: Vec<&str> = events.iter().filter_map(|event| event["status"].as_str()).collect();
    assert_eq!((seen.first(), seen.last()), (Some(&"queued"), Some(&"succeeded")), "{text}");
    assert!(events.iter().any(|event| event["progress"]["message"] == "reading"), "{text}");
    assert!(text.contains("id: succeeded\n") && text.contains("retry: 1000\n"), "{text}");
    // A browser comes again after each end; 204 tells it not to.
    let again = world.client.with("accept", "text/event-stream").with("last-event-id", "succeeded");
    assert_eq!(again.get(&location).await.status, 204);
}

#[tokio::test]
async fn only_the_application_reports_progress_and_only_of_its_own_job() {
    let world = world().await;
    let gate = Gate::default();
    world.app.on("/reports/a", Reply::ok("").behind(&gate));
    world.app.on("/reports/b", Reply::ok("").behind(&gate));
    let location = world.start_job("/reports/a").await;
    world.start_job("/reports/b").await;
    let _consumer = world.consumer().await;
    world.app.until_asked("/reports/a", 1).await;
    let other = world.app.until_asked("/reports/b", 1).await.remove(0);
    let at = format!("{location}/progress");
    for token in ["Bearer x", other.header("x-job-token").expect("a token")] {
        let client = world.client.with("authorization", token);
        assert_eq!(client.send("PUT", &at, r#"{"percent": 1}"#).await.problem(), "job-unknown");
    }
    assert_eq!(world.client.send("PUT", &at, r#"{"percent": 1}"#).await.problem(), "job-unknown");
    let own = world.app.asked("/reports/a").remove(0);
    let own = world.client.with("authorization", own.header("x-job-token").expect("a token"));
    assert_eq!(own.send("PUT", &at, r#"{"percent": 101}"#).await.problem(), "bad-request");
    let long = format!(r#"{{"percent": 1, "message": "{}"}}"#, "x".repeat(5000));
    assert_eq!(own.send("PUT", &at, long).await.problem(), "bad-request");
}

#[tokio::test]
async fn a_cancelled_jobs_connection_to_the_application_is_closed() {
    let app = App::start().await;
    app.on("/hooks/ready", Reply::status(204));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let jobs = folder();
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let location = proxy.client().post("/reports/a", "May").await.header("location");
    let _consumer = Spillway::consume_for(RULES, &url).jobs("work", jobs.path()).start().await;
    let mut connection = accepted(&listener).await;
    let client = proxy.client();
    assert_eq!(client.send("DELETE", &location, "").await.json()["status"], "cancelled");
    let mut request = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut request);
    tokio::time::timeout(support::PATIENCE, read).await.expect("it is closed").expect("cleanly");
    assert!(String::from_utf8_lossy(&request).starts_with("POST /reports/a"));
    assert_eq!(client.get(&location).await.json()["status"], "cancelled");
    assert_eq!(client.get(&format!("{location}/result")).await.problem(), "job-unfinished");
}

#[tokio::test]
async fn a_job_that_waited_beyond_its_deadline_is_not_started() {
    let world = world().await;
    let location = world.start_job("/urgent").await;
    let _consumer = world.consumer().await;
    let status = world.ended(&location).await;
    assert_eq!(
        (status["status"].as_str(), status["reason"].as_str()),
        (Some("failed"), Some("deadline"))
    );
    assert_eq!(world.app.count("/urgent"), 0);
}

#[tokio::test]
async fn one_tenants_jobs_run_one_at_a_time_and_leave_room_for_the_others() {
    let world = world().await;
    let gate = Gate::default();
    for path in ["/reports/noisy", "/reports/b", "/reports/c", "/reports/d"] {
        world.app.on(path, Reply::ok("").behind(&gate));
    }
    let mut locations = Vec::new();
    for _ in 0..3 {
        locations.push(world.start_job("/reports/noisy").await);
    }
    for path in ["/reports/b", "/reports/c", "/reports/d"] {
        locations.push(world.start_job(path).await);
    }
    let _consumer = world.consumer().await;
    world.app.until_asked("/reports/b", 1).await;
    world.app.until_asked("/reports/c", 1).await;
    // One of each tenant, three of the route: the fourth tenant has to wait too.
    let asked =
        || ["noisy", "b", "c", "d"].map(|tenant| world.app.count(&format!("/reports/{tenant}")));
    assert_eq!(asked(), [1, 1, 1, 0]);
    gate.open();
    for location in &locations {
        assert_eq!(world.ended(location).await["status"], "succeeded");
    }
    assert_eq!(asked(), [3, 1, 1, 1]);
}

#[tokio::test]
async fn what_still_runs_at_the_end_of_the_grace_period_is_given_back_at_once() {
    let world = world().await;
    let gate = Gate::default();
    world.app.on("/reports/a", Reply::ok("done").behind(&gate));
    // Far longer than a test may take: it must not come back by itself.
    let rules =
        RULES.replace("\"5s\"", "\"10m\"").replace("max_attempts       = 1", "max_attempts = 3");
    let consume = || {
        let setup = Spillway::consume(&rules, &world.app).jobs("work", world.jobs.path());
        setup.with("--grace", "3").start()
    };
    let location = world.start_job("/reports/a").await;
    let first = consume().await;
    world.app.until_asked("/reports/a", 1).await;
    first.terminate().await;
    assert_eq!(first.ended().await, Some(0));
    let _second = consume().await;
    let attempts = world.app.until_asked("/reports/a", 2).await;
    assert_eq!(attempts[1].header("x-job-attempt"), Some("2"));
    gate.open();
    assert_eq!(world.ended(&location).await["status"], "succeeded");
}

#[tokio::test]
async fn an_adopted_job_whose_sidecar_died_ends_without_anybody_asking_and_its_end_is_told() {
    let World { app, proxy, jobs, .. } = world().await;
    let gate = Gate::default();
    app.on("/slow", Reply::ok("").behind(&gate));
    proxy.client().post("/slow", "x").await;
    proxy.kill().await;
    let _consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    let told = app.until_asked("/hooks/ready", 1).await.remove(0);
    let event: serde_json::Value = serde_json::from_slice(&told.body).expect("JSON");
    assert_eq!(
        (event["data"]["status"].as_str(), event["data"]["reason"].as_str()),
        (Some("failed"), Some("unknown"))
    );
}

#[tokio::test]
async fn a_page_of_an_origin_that_is_listed_starts_a_job_and_reads_it() {
    let world = world().await;
    let page = world.client.with("origin", "https://app.example.com");
    let asks = page
        .with("access-control-request-method", "POST")
        .with("access-control-request-headers", "content-type,prefer");
    let preflight = asks.send("OPTIONS", "/reports/a", "").await;
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-methods").as_str()),
        (204, "POST")
    );
    assert_eq!(preflight.header("access-control-allow-headers"), "content-type,prefer");
    assert_eq!(preflight.header("access-control-allow-credentials"), "true");
    let accepted = page.post("/reports/a", "May").await;
    assert_eq!(accepted.header("access-control-allow-origin"), "https://app.example.com");
    assert!(accepted.header("access-control-expose-headers").contains("Location"));
    let location = accepted.header("location");
    let preflight = asks.send("OPTIONS", &location, "").await;
    assert_eq!(preflight.header("access-control-allow-origin"), "https://app.example.com");
    assert_eq!(
        page.get(&location).await.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    let stranger = world.client.with("origin", "https://evil.example");
    assert_eq!(stranger.get(&location).await.header("access-control-allow-origin"), "");
    assert_eq!(stranger.post("/reports/a", "x").await.header("access-control-allow-origin"), "");
    assert_eq!(world.app.count("/reports/a"), 0);
}

#[tokio::test]
async fn an_operator_lists_shows_and_retries_a_failed_job_and_its_owner_sees_the_new_end() {
    let world = world().await;
    world.app.on("/reports/a", Reply::status(500).body("out of memory"));
    let location = world.start_job("/reports/a").await;
    let _consumer = world.consumer().await;
    assert_eq!(world.ended(&location).await["reason"], "http-500");
    world.app.until_asked("/hooks/ready", 1).await;
    eventually("the message is gone", || async {
        let list = world.operator(&["list", "--status", "failed"]).await;
        assert!(
            list.output.contains(id(&location)) && list.output.contains("http-500"),
            "{}",
            list.output
        );
        list.output.contains("0 waiting, 0 in flight, 0 dead").then_some(())
    })
    .await;
    let shown = world.operator(&["show", id(&location)]).await;
    let shown: serde_json::Value = serde_json::from_str(&shown.output).expect("JSON");
    assert_eq!(shown["outcome"]["status"], "failed");
    assert_eq!(shown["deliveries"]["log"][0]["result"], "delivered");
    assert_eq!(shown["message"]["body"], "May");

    world.app.on("/reports/a", Reply::ok("done"));
    let retried = world.operator(&["retry", id(&location)]).await;
    assert_eq!(retried.code, Some(0), "{}", retried.errors);
    world.app.until_asked("/hooks/ready", 2).await;
    let status = world.ended(&location).await;
    assert_eq!(
        (status["status"].as_str(), status["attempt"].as_u64()),
        (Some("succeeded"), Some(2))
    );
    assert_eq!(world.client.get(&format!("{location}/result")).await.text(), "done");
    let again = world.operator(&["retry", id(&location)]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.errors.contains("succeeded, not failed"), "{}", again.errors);
}

#[tokio::test]
async fn an_operator_cancels_a_job_and_is_told_what_is_unknown() {
    let world = world().await;
    let location = world.start_job("/reports/a").await;
    let cancelled = world.operator(&["cancel", id(&location)]).await;
    assert!(cancelled.output.contains("cancelled"), "{}", cancelled.errors);
    assert_eq!(world.client.get(&location).await.json()["status"], "cancelled");
    let (_, shortened) = id(&location).split_once('.').expect("an id of several parts");
    let typo = world.operator(&["cancel", shortened]).await;
    assert_eq!((typo.code, typo.output.as_str()), (Some(1), ""));
    assert!(typo.errors.contains("no such job"), "{}", typo.errors);
    let unknown = world.operator(&["show", "v1.nothing"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.errors.contains("nothing is kept of v1.nothing"), "{}", unknown.errors);
    let no_queue = world.operator(&["redrive", "other"]).await;
    assert!(no_queue.errors.contains("add --queue other="), "{}", no_queue.errors);
}

#[tokio::test]
async fn dead_letters_are_brought_back_and_run_under_the_id_they_had() {
    let world = world().await;
    world.app.on("/bare", Reply::ok("done"));
    // A plain producer's message that no rule can place becomes a dead letter.
    let queue = spillway_queue(&world).await;
    let broken = RULES.replace("visibility         = \"5s\"", "visibility = \"1s\"");
    let consumer =
        Spillway::consume(&broken, &world.app).jobs("work", world.jobs.path()).start().await;
    eventually("it is a dead letter", || async {
        world.operator(&["list"]).await.output.contains("1 dead letters").then_some(())
    })
    .await;
    drop(consumer);
    let placed = RULES.replace("[queue.work]", "[queue.work]\npath = \"/bare\"");
    let _consumer =
        Spillway::consume(&placed, &world.app).jobs("work", world.jobs.path()).start().await;
    let redriven = world.operator(&["redrive", "work"]).await;
    assert!(redriven.output.contains("1 brought back"), "{} {}", redriven.output, redriven.errors);
    let asked = world.app.until_asked("/bare", 1).await.remove(0);
    assert_eq!(asked.header("x-job-id"), Some(queue.as_str()));
}

/// Puts a bare message into the queue as a producer on this node would, nearly used up; its id.
async fn spillway_queue(world: &World) -> String {
    let db = world.jobs.path().join("queue.db");
    let script = format!(
        "import sqlite3\n\
         db = sqlite3.connect({:?}, timeout=20)\n\
         db.execute(\"INSERT INTO messages (id, body, attributes, sent, visible_at, receives) VALUES ('bare-1', '{{}}', '{{}}', 1, 1, 116)\")\n\
         db.commit()",
        db.display().to_string()
    );
    let done = tokio::process::Command::new("python3").args(["-c", &script]).status().await;
    assert!(done.is_ok_and(|status| status.success()), "the message was not written");
    "bare-1".to_owned()
}

#[tokio::test]
async fn the_key_that_receivers_verify_with_is_printed_as_standard_webhooks_libraries_take_it() {
    let secret = folder();
    let file = secret.path().join("secret");
    std::fs::write(&file, "s".repeat(32)).expect("a secret");
    let key = run(&["jobs", "key", "--secret-file", &file.display().to_string()]).await;
    let key = key.output.trim().to_owned();
    assert!(key.starts_with("whsec_") && key.len() == 6 + 44, "{key}");
}
