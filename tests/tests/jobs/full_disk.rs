//! The embedded store on a disk that is full, and has room again. The limit on a file's size stands
//! for the disk: it can be set for one process from outside, without rights, and needs no disk.

use std::path::Path;
use support::{App, Client, Reply, Spillway, eventually, folder};
use tokio::process::Command;

const RULES: &str = r#"
    [[route]]
    name    = "work"
    match   = { path = "/work", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none" }

    [queue.work]
    visibility  = "2s"
    job_timeout = "60s"
"#;

/// A write beyond a file's limit is an error, as on a full disk, and not the end of the process.
const NO_SIGNAL: &str = "trap '' XFSZ";

/// Less than any of the store's files has already.
const FULL: &str = "4096";
const ROOM: &str = "unlimited";

async fn disk(process: &Spillway, limit: &str) {
    let id = process.id().to_string();
    let set = Command::new("prlimit").args(["--pid", &id, &format!("--fsize={limit}:")]).status();
    assert!(set.await.is_ok_and(|status| status.success()), "prlimit (util-linux) sets the limit");
}

async fn proxy(app: &App, jobs: &Path) -> Spillway {
    Spillway::proxy(RULES, app).jobs("work", jobs).after(NO_SIGNAL).start().await
}

async fn consumer(app: &App, jobs: &Path) -> Spillway {
    Spillway::consume(RULES, app).jobs("work", jobs).after(NO_SIGNAL).start().await
}

async fn succeeded(client: &Client, location: &str) {
    eventually("the job succeeds", || async {
        let status = client.with("prefer", "wait=5").get(location).await;
        (status.json()["status"] == "succeeded").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_refuses_jobs_by_name_and_loses_none() {
    let (app, jobs) = (App::start().await, folder());
    app.on("/work", Reply::ok("done"));
    let proxy = proxy(&app, jobs.path()).await;
    let client = proxy.client();
    let mut accepted = Vec::new();
    for number in 0..5 {
        accepted.push(client.post("/work", number.to_string()).await.header("location"));
    }
    disk(&proxy, FULL).await;
    for number in 0..5 {
        let refused = client.post("/work", format!("refused {number}")).await;
        assert_eq!((refused.status, refused.problem().as_str()), (503, "offload-unavailable"));
        assert_eq!(client.get(&accepted[0]).await.json()["status"], "queued", "it can be read");
    }
    disk(&proxy, ROOM).await;
    let late = client.post("/work", "late").await;
    assert_eq!(late.status, 202, "{}", late.text());
    accepted.push(late.header("location"));
    let _consumer = consumer(&app, jobs.path()).await;
    for location in &accepted {
        succeeded(&client, location).await;
    }
    assert_eq!(app.count("/work"), accepted.len(), "what was refused is not run");
}

#[tokio::test]
async fn a_result_waits_for_room_on_the_disk_and_its_job_is_not_run_again() {
    let (app, jobs) = (App::start().await, folder());
    let gate = support::Gate::default();
    app.on("/work", Reply::ok("x".repeat(100_000)).behind(&gate));
    let proxy = proxy(&app, jobs.path()).await;
    let client = proxy.client();
    let location = client.post("/work", "May").await.header("location");
    let consumer = consumer(&app, jobs.path()).await;
    app.until_asked("/work", 1).await;
    disk(&consumer, FULL).await;
    gate.open();
    // The consumer is told by its own writes; nothing but its log says how often it tried.
    consumer.until_said("could not store the result").await;
    assert_eq!(client.get(&location).await.json()["status"], "running");
    disk(&consumer, ROOM).await;
    succeeded(&client, &location).await;
    let result = client.get(&format!("{location}/result")).await;
    assert_eq!((result.status, result.body.len()), (200, 100_000));
    assert_eq!(app.count("/work"), 1);
}
