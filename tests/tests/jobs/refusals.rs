//! No such bucket, no such queue, no right, no folder, no rules: what no waiting mends is named, and is
//! nobody's silent loss.

use support::{App, Cloud, Fault, Gate, Reply, Setup, Spillway, eventually, folder};

const RULES: &str = r#"
    [[route]]
    name    = "work"
    match   = { path = "/work", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none" }

    [[route]]
    name    = "inline"
    match   = { path = "/inline", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none", fallback = "inline" }

    [[route]]
    name    = "polite"
    match   = { path = "/polite", methods = ["POST"] }
    offload = { queue = "work", when = "prefer", auth = "none" }

    [[route]]
    name    = "slow"
    match   = { path = "/slow", methods = ["POST"] }
    offload = { queue = "work", when = "slow", after = "10s", auth = "none", spill_over = 1 }

    [queue.work]
    visibility = "5s"
"#;

struct World {
    cloud: Cloud,
    app: App,
}

async fn world() -> World {
    let (cloud, app) = (Cloud::start().await, App::start().await);
    for path in ["/work", "/inline", "/polite", "/slow", "/other"] {
        app.on(path, Reply::ok("done"));
    }
    World { cloud, app }
}

impl World {
    async fn with_queue(self) -> Self {
        self.cloud.queue("work", &[]).await;
        self
    }

    fn with_bucket(self) -> Self {
        self.cloud.bucket("results");
        self
    }

    fn proxy(&self) -> Setup {
        Spillway::proxy(RULES, &self.app).cloud("work", &self.cloud)
    }

    fn consumer(&self) -> Setup {
        Spillway::consume(RULES, &self.app).cloud("work", &self.cloud)
    }
}

fn fault(part: &str, queue: &str, call: &str, reason: &str) -> String {
    format!(
        "spillway_offload_fault{{call=\"{call}\",part=\"{part}\",queue=\"{queue}\",reason=\"{reason}\"}}"
    )
}

async fn until_metric(process: &Spillway, series: &str, value: f64) {
    eventually(&format!("{series} is {value}"), || async {
        (process.metric(series).await == value).then_some(())
    })
    .await;
}

/// Where there can be no job, those routes are refused that would be nothing else; everything else is
/// served.
async fn serves_all_but_jobs(world: &World, proxy: &Spillway, reason: &str) {
    let client = proxy.client();
    assert_eq!(proxy.admin().get("/ready").await.status, 200);
    assert_eq!(client.get("/other").await.status, 200);
    eventually("no job is accepted", || async {
        let refused = client.post("/work", "x").await;
        (refused.status == 503).then(|| {
            assert_eq!(refused.problem(), "offload-unavailable");
            let detail = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
            assert_eq!(detail, format!("{reason}; nothing is started"));
        })
    })
    .await;
    let polite = client.with("prefer", "respond-async");
    for (client, path) in [(&client, "/inline"), (&polite, "/polite")] {
        let answer = client.post(path, "x").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "done"), "{path}");
        assert_eq!(world.app.count(path), 1, "{path}");
    }
    // The second is one too many, and would be queued.
    let gate = Gate::default();
    world.app.on("/slow", Reply::ok("done").behind(&gate));
    let slow = || {
        let client = client.clone();
        tokio::spawn(async move { client.post("/slow", "x").await })
    };
    let both = [slow(), slow()];
    gate.until_waited(2).await;
    gate.open();
    for slow in both {
        let answer = slow.await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    }
    assert_eq!(world.app.count("/work"), 0);
}

