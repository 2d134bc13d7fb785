//! An application that is asked for more than it can do.

use support::{App, Gate, Reply, Spillway, eventually, folder};

#[tokio::test]
async fn one_more_than_the_limit_is_refused_before_it_is_sent_and_later_ones_are_let_in() {
    let app = App::start().await;
    let gate = Gate::default();
    app.on("/slow", Reply::ok("done").behind(&gate));
    app.on("/fast", Reply::ok("done"));
    let sidecar = Spillway::proxy("[overload]\nconcurrency = 2\n", &app).start().await;
    let ask = || {
        let client = sidecar.client();
        tokio::spawn(async move { client.get("/slow").await })
    };
    let waiting = [ask(), ask()];
    app.until_asked("/slow", 2).await;
    let refused = sidecar.client().get("/fast").await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "overloaded"));
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!(app.count("/fast"), 0);
    gate.open();
    for answer in waiting {
        assert_eq!(answer.await.expect("an answer").status, 200);
    }
    assert_eq!(sidecar.client().get("/fast").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_streams_does_not_use_the_limit_up_and_does_use_its_routes_places() {
    let app = App::start().await;
    // The gate is within the body: the head has come.
    let gate = Gate::default();
    app.on("/events", Reply::ok("data: 1\n\n").with("content-type", "text/event-stream"));
    app.on("/held", Reply::ok("done").behind(&gate));
    let rules = r#"
        [overload]
        concurrency = 1

        [[route]]
        name        = "held"
        match       = { path = "/held" }
        concurrency = 1
    "#;
    let sidecar = Spillway::proxy(rules, &app).start().await;
    for _ in 0..3 {
        assert_eq!(sidecar.client().get("/events").await.status, 200);
    }
    let client = sidecar.client();
    let held = tokio::spawn(async move { client.get("/held").await });
    app.until_asked("/held", 1).await;
    let busy = sidecar.client().get("/held").await;
    assert_eq!((busy.status, busy.problem().as_str()), (503, "route-busy"));
    gate.open();
    assert_eq!(held.await.expect("an answer").status, 200);
    eventually("the place is free", || async {
        (sidecar.client().get("/held").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stale_answer_stands_in_and_a_slow_route_is_queued() {
    let app = App::start().await;
    let gate = Gate::default();
    app.on("/page", Reply::ok("page").with("cache-control", "max-age=0, stale-if-error=60"));
    app.on("/block", Reply::ok("").behind(&gate));
    app.on("/report", Reply::ok("report"));
    let rules = r#"
        [overload]
        concurrency = 1

        [[route]]
        name  = "page"
        match = { path = "/page" }
        cache = { sidecar = "from-origin" }

        [[route]]
        name    = "report"
        match   = { path = "/report", methods = ["POST"] }
        offload = { when = "slow", after = "10s", queue = "q", auth = "none" }

        [queue.q]
    "#;
    let jobs = folder();
    let sidecar = Spillway::proxy(rules, &app).jobs("q", jobs.path()).start().await;
    assert_eq!(sidecar.client().get("/page").await.text(), "page");
    let client = sidecar.client();
    let block = tokio::spawn(async move { client.get("/block").await });
    app.until_asked("/block", 1).await;
    let stale = sidecar.client().get("/page").await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "page"));
    assert_eq!(app.count("/page"), 1);
    let queued = sidecar.client().post("/report", "").await;
    assert_eq!((queued.status, app.count("/report")), (202, 0));
    let reason =
        r#"spillway_offload_requests_total{reason="overload",result="queued",route="report"}"#;
    assert_eq!(sidecar.metric(reason).await, 1.0);
    gate.open();
    block.await.expect("an answer");
}

#[tokio::test]
async fn what_an_application_can_do_at_once_is_learned() {
    let app = App::with_workers(2).await;
    app.on("/", Reply::ok("").after(std::time::Duration::from_millis(5)));
    let sidecar = Spillway::proxy("[overload]\nconcurrency = \"adaptive\"\n", &app).start().await;
    let askers: Vec<_> = (0..80)
        .map(|_| {
            let client = sidecar.client();
            tokio::spawn(async move {
                loop {
                    client.get("/").await;
                }
            })
        })
        .collect();
    let limit = r#"spillway_concurrency_limit{upstream="app"}"#;
    eventually("it is far below where it began", || async {
        let limit = sidecar.metric(limit).await;
        (limit > 0.0 && limit < 24.0).then_some(())
    })
    .await;
    askers.iter().for_each(tokio::task::JoinHandle::abort);
}
