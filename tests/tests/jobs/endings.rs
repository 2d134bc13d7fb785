//! Ends that nobody wishes for: a request's body that is gone, receivers that hang, a record that is
//! damaged, a key whose job has expired. None of them holds up, or takes along, another job.

use bytes::Bytes;
use support::{Answer, App, Client, Cloud, Gate, Reply, Spillway, eventually, folder, run_with};

const RULES: &str = r#"
    [[route]]
    name    = "work"
    match   = { path = "/work", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none" }

    [[route]]
    name    = "narrow"
    match   = { path = "/narrow", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none", concurrency = 1 }

    [[route]]
    name    = "slow"
    match   = { path = "/slow", methods = ["POST"] }
    offload = { queue = "work", when = "slow", after = "50ms", auth = "none" }

    [queue.work]
    visibility  = "5s"
    concurrency = 2
    notify      = { app = "/hooks/ready" }
"#;

/// More than a consumer with `concurrency = 2` has in hand, and fewer than it tells of at once.
const MANY: usize = 60;

/// Bytes that no SQS message may hold, and so a claim check.
const BINARY: &[u8] = b"\0\x01\x02";

async fn status(client: &Client, location: &str) -> (String, String) {
    let ended = client.with("prefer", "wait=20").get(location).await.json();
    let text = |name: &str| ended[name].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

async fn ends_as(client: &Client, location: &str, wanted: (&str, &str)) {
    let (status, reason) = status(client, location).await;
    assert_eq!((status.as_str(), reason.as_str()), wanted);
}

fn location(accepted: &Answer) -> String {
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    accepted.header("location")
}

struct World {
    cloud: Cloud,
    app: App,
    proxy: Spillway,
}

async fn world() -> World {
    let (cloud, app) = (Cloud::start().await, App::start().await);
    cloud.bucket("results");
    cloud.queue("work", &[]).await;
    app.on("/work", Reply::ok("done"));
    app.on("/narrow", Reply::ok("done"));
    app.on("/hooks/ready", Reply::status(204));
    let proxy = Spillway::proxy(RULES, &app).cloud("work", &cloud).start().await;
    World { cloud, app, proxy }
}

impl World {
    async fn consumer(&self) -> Spillway {
        Spillway::consume(RULES, &self.app).cloud("work", &self.cloud).start().await
    }

    fn only_key(&self, prefix: &str) -> String {
        let keys = self.cloud.keys("results", prefix);
        assert_eq!(keys.len(), 1, "{keys:?}");
        keys[0].clone()
    }

    async fn operator(&self, arguments: &[&str]) -> support::Ended {
        let folder = folder();
        let rules = folder.path().join("routes.toml");
        std::fs::write(&rules, RULES).expect("a rules file");
        let rules = rules.display().to_string();
        let queue = format!("work=sqs:{}", self.cloud.queue_url("work"));
        let own = ["--routes", &rules, "--queue", &queue, "--results", "s3://results/jobs"];
        run_with(&[&["jobs"], arguments, &own].concat(), &self.cloud.environment()).await
    }
}

#[tokio::test]
async fn a_job_whose_body_is_gone_fails_by_name_and_can_not_be_retried() {
    let world = world().await;
    let client = world.proxy.client();
    let gone = location(&client.post("/work", BINARY).await);
    world.cloud.replace("results", &world.only_key("jobs/payload/"), None);
    let _consumer = world.consumer().await;
    ends_as(&client, &gone, ("failed", "payload-gone")).await;
    world.app.until_asked("/hooks/ready", 1).await;
    assert_eq!(world.app.count("/work"), 0);
    eventually("its message is deleted", || async {
        (world.cloud.depth("work") == (0, 0)).then_some(())
    })
    .await;
    let id = gone.rsplit('/').next().expect("a segment");
    let refused = world.operator(&["retry", id]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    assert!(refused.errors.contains("is gone from the store"), "{}", refused.errors);
    ends_as(&client, &gone, ("failed", "payload-gone")).await;
}

#[tokio::test]
async fn a_failed_jobs_body_is_kept_for_a_retry() {
    let world = world().await;
    world.app.on("/work", Reply::status(404));
    let client = world.proxy.client();
    let failed = location(&client.post("/work", BINARY).await);
    let _consumer = world.consumer().await;
    ends_as(&client, &failed, ("failed", "http-404")).await;
    world.app.on("/work", Reply::ok("done"));
    let id = failed.rsplit('/').next().expect("a segment");
    eventually("the retry is taken", || async {
        (world.operator(&["retry", id]).await.code == Some(0)).then_some(())
    })
    .await;
    ends_as(&client, &failed, ("succeeded", "")).await;
    assert_eq!(
        world.app.asked("/work").last().map(|asked| asked.body.clone()),
        Some(BINARY.into())
    );
}

#[tokio::test]
async fn a_retry_with_the_queue_unbound_leaves_the_end_as_it_is() {
    let world = world().await;
    world.app.on("/work", Reply::status(404));
    let client = world.proxy.client();
    let failed = location(&client.post("/work", "May").await);
    let consumer = world.consumer().await;
    ends_as(&client, &failed, ("failed", "http-404")).await;
    consumer.terminate().await;
    assert_eq!(consumer.ended().await, Some(0));
    let folder = folder();
    let rules = folder.path().join("routes.toml");
    std::fs::write(&rules, RULES).expect("a rules file");
    let id = failed.rsplit('/').next().expect("a segment");
    let rules = rules.display().to_string();
    let unbound = ["jobs", "retry", id, "--routes", &rules, "--results", "s3://results/jobs"];
    let refused = run_with(&unbound, &world.cloud.environment()).await;
    assert!(refused.errors.contains("add --queue work="), "{}", refused.errors);
    ends_as(&client, &failed, ("failed", "http-404")).await;
}

#[tokio::test]
async fn receivers_that_hang_hold_up_no_other_job() {
    let world = world().await;
    let gate = Gate::default();
    world.app.on("/hooks/ready", Reply::status(204).behind(&gate));
    let client = world.proxy.client();
    let mut jobs = Vec::new();
    for number in 0..MANY {
        jobs.push(location(&client.post("/work", number.to_string()).await));
    }
    let _consumer = world.consumer().await;
    for job in jobs {
        ends_as(&client, &job, ("succeeded", "")).await;
    }
    gate.open();
    world.app.until_asked("/hooks/ready", MANY).await;
}

#[tokio::test]
async fn a_route_that_is_full_keeps_no_other_routes_jobs_from_being_received() {
    let world = world().await;
    let gate = Gate::default();
    world.app.on("/narrow", Reply::ok("done").behind(&gate));
    let client = world.proxy.client();
    for number in 0..20 {
        location(&client.post("/narrow", number.to_string()).await);
    }
    let _consumer = world.consumer().await;
    world.app.until_asked("/narrow", 1).await;
    let other = location(&client.post("/work", "May").await);
    ends_as(&client, &other, ("succeeded", "")).await;
    assert_eq!(world.app.count("/narrow"), 1);
    gate.open();
}

#[tokio::test]
async fn a_damaged_lease_costs_its_own_job_only() {
    let world = world().await;
    let gate = Gate::default();
    world.app.on("/slow", Reply::ok("").behind(&gate));
    let client = world.proxy.client();
    let damaged = location(&client.post("/slow", "x").await);
    let lost = location(&client.post("/slow", "x").await);
    world.proxy.kill().await;
    let key = format!("jobs/adopted/{}", damaged.rsplit('/').next().expect("a segment"));
    world.cloud.replace("results", &key, Some(Bytes::from_static(b"not JSON")));
    let consumer = Spillway::consume(RULES, &world.app).cloud("work", &world.cloud).start().await;
    let told = world.app.until_asked("/hooks/ready", 1).await.remove(0);
    let event: serde_json::Value = serde_json::from_slice(&told.body).expect("JSON");
    assert_eq!(event["data"]["job"].as_str(), lost.rsplit('/').next());
    consumer.until_said("adopted request not ended").await;
}

#[tokio::test]
async fn an_expired_jobs_key_is_refused_and_its_status_says_so() {
    let rules = r#"
        [[route]]
        name    = "work"
        match   = { path = "/work", methods = ["POST"] }
        [route.offload]
        queue = "work"
        when  = "always"
        auth  = { identity = "header:x-user" }

        [queue.work]
        result_ttl = "2s"
    "#;
    let (app, jobs) = (App::start().await, folder());
    app.on("/work", Reply::ok("done"));
    let proxy = Spillway::proxy(rules, &app).jobs("work", jobs.path()).start().await;
    let _consumer = Spillway::consume(rules, &app).jobs("work", jobs.path()).start().await;
    let alice = proxy.client().with("x-user", "alice");
    let client = alice.with("idempotency-key", "May");
    let accepted = location(&client.post("/work", "May").await);
    ends_as(&client, &accepted, ("succeeded", "")).await;
    let expired = eventually("it expires", || async {
        Some(client.get(&accepted).await).filter(|answer| answer.status == 410)
    })
    .await;
    assert_eq!(expired.problem(), "job-expired");
    let stream = client.with("accept", "text/event-stream").get(&accepted).await;
    assert_eq!((stream.status, stream.problem().as_str()), (410, "job-expired"));
    let again = client.post("/work", "May").await;
    assert_eq!((again.status, again.problem().as_str()), (410, "job-expired"));
    assert_eq!(app.count("/work"), 1);
    let other = alice.with("idempotency-key", "June").post("/work", "May").await;
    assert_eq!(other.status, 202);
}
