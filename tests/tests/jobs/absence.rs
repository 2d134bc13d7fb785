//! The application is away: it is being deployed, in maintenance, or somewhere else. No job fails that
//! was never executed, and the consumers whose application is there go on.

use support::{App, Client, Cloud, Gate, Reply, Spillway, accepted, eventually, folder};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const RULES: &str = r#"
    [[route]]
    name    = "work"
    match   = { path = "/work", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none" }

    [[route]]
    name    = "safe"
    match   = { path = "/safe", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none", retry = "safe" }

    [[route]]
    name    = "urgent"
    match   = { path = "/urgent", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none", deadline = "2s" }

    [[route]]
    name     = "elsewhere"
    match    = { path = "/elsewhere", methods = ["POST"] }
    upstream = "other"
    offload  = { queue = "work", when = "always", auth = "none" }

    [queue.work]
    visibility   = "2s"
    max_attempts = 2
    concurrency  = 4
"#;

const AWAY: &str = "spillway_consumer_app_up{upstream=\"app\"}";

struct World {
    app: App,
    other: App,
    jobs: TempDir,
    client: Client,
    _proxy: Spillway,
}

async fn world() -> World {
    let (app, other, jobs) = (App::start().await, App::start().await, folder());
    for path in ["/work", "/safe", "/urgent"] {
        app.on(path, Reply::ok("done"));
    }
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path());
    let proxy = proxy.with("--upstream", &format!("other={}", other.url())).start().await;
    World { client: proxy.client(), app, other, jobs, _proxy: proxy }
}

impl World {
    async fn consumer_with(&self, rules: &str, app: &str) -> Spillway {
        let setup = Spillway::consume_for(rules, app).jobs("work", self.jobs.path());
        setup.with("--upstream", &format!("other={}", self.other.url())).start().await
    }

    async fn consumer(&self) -> Spillway {
        self.consumer_with(RULES, &self.app.url()).await
    }

    async fn post(&self, path: &str) -> String {
        let accepted = self.client.post(path, "x").await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        accepted.header("location")
    }

    /// Status, reason and attempt of a job that has ended.
    async fn ended(&self, location: &str) -> (String, String, u64) {
        let client = self.client.with("prefer", "wait=5");
        let status = eventually("the job ends", || async {
            let status = client.get(location).await.json();
            (!matches!(status["status"].as_str(), Some("queued" | "running"))).then_some(status)
        })
        .await;
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), status["attempt"].as_u64().expect("a number"))
    }

    async fn succeeds_at_once(&self, location: &str) {
        assert_eq!(self.ended(location).await, ("succeeded".into(), String::new(), 1));
    }
}

