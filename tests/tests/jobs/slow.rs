//! What the sidecar learns of slow routes, and what it does when the application is busy.

use support::{Answer, App, Client, Gate, Reply, Spillway, eventually, folder};
use tempfile::TempDir;

const RULES: &str = r#"
    [[route]]
    name    = "backtests"
    match   = { path = "/backtests", methods = ["POST"] }
    [route.offload]
    queue = "work"
    when  = "slow"
    after = "100ms"
    class = "body:/years"
    auth  = "none"

    [[route]]
    name    = "busy"
    match   = { path = "/busy", methods = ["POST"] }
    [route.offload]
    queue      = "work"
    when       = "slow"
    after      = "30s"
    spill_over = 2
    auth       = "none"

    [queue.work]
    visibility  = "5s"
    concurrency = 2
"#;

/// Workers of the application.
const WORKERS: usize = 4;

async fn world() -> (App, Spillway, TempDir) {
    let app = App::with_workers(WORKERS).await;
    app.on("/prices", Reply::ok("1.0842"));
    let jobs = folder();
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    (app, proxy, jobs)
}

/// After so many a class is known.
const EXECUTIONS: usize = 20;

/// As many executions as are needed to know a class.
async fn learn(client: &Client, body: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..EXECUTIONS {
        answers.push(client.post("/backtests", body.to_owned()).await);
    }
    answers
}

async fn ended(client: &Client, answer: &Answer) -> serde_json::Value {
    let location = answer.header("location");
    let status = client.with("prefer", "wait=25").get(&location).await;
    status.json()
}

#[tokio::test]
async fn a_route_that_was_slow_is_queued_up_front_and_the_rest_of_the_application_does_not_notice()
{
    let (app, proxy, jobs) = world().await;
    let client = proxy.client();
    let behind_a_gate = || {
        let gate = Gate::default();
        let slow = gate.clone();
        app.answer("/backtests", move |_| Reply::ok("done").behind(&slow));
        gate
    };
    // Surprises first: each is executed and adopted, in a worker of its own.
    let mut left = EXECUTIONS - 1;
    while left > 0 {
        let gate = behind_a_gate();
        let mut adopted = Vec::new();
        for _ in 0..left.min(WORKERS) {
            adopted.push(client.post("/backtests", r#"{"years":10}"#).await);
        }
        left -= adopted.len();
        gate.open();
        for answer in &adopted {
            assert_eq!((answer.status, answer.json()["offloaded"].as_str()), (202, Some("slow")));
            assert_eq!(ended(&client, answer).await["status"], "succeeded");
        }
    }
    let gate = behind_a_gate();
    let last = client.post("/backtests", r#"{"years":10}"#).await;
    assert_eq!(last.json()["offloaded"], "slow");

    let executed = app.count("/backtests");
    let consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    let mut queued = Vec::new();
    for _ in 0..19 {
        let answer = client.post("/backtests", r#"{"years":10}"#).await;
        assert_eq!((answer.status, answer.json()["offloaded"].as_str()), (202, Some("learned")));
        queued.push(answer);
    }
    app.until_asked("/backtests", executed + 2).await;
    // Two jobs and that one occupy three workers of four; the dashboards have the last.
    for _ in 0..50 {
        assert_eq!(client.get("/prices").await.text(), "1.0842");
    }
    assert_eq!(app.count("/backtests"), executed + 2, "the consumer runs two at a time");
    gate.open();
    for answer in &queued {
        assert_eq!(ended(&client, answer).await["status"], "succeeded");
    }
    let learned =
        r#"spillway_offload_requests_total{reason="learned",result="queued",route="backtests"}"#;
    assert_eq!(proxy.metric(learned).await, 19.0);
    drop(consumer);
}

#[tokio::test]
async fn a_class_that_is_quick_is_answered_while_another_of_the_same_route_is_queued() {
    let (app, proxy, _jobs) = world().await;
    let client = proxy.client();
    app.answer("/backtests", |asked| {
        let is_long = asked.body.starts_with(br#"{"years":10"#);
        if is_long {
            Reply::ok("long").after(std::time::Duration::from_millis(300))
        } else {
            Reply::ok("short")
        }
    });
    assert!(learn(&client, r#"{"years":1}"#).await.iter().all(|answer| answer.text() == "short"));
    assert!(learn(&client, r#"{"years":10}"#).await.iter().all(|answer| answer.status == 202));
    let long = client.post("/backtests", r#"{"years":10}"#).await;
    assert_eq!(long.json()["offloaded"], "learned");
    assert_eq!(client.post("/backtests", r#"{"years":1}"#).await.text(), "short");
}

#[tokio::test]
async fn one_request_in_twenty_of_a_slow_class_is_executed_to_go_on_learning() {
    let (app, proxy, _jobs) = world().await;
    let client = proxy.client();
    app.answer("/backtests", |_| Reply::ok("").after(std::time::Duration::from_millis(300)));
    learn(&client, "{}").await;
    let executed = app.count("/backtests");
    for _ in 0..20 {
        client.post("/backtests", "{}").await;
    }
    assert_eq!(app.until_asked("/backtests", executed + 1).await.len(), executed + 1);
}

#[tokio::test]
async fn what_a_busy_application_has_no_room_for_is_queued_before_it_is_sent() {
    let (app, proxy, _jobs) = world().await;
    let gate = Gate::default();
    app.on("/busy", Reply::ok("done").behind(&gate));
    let inline: Vec<_> = (0..2)
        .map(|_| {
            let client = proxy.client();
            tokio::spawn(async move { client.post("/busy", "x").await })
        })
        .collect();
    app.until_asked("/busy", 2).await;
    let third = proxy.client().post("/busy", "x").await;
    assert_eq!((third.status, third.json()["offloaded"].as_str()), (202, Some("overload")));
    assert_eq!(app.count("/busy"), 2);
    gate.open();
    for answer in inline {
        assert_eq!(answer.await.expect("an answer").text(), "done");
    }
    eventually("the executions are over", || async {
        (proxy.client().post("/busy", "x").await.text() == "done").then_some(())
    })
    .await;
}
