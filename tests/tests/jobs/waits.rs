//! Clients that know no 202 wait for the application's own answer.

use support::{App, Gate, Reply, Spillway, eventually, folder};

const RULES: &str = r#"
    [[route]]
    name    = "patient"
    match   = { path = "/patient" }
    offload = { queue = "work", when = "always", auth = "none", wait = "20s" }

    [[route]]
    name    = "strict"
    match   = { path = "/strict" }
    offload = { queue = "work", when = "always", auth = "none", wait = "200ms", wait_ends = "504" }

    [[route]]
    name    = "adopted"
    match   = { path = "/adopted" }
    offload = { queue = "work", when = "slow", after = "100ms", auth = "none", wait = "200ms", wait_ends = "504" }

    [queue.work]
"#;

#[tokio::test]
async fn a_client_that_knows_no_202_waits_for_the_applications_own_answer() {
    let (app, jobs) = (App::start().await, folder());
    let gate = Gate::default();
    app.on("/patient", Reply::status(201).body("made").with("x-own", "1"));
    app.on("/strict", Reply::ok("late").behind(&gate));
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    let answer = proxy.client().post("/patient", "x").await;
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.header("x-own").as_str()),
        (201, "made", "1")
    );
    assert_eq!(answer.header("preference-applied"), "", "it asked for nothing");
    let late = proxy.client().post("/strict", "x").await;
    assert_eq!((late.status, late.problem().as_str()), (504, "wait-over"));
    assert!(late.json()["detail"].as_str().is_some_and(|it| it.contains("/_spillway/jobs/v1.")));
    app.on("/adopted", Reply::ok("late").behind(&gate));
    let adopted = proxy.client().post("/adopted", "x").await;
    assert_eq!((adopted.status, adopted.problem().as_str()), (504, "wait-over"));
    let knows = proxy.client().with("prefer", "respond-async").post("/strict", "x").await;
    assert_eq!(knows.status, 202);
    gate.open();
    consumer.kill().await;
    // Nobody runs it: whoever waits at the drain is let go with the job.
    let waiting = tokio::spawn({
        let client = proxy.client();
        async move { client.post("/patient", "x").await }
    });
    eventually("it waits", || async {
        let queued =
            r#"spillway_offload_requests_total{reason="always",result="queued",route="patient"}"#;
        (proxy.metric(queued).await == 2.0).then_some(())
    })
    .await;
    let drained = proxy.drain();
    assert_eq!(waiting.await.expect("no panic").status, 202);
    drained.await;
}
