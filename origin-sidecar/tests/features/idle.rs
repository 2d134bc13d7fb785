//! What ten sidecars and two consumers cost that have nothing to do: every call to SQS and S3 is counted
//! by the server that gets it, over an hour of a clock that the test steps.

use net::tls::Authorities;
use rules::Rules;
use rules::{Millis, UnixMillis};
use spillway::clock::Clock;
use spillway::command::run::{start_consumers, start_watches};
use spillway::jobs::backends::Backends;
use spillway::jobs::context::{JobContext, JobContextParts};
use spillway::jobs::spool::Spool;
use spillway::soundness::Soundness;
use spillway::soundness::watched::{WatchedQueue, WatchedResults};
use spillway::telemetry::metrics::Metrics;
use spillway::telemetry::reporter::Telemetry;
use spillway::upstream::server::{ServerSlot, Upstream};
use spillway::upstream::servers::Servers;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stores::aws_config::{Region, SdkConfig};
use stores::aws_credential_types::Credentials;
use stores::aws_credential_types::provider::SharedCredentialsProvider;
use stores::queue::sqs::{SqsQueue, aws_loader};
use stores::results::Results;
use stores::results::s3::S3Results;
use support::{App as Application, Cloud};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance};

const PROXIES: usize = 10;
const CONSUMERS: usize = 2;
/// As the chart has it.
const GRACE: Duration = Duration::from_secs(285);
/// Until everything has its usual pace.
const BEFORE: u64 = 900;
const MEASURED: u64 = 3_600;
const MONTH: f64 = 30.0 * 24.0 * 3_600.0;

/// Dollars a million, us-east-1, without the free tier.
const SQS_REQUEST: f64 = 0.40;
const S3_WRITE_OR_LIST: f64 = 5.0;
const S3_READ: f64 = 0.40;

const ALWAYS: &str = r#"
    [[route]]
    name    = "work"
    match   = { path = "/work", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none" }

    [queue.work]
"#;

/// A time that goes with the clock of the runtime.
struct Stepped {
    began: Instant,
}

impl Clock for Stepped {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_800_000_000_000) + Millis::from(self.began.elapsed())
    }
}

struct World {
    cloud: Cloud,
    config: SdkConfig,
    application: Application,
    rules: Arc<Rules>,
    began: Instant,
}

impl World {
    async fn new(rules: &str) -> Self {
        let cloud = Cloud::start().await;
        let target = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:000000000000:dead","maxReceiveCount":"130"}"#;
        cloud.queue("dead", &[]).await;
        let kept = ("MessageRetentionPeriod", "1209600");
        cloud.queue("work", &[kept, ("RedrivePolicy", target)]).await;
        cloud.bucket("results");
        let credentials = Credentials::new("key", "secret", None, None, "test");
        let loader = aws_loader().region(Region::new("eu-west-1")).endpoint_url(cloud.url());
        let config = loader.credentials_provider(SharedCredentialsProvider::new(credentials));
        Self {
            cloud,
            config: config.load().await,
            application: Application::start().await,
            rules: Arc::new(Rules::from_toml(rules).expect("good rules")),
            began: Instant::now(),
        }
    }

    /// One process, as far as queue and results are concerned.
    async fn process(&self) -> (Arc<JobContext>, Arc<dyn Results>) {
        let soundness = Arc::new(Soundness::default());
        let url = self.cloud.queue_url("work");
        let queue = SqsQueue::connect(&self.config, url).await.expect("the queue");
        let queue = WatchedQueue::new("work", Arc::new(queue), &soundness);
        let results = S3Results::connect(&self.config, "results".into(), String::new()).await;
        let results = Arc::new(results.expect("the bucket"));
        let results: Arc<dyn Results> = Arc::new(WatchedResults::new(results, &soundness));
        let tls = Arc::new(Authorities::none().client().expect("a client"));
        let app = Upstream::parse(("app", ServerSlot::APP), &self.application.url(), &tls)
            .expect("an upstream");
        let servers = Servers {
            app: Arc::new(app),
            named: BTreeMap::new(),
            connect_timeout: Duration::from_secs(5),
            head: Default::default(),
        };
        let queues = BTreeMap::from([("work".to_owned(), Arc::new(queue) as _)]);
        let parts = JobContextParts {
            rules: Arc::clone(&self.rules),
            servers: servers.into(),
            backends: Backends { queues, results: Some(Arc::clone(&results)), soundness },
            metrics: Arc::new(Metrics::new().expect("one of each")),
            clock: Arc::new(Stepped { began: self.began }),
            secrets: None,
            telemetry: Telemetry::default(),
            shard: None,
            spool: Spool::new(std::env::temp_dir(), None),
        };
        (Arc::new(JobContext::new(parts).expect("random bytes")), results)
    }

