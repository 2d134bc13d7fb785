//! Many clients want one answer that nobody has: one request to the app, and nobody suffers for what
//! becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Answer, App, Client, Gate, Reply, Spillway};
use tokio::task::JoinHandle;

const RULES: &str = r#"
    [[route]]
    name  = "minute"
    match = { path = "/minute/{id}" }
    cache = { sidecar = "1m" }
"#;

const MANY: usize = 1_000;

async fn started() -> (App, Spillway) {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    (app, sidecar)
}

/// So many clients, each on a connection of its own, who all ask at the same time.
fn ask(sidecar: &Spillway, count: usize) -> Vec<JoinHandle<Answer>> {
    let ask = |client: Client| tokio::spawn(async move { client.get("/minute/x").await });
    (0..count).map(|_| ask(sidecar.client())).collect()
}

/// Waits until so many requests are in the sidecar's hands.
async fn until_in_flight(sidecar: &Spillway, count: usize) {
    support::eventually("all requests are in flight", || async {
        let in_flight = sidecar.metric("spillway_http_requests_in_flight").await;
        (in_flight >= count as f64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_thousand_misses_of_one_key_make_one_request() {
    let (app, sidecar) = started().await;
    let gate = Gate::default();
    app.on("/minute/x", Reply::ok("once").behind(&gate));
    let asking = ask(&sidecar, MANY);
    until_in_flight(&sidecar, MANY).await;
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.expect("an answer").text(), "once");
    }
    assert_eq!(app.count("/minute/x"), 1);
    let collapsed = r#"spillway_cache_requests_total{result="collapsed",route="minute"}"#;
    assert_eq!(sidecar.metric(collapsed).await, MANY as f64 - 1.0);
}

#[tokio::test]
async fn when_the_fetch_fails_one_of_those_who_waited_fetches_for_the_others() {
    let (app, sidecar) = started().await;
    let (gate, asked) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    {
        let gate = gate.clone();
        app.answer("/minute/x", move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::status(503).behind(&gate),
            _ => Reply::ok("second"),
        });
    }
    let asking = ask(&sidecar, 50);
    until_in_flight(&sidecar, 50).await;
    gate.open();
    let mut good = 0;
    for answer in asking {
        good += usize::from(answer.await.expect("an answer").text() == "second");
    }
    // Only the one whose own request it was hears of the failure.
    assert_eq!((good, app.count("/minute/x")), (49, 2));
}

#[tokio::test]
async fn a_client_that_leaves_takes_nothing_from_those_who_wait_with_it() {
    let (app, sidecar) = started().await;
    let gate = Gate::default();
    app.on("/minute/x", Reply::ok("once").behind(&gate));
    let leader = ask(&sidecar, 1);
    app.until_asked("/minute/x", 1).await;
    let others = ask(&sidecar, 20);
    until_in_flight(&sidecar, 21).await;
    leader.iter().for_each(JoinHandle::abort);
    gate.open();
    for answer in others {
        assert_eq!(answer.await.expect("an answer").text(), "once");
    }
    assert_eq!(app.count("/minute/x"), 1);
}

#[tokio::test]
async fn a_slow_fetch_holds_nobody_for_longer_than_its_limit() {
    let (app, sidecar) = started().await;
    let (gate, asked) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    {
        let gate = gate.clone();
        app.answer("/minute/x", move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::ok("slow").behind(&gate),
            _ => Reply::ok("own"),
        });
    }
    let leader = ask(&sidecar, 1);
    app.until_asked("/minute/x", 1).await;
    for follower in ask(&sidecar, 5) {
        // After the limit each asks for itself, and whoever comes first keeps it.
        assert_eq!(follower.await.expect("an answer").text(), "own");
    }
    gate.open();
    for answer in leader {
        assert_eq!(answer.await.expect("an answer").text(), "slow");
    }
}

#[tokio::test]
async fn those_who_wait_for_a_fetch_that_fails_are_served_what_stands_in() {
    const STALE: &str = r#"
        [[route]]
        name  = "minute"
        match = { path = "/minute/{id}" }
        cache = { sidecar = "1m", stale_if_error = "1h" }
    "#;
    let app = App::start().await;
    let sidecar = Spillway::proxy(STALE, &app).start().await;
    app.on("/minute/x", Reply::ok("old"));
    assert_eq!(sidecar.client().get("/minute/x").await.text(), "old");
    let admin = sidecar.admin().with("x-spillway-admin", "1");
    let order = r#"{ "all": true, "soft": true }"#;
    let purged = admin.with("content-type", "application/json").post("/purge", order).await;
    assert_eq!(purged.status, 200);
    let gate = Gate::default();
    app.on("/minute/x", Reply::status(503).behind(&gate));
    let asking = ask(&sidecar, 50);
    until_in_flight(&sidecar, 50).await;
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.expect("an answer").text(), "old");
    }
    // The first answer, and one failure for all fifty: before, each of most asked for itself.
    assert_eq!(app.count("/minute/x"), 2);
}