async fn accepts_again(proxy: &Spillway) {
    eventually("jobs are accepted", || async {
        (proxy.client().post("/work", "x").await.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_its_bucket_a_sidecar_serves_all_but_jobs_until_the_bucket_is_there() {
    let world = world().await.with_queue().await;
    let proxy = world.proxy().start().await;
    until_metric(&proxy, &fault("results", "", "write", "bucket-missing"), 1.0).await;
    serves_all_but_jobs(&world, &proxy, "bucket-missing").await;
    assert_eq!(world.cloud.depth("work"), (0, 0), "no 202, no message");
    world.cloud.bucket("results");
    accepts_again(&proxy).await;
    until_metric(&proxy, &fault("results", "", "write", "bucket-missing"), 0.0).await;
}

#[tokio::test]
async fn without_its_queue_a_sidecar_serves_all_but_jobs_until_the_queue_is_there() {
    let world = world().await.with_bucket();
    let proxy = world.proxy().start().await;
    until_metric(&proxy, &fault("queue", "work", "count", "queue-missing"), 1.0).await;
    serves_all_but_jobs(&world, &proxy, "queue-missing").await;
    world.cloud.queue("work", &[]).await;
    accepts_again(&proxy).await;
}

#[tokio::test]
async fn without_the_right_to_send_a_sidecar_serves_all_but_jobs_until_it_has_it() {
    let world = world().await.with_queue().await.with_bucket();
    let proxy = world.proxy().start().await;
    world.cloud.sqs().set_only("SendMessageBatch", Fault::Deny);
    serves_all_but_jobs(&world, &proxy, "denied").await;
    until_metric(&proxy, &fault("queue", "work", "send", "denied"), 1.0).await;
    proxy.until_said("permanently refused").await;
    world.cloud.sqs().clear();
    accepts_again(&proxy).await;
}

#[tokio::test]
async fn a_consumer_that_never_could_do_its_work_ends_with_78_and_says_by_what() {
    type Given = (&'static str, fn(&World), &'static str);
    let given: [Given; 4] = [
        ("no bucket", |_| (), "bucket-missing"),
        (
            "no lease can be written",
            |world| {
                world.cloud.bucket("results");
                world.cloud.s3().set_only("PutObject", Fault::Deny);
            },
            "denied",
        ),
        (
            "nothing can be listed",
            |world| {
                world.cloud.bucket("results");
                world.cloud.s3().set_only("ListObjectsV2", Fault::Deny);
            },
            "denied",
        ),
        (
            "nothing can be received",
            |world| {
                world.cloud.bucket("results");
                world.cloud.sqs().set_only("ReceiveMessage", Fault::Deny);
            },
            "denied",
        ),
    ];
    let ends = given.map(|(case, arrange, reason)| async move {
        let world = world().await.with_queue().await;
        arrange(&world);
        world.cloud.send("work", "{}", &[]).await;
        let consumer = world.consumer().start().await;
        consumer.until_said(reason).await;
        assert_eq!(consumer.metric("spillway_jobs_running{queue=\"work\"}").await, 0.0, "{case}");
        assert_eq!(consumer.admin().get("/ready").await.status, 200, "{case}");
        assert_eq!(consumer.ended().await, Some(78), "{case}");
        assert_eq!(world.cloud.depth("work"), (1, 0), "{case}: nothing was received");
    });
    let ends: Vec<_> = ends.into_iter().map(tokio::spawn).collect();
    for end in ends {
        end.await.expect("as it should be");
    }
}

#[tokio::test]
async fn without_its_queue_a_consumer_ends_with_78() {
    let world = world().await.with_bucket();
    let consumer = world.consumer().start().await;
    consumer.until_said("queue-missing").await;
    assert_eq!(consumer.ended().await, Some(78));
}

#[tokio::test]
async fn a_role_that_gets_its_rights_after_a_moment_is_waited_for() {
    let world = world().await.with_queue().await.with_bucket();
    world.cloud.s3().set(Fault::Deny);
    let consumer = world.consumer().start().await;
    let proxy = world.proxy().start().await;
    consumer.until_said("permanently refused").await;
    world.cloud.s3().clear();
    accepts_again(&proxy).await;
    world.app.until_asked("/work", 1).await;
    consumer.until_said("accepted again").await;
}

#[tokio::test]
async fn a_consumer_that_loses_its_rights_receives_nothing_and_goes_on_when_it_has_them_again() {
    let world = world().await.with_queue().await.with_bucket();
    let (proxy, consumer) = (world.proxy().start().await, world.consumer().start().await);
    let location = proxy.client().post("/work", "x").await.header("location");
    let first = proxy.client().with("prefer", "wait=20").get(&location).await.json();
    assert_eq!(first["status"], "succeeded");
    world.cloud.s3().set_only("PutObject", Fault::Deny);
    // This one finds out, and waits in hand.
    proxy.client().post("/work", "x").await;
    until_metric(&consumer, &fault("results", "", "write", "denied"), 1.0).await;
    assert_eq!(consumer.metric("spillway_jobs_running{queue=\"work\"}").await, 0.0);
    let receives = world.cloud.sqs().calls("ReceiveMessage");
    // It asks again.
    let puts = world.cloud.s3().calls("PutObject");
    world.cloud.s3().until_called("PutObject", puts + 3).await;
    assert!(world.cloud.sqs().calls("ReceiveMessage") <= receives + 1);
    assert_eq!(world.app.count("/work"), 1);
    world.cloud.s3().clear();
    world.app.until_asked("/work", 2).await;
}

#[tokio::test]
async fn a_reload_that_leaves_a_queue_without_rules_stops_its_consumer_and_says_so() {
    let (app, jobs) = (App::start().await, folder());
    app.on("/work", Reply::ok("done"));
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    accepts_again(&proxy).await;
    app.until_asked("/work", 1).await;
    consumer.change_rules("[[route]]\nname = \"other\"\nmatch = { path = \"/other\" }\n");
    until_metric(&consumer, &fault("queue", "work", "rules", "rules-missing"), 1.0).await;
    assert_eq!(consumer.metric("spillway_rules_reloads_total{result=\"success\"}").await, 1.0);
    consumer.until_said("rules-missing").await;
    // One poll may be under way still; what it brings is given back.
    let location = proxy.client().post("/work", "x").await.header("location");
    let waiting = proxy.client().with("prefer", "wait=2").get(&location).await;
    assert_eq!((waiting.json()["status"].as_str(), app.count("/work")), (Some("queued"), 1));
    consumer.change_rules(RULES);
    app.until_asked("/work", 2).await;
    until_metric(&consumer, &fault("queue", "work", "rules", "rules-missing"), 0.0).await;
    let at_start = Spillway::consume("", &app).jobs("work", jobs.path()).refused().await;
    assert_eq!(at_start.code, Some(78));
    assert!(at_start.errors.contains("there is no [queue.work]"), "{}", at_start.errors);
}

#[tokio::test]
async fn a_spool_that_is_gone_is_made_again_and_one_that_can_not_be_stops_the_consumer() {
    let (app, jobs, place) = (App::start().await, folder(), folder());
    app.on("/work", Reply::ok("done"));
    let spool = place.path().join("spool");
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let files = format!("file:{}", jobs.path().display());
    let consumer = Spillway::consume(RULES, &app)
        .with("--queue", &format!("work={files}"))
        .with("--results", &files)
        .with("--spool", &spool.display().to_string())
        .start()
        .await;
    std::fs::remove_dir_all(&spool).expect("removed");
    consumer.until_said("created it again").await;
    assert!(spool.is_dir());
    std::fs::remove_dir_all(&spool).expect("removed");
    // Nobody can make a folder where the one above is a file.
    std::fs::remove_dir_all(place.path()).expect("removed");
    std::fs::write(place.path(), "no folder").expect("written");
    until_metric(&consumer, &fault("spool", "", "stand", "folder-missing"), 1.0).await;
    let location = proxy.client().post("/work", "x").await.header("location");
    let waiting = proxy.client().with("prefer", "wait=2").get(&location).await;
    assert_eq!((waiting.json()["status"].as_str(), app.count("/work")), (Some("queued"), 0));
    std::fs::remove_file(place.path()).expect("removed");
    app.until_asked("/work", 1).await;
}

#[tokio::test]
async fn files_of_jobs_that_are_taken_away_are_missed_by_both_halves() {
    let (app, jobs) = (App::start().await, folder());
    app.on("/work", Reply::ok("done"));
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    accepts_again(&proxy).await;
    app.until_asked("/work", 1).await;
    for entry in std::fs::read_dir(jobs.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::remove_file(path).expect("removed");
        }
    }
    for process in [&proxy, &consumer] {
        until_metric(process, &fault("results", "", "stand", "folder-missing"), 1.0).await;
        until_metric(process, &fault("queue", "work", "stand", "folder-missing"), 1.0).await;
    }
    let refused = proxy.client().post("/work", "x").await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "offload-unavailable"));
}
