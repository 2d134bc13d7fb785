//! Requests find their shard: by path, query, header or body, forwarded or annotated.

use support::{App, Client, Reply, Spillway};

const RULES: &str = r#"
    [[route]]
    name  = "prices"
    match = { path = "/prices/{id}" }
    shard = { map = "market", from = ["path:id"] }

    [[route]]
    name  = "many"
    match = { path = "/prices", methods = ["GET"] }
    shard = { map = "market", from = ["query:ids", "header:X-Instrument"] }

    [[route]]
    name  = "ticks"
    match = { path = "/ticks", methods = ["POST"] }
    shard = { map = "market", from = ["body:/instrument/id"], body_limit = "1KiB" }

    [[route]]
    name  = "cached"
    match = { path = "/cached", methods = ["GET"] }
    shard = { map = "market", from = ["header:X-Instrument"] }
    cache = { sidecar = "1m" }

    [shard_map.market]
    key_type = "int"
    ranges = [ { from = 1, shard = "a" }, { from = 10001, shard = "b" } ]
    until  = 20001
    shards = { a = { upstream = "app-a" }, b = { upstream = "app-b" } }
"#;

/// Sidecar a beside app a, sidecar b beside app b; a knows b.
struct Pair {
    app_a: App,
    app_b: App,
    _sidecar_a: Spillway,
    sidecar_b: Spillway,
    client: Client,
}

async fn pair() -> Pair {
    let (app_a, app_b) = (App::start().await, App::start().await);
    for app in [&app_a, &app_b] {
        for path in ["/prices/5", "/prices/15000", "/prices", "/ticks", "/cached"] {
            app.on(path, Reply::ok("served"));
        }
    }
    let nowhere = "app-a=http://127.0.0.1:1,app-b=http://127.0.0.1:1";
    let sidecar_b = Spillway::proxy(RULES, &app_b)
        .with("--shard", "b")
        .with("--upstream", nowhere)
        .start()
        .await;
    let upstream = format!("app-a=http://127.0.0.1:1,app-b={}", sidecar_b.url());
    let sidecar_a = Spillway::proxy(RULES, &app_a)
        .with("--shard", "a")
        .with("--upstream", &upstream)
        .start()
        .await;
    let client = sidecar_a.client();
    Pair { app_a, app_b, _sidecar_a: sidecar_a, sidecar_b, client }
}

#[tokio::test]
async fn a_key_of_the_pods_own_shard_is_annotated_for_the_local_app() {
    let pair = pair().await;
    assert_eq!(pair.client.get("/prices/5").await.status, 200);
    let asked = pair.app_a.asked("/prices/5").remove(0);
    assert_eq!(asked.header("x-shard"), Some("a"));
    assert_eq!(asked.header("x-shard-epoch"), Some("1"));
    assert_eq!(asked.header("x-shard-range"), Some("[1,10001)"));
}

#[tokio::test]
async fn a_key_of_another_shard_is_forwarded_once() {
    let pair = pair().await;
    assert_eq!(pair.client.get("/prices/15000").await.status, 200);
    let asked = pair.app_b.asked("/prices/15000").remove(0);
    assert_eq!(asked.header("x-shard"), Some("b"));
    assert_eq!(asked.header("x-shard-hop"), None);
    assert_eq!(pair.app_a.count("/prices/15000"), 0);
}

#[tokio::test]
async fn the_second_sidecar_believes_the_first_for_whom_it_forwards() {
    let pair = pair().await;
    let asking = pair.client.with("x-forwarded-for", "1.2.3.4");
    asking.get("/prices/15000").await;
    let asked = pair.app_b.asked("/prices/15000").remove(0);
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1, 127.0.0.1"));
}

#[tokio::test]
async fn two_sidecars_that_disagree_answer_508_instead_of_a_loop() {
    let (app_a, app_b) = (App::start().await, App::start().await);
    // This one believes that it serves shard a, and is reached as shard b.
    let nowhere = "app-a=http://127.0.0.1:1,app-b=http://127.0.0.1:1";
    let wrong = Spillway::proxy(RULES, &app_b)
        .with("--shard", "a")
        .with("--upstream", nowhere)
        .start()
        .await;
    let upstream = format!("app-a=http://127.0.0.1:1,app-b={}", wrong.url());
    let sidecar = Spillway::proxy(RULES, &app_a)
        .with("--shard", "a")
        .with("--upstream", &upstream)
        .start()
        .await;
    let answer = sidecar.client().get("/prices/15000").await;
    assert_eq!((answer.status, answer.problem().as_str()), (508, "shard-loop"));
}