    /// All calls so far, by operation.
    fn calls(&self) -> BTreeMap<String, u64> {
        let mut calls = self.cloud.sqs().all_calls();
        calls.extend(self.cloud.s3().all_calls());
        calls
    }
}

/// A second passes, and everything that was to happen in it does.
async fn step() {
    advance(Duration::from_secs(1)).await;
    settle().await;
}

/// Clients, servers and what lies between are in this thread, so as many turns let all calls come to
/// their end; the pause is for the kernel, and for what is done beside the thread.
async fn settle() {
    for _ in 0..4 {
        for _ in 0..32 {
            tokio::task::yield_now().await;
        }
        let pause = || std::thread::sleep(Duration::from_micros(300));
        tokio::task::spawn_blocking(pause).await.expect("a pause");
    }
}

/// The time stands still but for [`step`] while this lives: a paused clock goes on by itself only when
/// no blocking task runs.
fn hold() -> std::sync::mpsc::Sender<()> {
    let (held, release) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || release.recv());
    held
}

/// The calls of a month, by operation.
async fn month(rules: &str) -> BTreeMap<String, f64> {
    let _held = hold();
    let world = World::new(rules).await;
    let (mut processes, mut consumers) = (Vec::new(), JoinSet::new());
    for at in 0..PROXIES + CONSUMERS {
        let (app, results) = world.process().await;
        start_watches(&app);
        if at >= PROXIES {
            let running = start_consumers(&app, results, GRACE, false).expect("consumers");
            consumers.spawn(running.join_all());
        }
        processes.push(app);
    }
    for _ in 0..BEFORE {
        step().await;
    }
    let before = world.calls();
    for _ in 0..MEASURED {
        step().await;
    }
    let per_month = |(operation, calls): (String, u64)| {
        let calls = calls - before.get(&operation).copied().unwrap_or(0);
        (operation, calls as f64 * MONTH / MEASURED as f64)
    };
    world.calls().into_iter().map(per_month).filter(|(_, calls)| *calls > 0.0).collect()
}

fn dollars(calls: &BTreeMap<String, f64>) -> f64 {
    let price = |operation: &str| match operation {
        "GetObject" | "HeadObject" | "HeadBucket" => S3_READ,
        "DeleteObject" => 0.0,
        "PutObject" | "ListObjectsV2" | "Other" => S3_WRITE_OR_LIST,
        _ => SQS_REQUEST,
    };
    let each = calls.iter().map(|(operation, calls)| calls / 1e6 * price(operation));
    let sum = each.sum();
    eprintln!("{calls:?}: {sum:.3} $ a month");
    sum
}

#[tokio::test(start_paused = true)]
async fn ten_sidecars_and_two_consumers_without_a_job_cost_less_than_a_dollar_a_month() {
    let calls = month(ALWAYS).await;
    assert!(calls["ReceiveMessage"] > 0.0 && calls["GetQueueAttributes"] > 0.0, "{calls:?}");
    assert!(dollars(&calls) <= 1.0, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_route_makes_that_less_than_four_dollars() {
    let slow = ALWAYS.replace("when = \"always\"", "when = \"slow\", after = \"2s\"");
    let calls = month(&slow).await;
    assert!(calls["ListObjectsV2"] > 0.0, "{calls:?}");
    assert!(dollars(&calls) <= 4.0, "{calls:?}");
}