async fn until_away(consumer: &Spillway) {
    consumer.until_said("app-away").await;
    eventually("the metric says so", || async {
        let page = consumer.admin().get("/metrics").await.text();
        page.contains(&format!("{AWAY} 0")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_consumer_without_its_application_takes_no_job_from_the_others() {
    let world = world().await;
    let gone = App::start().await;
    gone.leave().await;
    let bad = world.consumer_with(RULES, &gone.url()).await;
    until_away(&bad).await;
    let jobs = {
        let mut jobs = Vec::new();
        for _ in 0..40 {
            jobs.push(world.post("/work").await);
        }
        jobs
    };
    assert_eq!(bad.admin().get("/ready").await.status, 200);
    let _good = world.consumer().await;
    for location in &jobs {
        world.succeeds_at_once(location).await;
    }
    assert_eq!(world.app.count("/work"), 40);
}

#[tokio::test]
async fn jobs_wait_for_an_application_that_is_deployed_and_their_attempts_are_counted_right() {
    let world = world().await;
    let consumer = world.consumer().await;
    world.succeeds_at_once(&world.post("/work").await).await;
    world.app.leave().await;
    let mut jobs = Vec::new();
    for _ in 0..12 {
        jobs.push(world.post("/work").await);
    }
    until_away(&consumer).await;
    eventually("what was not executed waits", || async {
        (world.client.get(&jobs[0]).await.json()["status"] == "queued").then_some(())
    })
    .await;
    assert_eq!(consumer.admin().get("/ready").await.status, 200);
    world.app.come_back();
    for location in &jobs {
        world.succeeds_at_once(location).await;
    }
    consumer.until_said("the application is back").await;
    assert_eq!(consumer.metric(AWAY).await, 1.0);
    let asked = world.app.asked("/work");
    assert!(asked.iter().all(|asked| asked.header("x-job-attempt") == Some("1")));
}

#[tokio::test]
async fn the_first_job_after_an_absence_goes_alone_and_the_others_follow_its_answer() {
    let world = world().await;
    let consumer = world.consumer().await;
    world.succeeds_at_once(&world.post("/work").await).await;
    world.app.leave().await;
    let gate = Gate::default();
    world.app.on("/work", Reply::ok("done").behind(&gate));
    for _ in 0..4 {
        world.post("/work").await;
    }
    eventually("none is on its way any more", || async {
        let waiting = "spillway_jobs_total{outcome=\"waiting\",queue=\"work\",reason=\"app-away\"}";
        (consumer.metric(waiting).await >= 4.0).then_some(())
    })
    .await;
    world.app.come_back();
    gate.until_waited(1).await;
    assert_eq!(world.app.count("/work"), 2, "one before the absence and one after it");
    gate.open();
    world.app.until_asked("/work", 5).await;
}

#[tokio::test]
async fn a_failure_after_an_absence_counts_as_before_it() {
    let world = world().await;
    let consumer = world.consumer().await;
    world.app.on("/work", Reply::status(500));
    world.app.leave().await;
    let location = world.post("/work").await;
    until_away(&consumer).await;
    world.app.come_back();
    assert_eq!(world.ended(&location).await, ("failed".into(), "http-500".into(), 2));
    let asked = world.app.asked("/work");
    let attempts: Vec<_> = asked.iter().map(|asked| asked.header("x-job-attempt")).collect();
    assert_eq!(attempts, [Some("1"), Some("2")]);
}

#[tokio::test]
async fn an_application_in_maintenance_uses_up_no_attempts() {
    let world = world().await;
    world.app.on("/work", Reply::status(503).with("retry-after", "0"));
    let consumer = world.consumer().await;
    let location = world.post("/work").await;
    // More often than there are attempts.
    world.app.until_asked("/work", 4).await;
    world.app.on("/work", Reply::ok("done"));
    world.succeeds_at_once(&location).await;
    let waited = consumer
        .metric("spillway_jobs_total{outcome=\"waiting\",queue=\"work\",reason=\"app-busy\"}");
    assert!(waited.await >= 4.0);
}

#[tokio::test]
async fn too_many_requests_are_attempts_whenever_the_next_may_be() {
    let world = world().await;
    world.app.on("/work", Reply::status(429).with("retry-after", "0"));
    let _consumer = world.consumer().await;
    let location = world.post("/work").await;
    assert_eq!(world.ended(&location).await, ("failed".into(), "http-429".into(), 2));
}

#[tokio::test]
async fn what_waits_for_an_application_has_an_end_by_the_queue_or_by_its_own_deadline() {
    let world = world().await;
    let rules = RULES.replace("visibility ", "wait_for_app = \"3s\"\n    visibility ");
    let consumer = world.consumer_with(&rules, &world.app.url()).await;
    world.succeeds_at_once(&world.post("/work").await).await;
    world.app.leave().await;
    let (patient, urgent) = (world.post("/work").await, world.post("/urgent").await);
    until_away(&consumer).await;
    for location in [&patient, &urgent] {
        assert_eq!(world.ended(location).await, ("failed".into(), "app-unavailable".into(), 0));
    }
    world.app.come_back();
    world.succeeds_at_once(&world.post("/work").await).await;
    assert_eq!(world.app.count("/work"), 2, "what has ended is not run");
    assert_eq!(world.app.count("/urgent"), 0);
}

#[tokio::test]
async fn the_last_answer_of_a_maintenance_is_the_result_of_the_job_that_waited_too_long() {
    let world = world().await;
    let rules = RULES.replace("visibility ", "wait_for_app = \"1s\"\n    visibility ");
    let maintenance = Reply::status(503).with("retry-after", "1").body("until noon");
    world.app.on("/work", maintenance);
    let _consumer = world.consumer_with(&rules, &world.app.url()).await;
    let location = world.post("/work").await;
    assert_eq!(world.ended(&location).await, ("failed".into(), "app-unavailable".into(), 0));
    let result = world.client.get(&format!("{location}/result")).await;
    assert_eq!((result.status, result.text().as_str()), (503, "until noon"));
}

#[tokio::test]
async fn an_upstream_that_is_away_holds_up_its_own_jobs_only() {
    let world = world().await;
    world.other.on("/elsewhere", Reply::ok("done"));
    world.other.leave().await;
    let consumer = world.consumer().await;
    let elsewhere = world.post("/elsewhere").await;
    consumer.until_said("app-away").await;
    for _ in 0..6 {
        world.succeeds_at_once(&world.post("/work").await).await;
    }
    assert_eq!(world.client.get(&elsewhere).await.json()["status"], "queued");
    world.other.come_back();
    world.succeeds_at_once(&elsewhere).await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_an_application_that_is_away() {
    let world = world().await;
    let bad = world.consumer_with(RULES, "http://nowhere.invalid:80").await;
    until_away(&bad).await;
    let location = world.post("/work").await;
    let _good = world.consumer().await;
    world.succeeds_at_once(&location).await;
}

#[tokio::test]
async fn what_takes_connections_and_closes_them_is_no_application() {
    let world = world().await;
    world.app.close_door();
    let consumer = world.consumer().await;
    until_away(&consumer).await;
    let location = world.post("/work").await;
    assert_eq!(world.client.get(&location).await.json()["status"], "queued");
    world.app.come_back();
    world.succeeds_at_once(&location).await;
}

/// Of the jobs under way nobody knows; those behind them are not sent after them.
#[tokio::test]
async fn an_application_that_is_replaced_by_a_closed_door_costs_the_jobs_under_way_at_most() {
    let world = world().await;
    let consumer = world.consumer().await;
    world.succeeds_at_once(&world.post("/work").await).await;
    world.app.close_door();
    let mut jobs = Vec::new();
    for _ in 0..20 {
        jobs.push(world.post("/work").await);
    }
    until_away(&consumer).await;
    world.app.come_back();
    let mut unknown = 0;
    for location in &jobs {
        let (status, reason, _) = world.ended(location).await;
        unknown += usize::from(status == "failed");
        assert!(status == "succeeded" || reason == "unknown", "{status} {reason}");
    }
    assert!(unknown <= 4, "{unknown} of 20 jobs, as many as run at once are 4");
}

#[tokio::test]
async fn a_drain_gives_back_what_waits_for_the_application() {
    let world = world().await;
    let consumer = world.consumer().await;
    world.app.leave().await;
    let location = world.post("/work").await;
    until_away(&consumer).await;
    consumer.terminate().await;
    assert_eq!(consumer.ended().await, Some(0));
    world.app.come_back();
    let _next = world.consumer().await;
    world.succeeds_at_once(&location).await;
}

#[tokio::test]
async fn an_absence_is_no_news_to_the_queue() {
    let (cloud, app) = (Cloud::start().await, App::start().await);
    cloud.bucket("results");
    cloud.queue("work", &[]).await;
    app.on("/work", Reply::ok("done"));
    let rules = RULES.replace("upstream = \"other\"", "");
    let proxy = Spillway::proxy(&rules, &app).cloud("work", &cloud).start().await;
    let consumer = Spillway::consume(&rules, &app).cloud("work", &cloud).start().await;
    let post = || async { proxy.client().post("/work", "x").await.header("location") };
    let client = proxy.client().with("prefer", "wait=20");
    assert_eq!(client.get(&post().await).await.json()["status"], "succeeded");
    app.leave().await;
    let location = post().await;
    until_away(&consumer).await;
    let (beats, receives) =
        (cloud.sqs().calls("ChangeMessageVisibility"), cloud.sqs().calls("ReceiveMessage"));
    // The message stays in hand, past its visibility, and no other is asked for but by the poll that
    // was under way.
    cloud.sqs().until_called("ChangeMessageVisibility", beats + 5).await;
    assert!(cloud.sqs().calls("ReceiveMessage") <= receives + 1);
    assert_eq!(cloud.depth("work"), (0, 1));
    app.come_back();
    assert_eq!(client.get(&location).await.json()["status"], "succeeded");
}

/// Answers the first request with a part of an answer, each later one with all of it.
async fn break_off_once(listener: TcpListener) {
    let mut answers = ["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"].into_iter();
    loop {
        let mut stream = accepted(&listener).await;
        support::read_until(&mut stream, "\r\n\r\nx").await;
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhole";
        let answer = answers.next().unwrap_or(whole);
        stream.write_all(answer.as_bytes()).await.expect("sent");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_its_body_is_an_unknown_outcome() {
    for (path, end) in [("/safe", ("succeeded", "", 2)), ("/work", ("failed", "unknown", 1))] {
        let world = world().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let app = tokio::spawn(break_off_once(listener));
        let consumer = world.consumer_with(RULES, &url).await;
        let location = world.post(path).await;
        let (status, reason, attempt) = world.ended(&location).await;
        assert_eq!((status.as_str(), reason.as_str(), attempt), end, "{path}");
        if status == "failed" {
            let series =
                "spillway_jobs_total{outcome=\"failed\",queue=\"work\",reason=\"unknown\"}";
            assert_eq!(consumer.metric(series).await, 1.0, "the alert sees it");
        }
        app.abort();
    }
}