#[tokio::test]
async fn a_client_can_not_pass_for_a_sidecar() {
    let pair = pair().await;
    let liar = pair.sidecar_b.client().with("x-shard", "b").with("x-shard-hop", "v1.1.market.b.00");
    liar.get("/prices/15000").await;
    let asked = pair.app_b.asked("/prices/15000").remove(0);
    assert_eq!(asked.headers.get_all("x-shard").iter().count(), 1);
    // An unmarked request for shard a is sent on; were the marker believed, it would be a loop.
    let answer = liar.get("/prices/5").await;
    assert_eq!(answer.problem(), "shard-unavailable");
}

#[tokio::test]
async fn a_key_that_is_missing_wrong_or_unmapped_is_refused_by_name() {
    let pair = pair().await;
    for (target, status, problem) in [
        ("/prices/0", 404, "key-unmapped"),
        ("/prices/20001", 404, "key-unmapped"),
        ("/prices/1e4", 400, "key-invalid"),
        ("/prices/007", 400, "key-invalid"),
        ("/prices", 400, "key-missing"),
        ("/prices?ids=1,15000", 400, "cross-shard"),
    ] {
        let answer = pair.client.get(target).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{target}");
    }
    assert_eq!(pair.app_a.count("/prices"), 0);
}

#[tokio::test]
async fn a_list_of_keys_of_one_shard_is_served_by_it() {
    let pair = pair().await;
    assert_eq!(pair.client.get("/prices?ids=15000,15001").await.status, 200);
    assert_eq!(pair.app_b.count("/prices"), 1);
}

#[tokio::test]
async fn the_first_source_present_wins() {
    let pair = pair().await;
    pair.client.with("x-instrument", "15000").get("/prices?ids=5").await;
    assert_eq!(pair.app_a.count("/prices"), 1);
    pair.client.with("x-instrument", "15000").get("/prices").await;
    assert_eq!(pair.app_b.count("/prices"), 1);
}

#[tokio::test]
async fn a_key_in_the_body_is_found_and_the_body_arrives_unchanged() {
    let pair = pair().await;
    let body = r#"{"price": 1.50, "instrument": {"id": 15000}}"#;
    assert_eq!(pair.client.post("/ticks", body).await.status, 200);
    assert_eq!(pair.app_b.asked("/ticks")[0].body, body);
    for (body, problem) in [
        ("{}", "key-missing"),
        ("not json", "key-invalid"),
        (r#"{"instrument":{"id":[1]}}"#, "key-invalid"),
    ] {
        assert_eq!(pair.client.post("/ticks", body).await.problem(), problem);
    }
    let long = format!(r#"{{"pad": "{}", "instrument": {{"id": 5}}}}"#, "x".repeat(2000));
    assert_eq!(pair.client.post("/ticks", long).await.problem(), "body-too-large");
}

#[tokio::test]
async fn answers_of_two_keys_never_share_an_entry_even_when_the_key_is_a_header() {
    let pair = pair().await;
    pair.app_a.answer("/cached", |asked| {
        Reply::ok(asked.header("x-instrument").unwrap_or_default().to_owned())
    });
    let ask = |key: &'static str| pair.client.with("x-instrument", key);
    assert_eq!(ask("5").get("/cached").await.text(), "5");
    assert_eq!(ask("6").get("/cached").await.text(), "6");
    assert_eq!(ask("5").get("/cached").await.text(), "5");
    assert_eq!(pair.app_a.count("/cached"), 2);
}

#[tokio::test]
async fn a_shard_that_is_down_does_not_take_the_others_with_it() {
    let Pair { app_a, app_b, _sidecar_a, sidecar_b, client } = pair().await;
    sidecar_b.kill().await;
    drop(app_b);
    let answer = client.get("/prices/15000").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "shard-unavailable"));
    assert_eq!(answer.header("retry-after"), "2");
    assert_eq!(client.get("/prices/5").await.status, 200);
    assert_eq!(app_a.count("/prices/5"), 1);
}

#[tokio::test]
async fn the_admin_port_tells_where_a_key_lies() {
    let pair = pair().await;
    let found = pair.sidecar_b.admin().get("/shards/lookup?map=market&key=15000").await.json();
    assert_eq!(
        (found["shard"].as_str(), found["range"].as_str()),
        (Some("b"), Some("[10001,20001)"))
    );
    let unmapped = pair.sidecar_b.admin().get("/shards/lookup?map=market&key=0").await;
    assert_eq!(unmapped.problem(), "key-unmapped");
}
