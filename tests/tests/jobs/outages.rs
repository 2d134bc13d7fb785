//! The queue or the store refuses, hangs, throttles, fails in part or loses its answer, and comes
//! back. What was accepted ends, once; what was not is refused by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use support::{Answer, App, Client, Cloud, Fault, Gate, Reply, Spillway, eventually};

const RULES: &str = r#"
    [[route]]
    name    = "work"
    match   = { path = "/work", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none", max_body = "64KiB" }

    [[route]]
    name    = "inline"
    match   = { path = "/inline", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none", fallback = "inline" }

    [[route]]
    name    = "slow"
    match   = { path = "/slow", methods = ["POST"] }
    offload = { queue = "work", when = "slow", after = "50ms", auth = "none" }

    [queue.work]
    visibility  = "2s"
    job_timeout = "60s"
    concurrency = 4
"#;

/// Bytes that the queue takes; a larger body is a claim check.
const MESSAGE_BYTES: usize = 4096;

const SQS_FAULTS: [Fault; 6] = [
    Fault::Refuse,
    Fault::Hang,
    Fault::Fail,
    Fault::Throttle,
    Fault::Partial(3),
    Fault::LoseAnswer,
];

const S3_FAULTS: [Fault; 5] =
    [Fault::Refuse, Fault::Hang, Fault::Fail, Fault::Throttle, Fault::LoseAnswer];

/// How often the app was asked for each job; inline executions have no job.
type Executions = Arc<Mutex<BTreeMap<String, usize>>>;

struct World {
    cloud: Arc<Cloud>,
    app: App,
    executions: Executions,
    proxy: Spillway,
    client: Client,
}

async fn world() -> World {
    let (cloud, app) = (Arc::new(Cloud::start().await), App::start().await);
    cloud.bucket("results");
    let size = MESSAGE_BYTES.to_string();
    cloud.queue("work", &[("MaximumMessageSize", &size)]).await;
    let executions = Executions::default();
    let proxy = Spillway::proxy(RULES, &app).cloud("work", &cloud).start().await;
    let client = proxy.client();
    let world = World { cloud, app, executions, proxy, client };
    for path in ["/work", "/inline"] {
        world.answer(path, Reply::ok("done"), || ());
    }
    world
}

impl World {
    /// What the app answers, and what happens just before it does.
    fn answer(&self, path: &str, reply: Reply, before: impl Fn() + Send + Sync + 'static) {
        let executions = Arc::clone(&self.executions);
        self.app.answer(path, move |asked| {
            let id = asked.header("x-job-id").unwrap_or("inline").to_owned();
            *executions.lock().expect("no panic").entry(id).or_default() += 1;
            before();
            reply.clone()
        });
    }

    async fn consumer(&self) -> Spillway {
        Spillway::consume(RULES, &self.app).cloud("work", &self.cloud).start().await
    }

    fn executions(&self, id: &str) -> usize {
        self.executions.lock().expect("no panic").get(id).copied().unwrap_or(0)
    }

    /// Posts so many jobs at once; the ids of those that were accepted. The others are refused by
    /// name, all within the client's patience.
    async fn post(&self, count: usize, bytes: usize) -> Vec<String> {
        let posts = (0..count).map(|number| {
            let client = self.client.clone();
            let body = format!("{number:0bytes$}");
            tokio::spawn(async move { client.post("/work", body).await })
        });
        let mut accepted = Vec::new();
        for post in posts.collect::<Vec<_>>() {
            accepted.extend(accepted_id(&post.await.expect("an answer")));
        }
        accepted
    }

    /// Waits until all have succeeded and nothing is left in the queue.
    async fn all_succeed(&self, ids: &[String], fault: Fault) {
        for id in ids {
            self.succeeds(id, fault).await;
        }
        eventually(&format!("{fault:?}: the queue is empty"), || async {
            (self.cloud.depth("work") == (0, 0)).then_some(())
        })
        .await;
    }

    async fn succeeds(&self, id: &str, fault: Fault) {
        let location = format!("/_spillway/jobs/{id}");
        let client = self.client.with("prefer", "wait=10");
        let status = eventually(&format!("{fault:?}: {id} ends"), || async {
            let status = client.get(&location).await.json()["status"].as_str()?.to_owned();
            (!matches!(status.as_str(), "queued" | "running")).then_some(status)
        })
        .await;
        assert_eq!(status, "succeeded", "{fault:?}: {id}");
    }

    /// The service is back as soon as a job is accepted again.
    async fn is_back(&self) {
        eventually("jobs are accepted again", || async {
            accepted_id(&self.client.post("/work", "again").await)
        })
        .await;
    }
}

fn accepted_id(answer: &Answer) -> Option<String> {
    if answer.status == 202 {
        return answer.json()["id"].as_str().map(str::to_owned);
    }
    assert_eq!((answer.status, answer.problem().as_str()), (503, "offload-unavailable"));
    assert!(!answer.header("retry-after").is_empty());
    None
}

#[tokio::test]
async fn whatever_sqs_does_an_accepted_job_is_in_the_queue_and_runs_once() {
    for fault in SQS_FAULTS {
        let world = world().await;
        world.cloud.sqs().set(fault);
        let accepted = world.post(12, 1).await;
        let queued = world.cloud.attributes("work", "job-id");
        assert!(accepted.iter().all(|id| queued.contains(id)), "{fault:?}");
        match fault {
            Fault::Partial(_) => assert_eq!(accepted.len(), 8, "every third is refused"),
            _ => assert!(accepted.is_empty(), "{fault:?}: {accepted:?}"),
        }
        world.cloud.sqs().clear();
        world.is_back().await;
        let _consumer = world.consumer().await;
        world.all_succeed(&accepted, fault).await;
        assert!(accepted.iter().all(|id| world.executions(id) == 1), "{fault:?}");
        // What got through without an answer was refused to its client, and is not run; the one more
        // is that which was accepted again.
        let executions = world.executions.lock().expect("no panic");
        assert!(executions.values().all(|times| *times == 1), "{fault:?}: {executions:?}");
        assert_eq!(executions.len(), accepted.len() + 1, "{fault:?}: {executions:?}");
    }
}

#[tokio::test]
async fn a_job_whose_end_sqs_does_not_hear_of_is_not_run_again() {
    for fault in SQS_FAULTS {
        let world = world().await;
        let accepted = world.post(12, 1).await;
        assert_eq!(accepted.len(), 12);
        // From the first execution on: no delete and no longer visibility gets through.
        let sqs = Arc::clone(world.cloud.sqs());
        world.answer("/work", Reply::ok("done"), move || sqs.set(fault));
        let _consumer = world.consumer().await;
        let first = world.app.until_asked("/work", 1).await.remove(0);
        world.succeeds(first.header("x-job-id").expect("a job"), fault).await;
        world.answer("/work", Reply::ok("done"), || ());
        world.cloud.sqs().clear();
        world.all_succeed(&accepted, fault).await;
        assert!(accepted.iter().all(|id| world.executions(id) == 1), "{fault:?}");
    }
}

#[tokio::test]
async fn whatever_s3_does_small_jobs_are_accepted_and_large_ones_refused_or_whole() {
    for fault in S3_FAULTS {
        let world = world().await;
        world.cloud.s3().set(fault);
        let mut accepted = world.post(4, 1).await;
        assert_eq!(accepted.len(), 4, "{fault:?}: a small job needs no store");
        accepted.extend(world.post(4, 2 * MESSAGE_BYTES).await);
        world.cloud.s3().clear();
        accepted.extend(world.post(1, 2 * MESSAGE_BYTES).await);
        let _consumer = world.consumer().await;
        world.all_succeed(&accepted, fault).await;
        for asked in world.app.asked("/work") {
            assert!([1, 2 * MESSAGE_BYTES].contains(&asked.body.len()), "{fault:?}");
        }
        assert!(accepted.iter().all(|id| world.executions(id) == 1), "{fault:?}");
    }
}

#[tokio::test]
async fn a_status_that_can_not_be_read_is_refused_by_name() {
    let world = world().await;
    let accepted = world.post(1, 1).await.remove(0);
    let location = format!("/_spillway/jobs/{accepted}");
    for fault in S3_FAULTS {
        world.cloud.s3().set(fault);
        for target in [location.clone(), format!("{location}/result")] {
            let answer = world.client.get(&target).await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (503, "offload-unavailable"),
                "{fault:?}"
            );
        }
        world.cloud.s3().clear();
    }
    eventually("it can be read", || async {
        (world.client.get(&location).await.json()["status"] == "queued").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_slow_request_whose_lease_can_not_be_written_is_answered_by_the_app() {
    for fault in [Fault::Fail, Fault::Throttle, Fault::Hang, Fault::LoseAnswer] {
        let world = world().await;
        let gate = Gate::default();
        world.answer("/slow", Reply::ok("slow answer").behind(&gate), || ());
        world.cloud.s3().set(fault);
        let client = world.client.clone();
        let asking = tokio::spawn(async move { client.post("/slow", "x").await });
        world.cloud.s3().until_called("PutObject", 1).await;
        gate.open();
        let answer = asking.await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "slow answer"), "{fault:?}");
        assert_eq!(world.app.count("/slow"), 1);
    }
}

#[tokio::test]
async fn a_consumer_waits_for_the_store_with_the_result_in_hand() {
    for fault in S3_FAULTS {
        let world = world().await;
        let accepted = world.post(2, 1).await;
        let s3 = Arc::clone(world.cloud.s3());
        world.answer("/work", Reply::ok("kept"), move || s3.set(fault));
        let _consumers = (world.consumer().await, world.consumer().await);
        world.app.until_asked("/work", 1).await;
        // Heartbeats go on while nothing can be stored.
        let beats = world.cloud.sqs().calls("ChangeMessageVisibility");
        world.cloud.sqs().until_called("ChangeMessageVisibility", beats + 4).await;
        world.answer("/work", Reply::ok("kept"), || ());
        world.cloud.s3().clear();
        world.all_succeed(&accepted, fault).await;
        for id in &accepted {
            assert_eq!(world.executions(id), 1, "{fault:?}: {id}");
            let result = world.client.get(&format!("/_spillway/jobs/{id}/result")).await;
            assert_eq!((result.status, result.text().as_str()), (200, "kept"), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_message_that_comes_twice_and_in_the_wrong_order_is_run_once() {
    let world = world().await;
    world.cloud.sqs().duplicate(true);
    world.cloud.sqs().reorder(true);
    let _consumers = (world.consumer().await, world.consumer().await);
    let accepted = world.post(40, 1).await;
    assert_eq!(accepted.len(), 40);
    // Each came twice before the queue was empty, even those that had been deleted.
    world.all_succeed(&accepted, Fault::None).await;
    for id in &accepted {
        assert_eq!(world.executions(id), 1, "{id}");
    }
}

#[tokio::test]
async fn a_request_that_may_be_queued_after_all_is_executed_inline_once() {
    let world = world().await;
    world.cloud.sqs().set_only("SendMessageBatch", Fault::LoseAnswer);
    let answer = world.client.post("/inline", "x").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    assert!(world.cloud.depth("work").0 > 0, "it was queued");
    world.cloud.sqs().clear();
    let _consumer = world.consumer().await;
    world.all_succeed(&[], Fault::LoseAnswer).await;
    assert_eq!(world.app.count("/inline"), 1);
}

#[tokio::test]
async fn a_request_that_can_not_be_withdrawn_from_the_queue_is_not_executed_inline() {
    let world = world().await;
    world.cloud.sqs().set_only("SendMessageBatch", Fault::LoseAnswer);
    world.cloud.s3().set(Fault::Refuse);
    let answer = world.client.post("/inline", "x").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "offload-unavailable"));
    assert_eq!(world.app.count("/inline"), 0);
    world.cloud.sqs().clear();
    world.cloud.s3().clear();
    let _consumer = world.consumer().await;
    world.all_succeed(&[], Fault::LoseAnswer).await;
    assert_eq!(world.app.count("/inline"), 1);
}

#[tokio::test]
async fn a_body_too_large_for_the_queue_survives_its_consumer_in_the_store() {
    let world = world().await;
    let refused = world.client.post("/work", vec![b'x'; 65 * 1024]).await;
    assert_eq!((refused.status, refused.problem().as_str()), (413, "body-too-large"));
    assert_eq!(world.cloud.depth("work"), (0, 0));
    let body: String = (0..60_000).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
    let gate = Gate::default();
    world.answer("/work", Reply::ok("done").behind(&gate), || ());
    let accepted = accepted_id(&world.client.post("/work", body.clone()).await).expect("a job");
    assert_eq!(world.cloud.keys("results", "jobs/payload/").len(), 1);
    let consumer = world.consumer().await;
    world.app.until_asked("/work", 1).await;
    consumer.kill().await;
    gate.open();
    let _consumer = world.consumer().await;
    world.all_succeed(&[accepted], Fault::None).await;
    assert!(world.app.asked("/work").iter().all(|asked| asked.body == body.as_bytes()));
    eventually("the claim check is removed", || async {
        world.cloud.keys("results", "jobs/payload/").is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_consumer_told_to_end_finishes_what_runs_and_leaves_the_rest() {
    let world = world().await;
    let gate = Gate::default();
    world.answer("/work", Reply::ok("done").behind(&gate), || ());
    let accepted = world.post(9, 1).await;
    let consumer = world.consumer().await;
    world.app.until_asked("/work", 4).await;
    consumer.terminate().await;
    let admin = consumer.admin();
    eventually("it drains", || async { (admin.get("/ready").await.status == 503).then_some(()) })
        .await;
    gate.open();
    assert_eq!(consumer.ended().await, Some(0));
    assert_eq!(world.app.count("/work"), 4, "nothing was begun after the signal");
    let _consumer = world.consumer().await;
    world.all_succeed(&accepted, Fault::None).await;
    assert!(accepted.iter().all(|id| world.executions(id) == 1));
}

#[tokio::test]
async fn a_job_that_outlives_the_grace_period_is_run_by_the_next_consumer() {
    let world = world().await;
    let gate = Gate::default();
    world.answer("/work", Reply::ok("done").behind(&gate), || ());
    let accepted = world.post(1, 1).await;
    let consumer = Spillway::consume(RULES, &world.app).cloud("work", &world.cloud);
    let consumer = consumer.with("--grace", "1").start().await;
    world.app.until_asked("/work", 1).await;
    consumer.terminate().await;
    consumer.ended().await;
    gate.open();
    let _consumer = world.consumer().await;
    world.all_succeed(&accepted, Fault::None).await;
    assert_eq!(world.executions(&accepted[0]), 2);
}

#[tokio::test]
async fn a_proxy_told_to_end_answers_those_who_wait_for_the_queue() {
    let world = world().await;
    world.cloud.sqs().set(Fault::Hang);
    let client = world.client.clone();
    let posting = tokio::spawn(async move { client.post("/work", "x").await });
    world.cloud.sqs().until_called("SendMessageBatch", 1).await;
    world.proxy.terminate().await;
    assert_eq!(accepted_id(&posting.await.expect("an answer")), None);
    assert_eq!(world.proxy.ended().await, Some(0));
}
