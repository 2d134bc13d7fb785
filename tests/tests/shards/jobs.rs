//! Jobs of a range that moves: none starts while it moves, one that runs is waited for, and none is lost.

use crate::load::MOVING;
use crate::world::{RULES, Step, World, started};
use support::{Client, Gate, Relay, Reply, Spillway, eventually};

const JOBS: &str = r#"
    [[route]]
    name    = "work"
    match   = { path = "/work", methods = ["POST"] }
    shard   = { map = "market", from = ["query:id"] }
    offload = { queue = "work", when = "always", auth = "none", retry = "safe" }

    [[route]]
    name    = "adopted"
    match   = { path = "/adopted", methods = ["POST"] }
    shard   = { map = "market", from = ["query:id"] }
    offload = { queue = "work", when = "slow", after = "100ms", auth = "none" }

    [queue.work]
    visibility   = "5s"
    concurrency  = 4
    max_attempts = 1
"#;

/// One sidecar of each shard, and a consumer beside the application of a.
struct Jobs {
    world: World,
    consumer: Spillway,
    _to_store: Relay,
}

impl Jobs {
    async fn start() -> Self {
        let mut world = World::new(&format!("{RULES}{JOBS}")).await;
        world.cloud.queue("work", &[("VisibilityTimeout", "5")]).await;
        world.queue = Some("work");
        let world = world.started().await;
        let (setup, to_store) = world.setup("a").await;
        let consumer = setup.consuming().start().await;
        started(&consumer).await;
        Self { world, consumer, _to_store: to_store }
    }

    fn client(&self) -> Client {
        self.world.client(0)
    }

    /// An application that answers once the gate is open.
    fn behind_a_gate(&self, shard: &str, path: &str) -> Gate {
        let gate = Gate::default();
        self.world.owners.get(shard).app.on(path, Reply::ok(format!("of {shard}")).behind(&gate));
        gate
    }

    /// The consumer is a member that an address leads to.
    async fn announce(&self, wait: &str) -> support::Ended {
        let sidecars = format!("--sidecars={}", self.consumer.admin_address());
        let own = ["announce", "market", "--range", "2001..4001", "--to", "b", "--wait-jobs", wait];
        self.world.try_shards(&[&own[..], &[&sidecars]].concat()).await
    }
}

#[tokio::test]
async fn a_job_that_runs_delays_the_announce_and_is_named() {
    let jobs = Jobs::start().await;
    let gate = jobs.behind_a_gate("a", "/work");
    let accepted = jobs.client().post("/work?id=2500", "j1").await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let id = accepted.json()["id"].as_str().expect("an id").to_owned();
    gate.until_waited(1).await;
    let ended = jobs.announce("1").await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains(&format!("job {id}")), "{}", ended.errors);
    gate.open();
    assert_eq!(jobs.announce("30").await.code, Some(0));
}

#[tokio::test]
async fn a_job_that_comes_while_its_range_moves_runs_once_and_at_the_new_owner() {
    let jobs = Jobs::start().await;
    jobs.world.owners.get("a").app.on("/work", Reply::ok("of a"));
    jobs.world.owners.get("b").app.on("/work", Reply::ok("of b"));
    let ended = jobs.announce("30").await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.output, ended.errors);
    let accepted = jobs.client().post("/work?id=2500", "j1").await;
    // One of another range shows that the consumer works.
    let other = jobs.client().post("/work?id=9000", "j2").await;
    assert_eq!((accepted.status, other.status), (202, 202));
    let location = other.header("location");
    eventually("the other job has ended", || async {
        (jobs.client().get(&location).await.json()["status"] == "succeeded").then_some(())
    })
    .await;
    let location = accepted.header("location");
    assert_eq!(jobs.client().get(&location).await.json()["status"], "queued");
    for step in [Step::Fence, Step::NoReturn, Step::Commit] {
        jobs.world.step(step, MOVING, "a", "b").await;
    }
    eventually("the job has ended", || async {
        (jobs.client().get(&location).await.json()["status"] == "succeeded").then_some(())
    })
    .await;
    let counts = ["a", "b"].map(|shard| jobs.world.owners.get(shard).app.count("/work"));
    assert_eq!(counts, [1, 1]);
}

#[tokio::test]
async fn a_job_that_is_received_while_its_range_is_fenced_runs_as_soon_as_the_move_is_over() {
    let jobs = Jobs::start().await;
    jobs.world.owners.get("b").app.on("/work", Reply::ok("of b"));
    let ended = jobs.announce("30").await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.output, ended.errors);
    jobs.world.step(Step::Fence, MOVING, "a", "b").await;
    let accepted = jobs.client().post("/work?id=2500", "j1").await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let series = r#"spillway_jobs_total{outcome="waiting",queue="work",reason="range-moves"}"#;
    eventually("the job waits", || async {
        (jobs.consumer.metric(series).await > 0.0).then_some(())
    })
    .await;
    for step in [Step::NoReturn, Step::Commit] {
        jobs.world.step(step, MOVING, "a", "b").await;
    }
    let location = accepted.header("location");
    eventually("the job has ended", || async {
        (jobs.client().get(&location).await.json()["status"] == "succeeded").then_some(())
    })
    .await;
    assert_eq!(jobs.world.owners.get("b").app.count("/work"), 1);
    let waits = jobs.consumer.metric(series).await;
    assert!(waits < 4.0, "it looked {waits} times whether the move was over");
}

#[tokio::test]
async fn an_adopted_request_of_the_range_delays_the_announce_until_it_has_ended() {
    let jobs = Jobs::start().await;
    let gate = jobs.behind_a_gate("a", "/adopted");
    let accepted = jobs.client().post("/adopted?id=2500", "j1").await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let id = accepted.json()["id"].as_str().expect("an id").to_owned();
    let ended = jobs.announce("1").await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains(&format!("job {id}")), "{}", ended.errors);
    gate.open();
    assert_eq!(jobs.announce("30").await.code, Some(0));
}
