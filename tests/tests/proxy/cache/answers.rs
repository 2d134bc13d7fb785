//! The sidecar's HTTP cache, seen from a client and from the app.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{App, Client, Gate, Reply, Spillway, eventually};

const RULES: &str = r#"
    [[route]]
    name  = "minute"
    match = { path = "/minute/{*rest}" }
    cache = { sidecar = "1m", stale_if_error = "1h", query = ["a", "b"] }

    [[route]]
    name  = "anonymous"
    match = { path = "/anonymous" }
    cache = { sidecar = "1m", ignore_cookies = true }

    [[route]]
    name  = "instant"
    match = { path = "/instant" }
    cache = { sidecar = "1ms", stale_while_revalidate = "1h" }

    [[route]]
    name  = "fragile"
    match = { path = "/fragile" }
    cache = { sidecar = "1ms", stale_if_error = "1h" }

    [[route]]
    name  = "origin"
    match = { path = "/origin/{*rest}" }
    cache = { sidecar = "from-origin" }

    [[route]]
    name  = "watched"
    match = { path = "/watched" }
    cache = { mode = "observe", sidecar = "1m" }
"#;

async fn started() -> (App, Spillway, Client) {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let client = sidecar.client();
    (app, sidecar, client)
}

#[tokio::test]
async fn a_second_request_is_answered_from_memory() {
    let (app, sidecar, client) = started().await;
    app.on("/minute/x", Reply::ok("once"));
    assert_eq!(client.get("/minute/x").await.cache(), "fwd=uri-miss; stored");
    let hit = client.get("/minute/x").await;
    assert!(hit.cache().starts_with("hit; ttl="), "{}", hit.cache());
    assert_eq!((hit.status, hit.text().as_str()), (200, "once"));
    assert!(hit.header("age").parse::<u64>().is_ok(), "{}", hit.header("age"));
    assert_eq!(app.count("/minute/x"), 1);
    let hits = r#"spillway_cache_requests_total{result="hit",route="minute"}"#;
    assert_eq!(sidecar.metric(hits).await, 1.0);
}

#[tokio::test]
async fn the_clock_of_an_application_is_no_matter_of_a_rules_lifetime() {
    let (app, _sidecar, client) = started().await;
    for (name, off) in [("behind", -3600), ("slow", -2), ("ahead", 10), ("wrong", 3600)] {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let date = UNIX_EPOCH + Duration::from_secs(now.saturating_add_signed(off));
        let date = httpdate::fmt_http_date(date);
        for target in [format!("/minute/{name}"), format!("/origin/{name}")] {
            let reply = Reply::ok("once").with("date", &date);
            app.on(&target, reply.with("cache-control", "max-age=7200"));
            assert_eq!(client.get(&target).await.cache(), "fwd=uri-miss; stored", "{target}");
            assert!(client.get(&target).await.cache().starts_with("hit"), "{target}");
            assert_eq!(app.count(&target), 1, "{target}");
        }
    }
}

#[tokio::test]
async fn a_hundred_misses_of_one_key_make_one_request() {
    let (app, _sidecar, client) = started().await;
    let gate = Gate::default();
    app.on("/minute/x", Reply::ok("once").behind(&gate));
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/minute/x").await })
        })
        .collect();
    app.until_asked("/minute/x", 1).await;
    gate.open();
    for answer in asking {
        let answer = answer.await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "once"));
    }
    assert_eq!(app.count("/minute/x"), 1);
}

#[tokio::test]
async fn clients_with_different_cookies_wait_for_one_fetch_where_cookies_do_not_count() {
    let (app, _sidecar, client) = started().await;
    let gate = Gate::default();
    app.on("/anonymous", Reply::ok("once").behind(&gate));
    let asking: Vec<_> = (0..20)
        .map(|number| {
            let client = client.with("cookie", &format!("session={number}"));
            tokio::spawn(async move { client.get("/anonymous").await.text() })
        })
        .collect();
    app.until_asked("/anonymous", 1).await;
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.expect("an answer"), "once");
    }
    let asked = app.asked("/anonymous");
    assert_eq!((asked.len(), asked[0].header("cookie")), (1, None));
}

#[tokio::test]
async fn a_client_that_leaves_does_not_end_the_fetch() {
    let (app, _sidecar, client) = started().await;
    let gate = Gate::default();
    app.on("/minute/x", Reply::ok("once").behind(&gate));
    let leaving = client.clone();
    let asking = tokio::spawn(async move { leaving.get("/minute/x").await });
    app.until_asked("/minute/x", 1).await;
    asking.abort();
    gate.open();
    eventually("the answer is stored", || async {
        client.get("/minute/x").await.cache().starts_with("hit").then_some(())
    })
    .await;
    assert_eq!(app.count("/minute/x"), 1);
}

#[tokio::test]
async fn uncacheable_answers_are_not_waited_for_in_line() {
    let (app, _sidecar, client) = started().await;
    app.on("/minute/x", Reply::ok("mine").with("cache-control", "private"));
    assert_eq!(client.get("/minute/x").await.cache(), "fwd=uri-miss; detail=private");
    let gate = Gate::default();
    app.on("/minute/x", Reply::ok("mine").with("cache-control", "private").behind(&gate));
    let asking: Vec<_> = (0..5)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/minute/x").await.status })
        })
        .collect();
    // All five are at the app at once: nobody waits for another's answer.
    app.until_asked("/minute/x", 6).await;
    gate.open();
    for status in asking {
        assert_eq!(status.await.expect("an answer"), 200);
    }
}

#[tokio::test]
async fn a_stale_answer_is_served_while_a_new_one_is_fetched() {
    let (app, _sidecar, client) = started().await;
    app.on("/instant", Reply::ok("old"));
    client.get("/instant").await;
    let gate = Gate::default();
    app.on("/instant", Reply::ok("new").behind(&gate));
    let stale = eventually("the answer is stale", || async {
        Some(client.get("/instant").await).filter(|answer| answer.cache().contains("revalidating"))
    })
    .await;
    assert_eq!(stale.text(), "old");
    gate.open();
    eventually("the new answer is served", || async {
        (client.get("/instant").await.text() == "new").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stale_answer_is_served_when_the_app_fails_or_is_gone() {
    let (app, _sidecar, client) = started().await;
    app.on("/fragile", Reply::ok("kept"));
    client.get("/fragile").await;
    app.on("/fragile", Reply::status(500));
    let stale = eventually("the lifetime is over", || async {
        Some(client.get("/fragile").await)
            .filter(|answer| answer.cache().contains("stale-on-error"))
    })
    .await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "kept"));
    assert!(stale.cache().contains("fwd-status=500"), "{}", stale.cache());
    drop(app);
    let stale = client.get("/fragile").await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "kept"));
}

#[tokio::test]
async fn an_answer_that_may_not_be_kept_ends_the_one_that_was() {
    let (app, _sidecar, client) = started().await;
    app.on("/fragile", Reply::ok("old"));
    client.get("/fragile").await;
    app.on("/fragile", Reply::ok("new").with("cache-control", "no-store"));
    eventually("the lifetime is over", || async {
        (client.get("/fragile").await.text() == "new").then_some(())
    })
    .await;
    app.on("/fragile", Reply::status(500));
    let failed = client.get("/fragile").await;
    assert_eq!((failed.status, failed.cache().as_str()), (500, "fwd=bypass; detail=uncacheable"));
}

#[tokio::test]
async fn a_failure_that_is_kept_is_not_kept_in_the_place_of_an_answer() {
    let app = App::start().await;
    let cache = r#"cache = { sidecar = "1ms", stale_if_error = "1h", negative = { 503 = "1h" } }"#;
    let rules = format!("[[route]]\nname = \"kept\"\nmatch = {{ path = \"/kept\" }}\n{cache}");
    let sidecar = Spillway::proxy(&rules, &app).start().await;
    let client = sidecar.client();
    app.on("/kept", Reply::ok("kept"));
    client.get("/kept").await;
    app.on("/kept", Reply::status(503));
    eventually("the lifetime is over", || async {
        client.get("/kept").await.cache().contains("fwd-status=503").then_some(())
    })
    .await;
    let again = client.get("/kept").await;
    assert_eq!((again.status, again.text().as_str()), (200, "kept"), "{}", again.cache());
    assert!(again.cache().contains("fwd-status=503"), "asked again: {}", again.cache());
}

#[tokio::test]
async fn an_answer_for_one_person_is_never_given_to_another() {
    let (app, _sidecar, client) = started().await;
    for (path, reply) in [
        ("/minute/cookie", Reply::ok("a").with("set-cookie", "session=1")),
        ("/minute/private", Reply::ok("a").with("cache-control", "Private, max-age=60")),
        ("/minute/no-store", Reply::ok("a").with("cache-control", "No-Store")),
        ("/minute/star", Reply::ok("a").with("vary", "*")),
    ] {
        app.on(path, reply);
        client.get(path).await;
        client.get(path).await;
        assert_eq!(app.count(path), 2, "{path} was stored");
    }
    app.on("/minute/x", Reply::ok("a"));
    let known = client.with("authorization", "Bearer alice");
    assert_eq!(known.get("/minute/x").await.cache(), "fwd=uri-miss; detail=authorization");
    assert_eq!(
        client.with("cookie", "session=1").get("/minute/x").await.cache(),
        "fwd=bypass; detail=cookie"
    );
    assert_eq!(app.count("/minute/x"), 2);
}

#[tokio::test]
async fn only_listed_parameters_reach_the_app_and_the_key() {
    let (app, _sidecar, client) = started().await;
    app.on("/minute/x", Reply::ok("x"));
    client.get("/minute/x?b=2&utm_source=mail&a=1").await;
    assert!(client.get("/minute/x?a=1&b=2&fbclid=9").await.cache().starts_with("hit"));
    assert_eq!(app.asked("/minute/x")[0].target, "/minute/x?a=1&b=2");
    client.get("/minute/x?a=2").await;
    assert_eq!(app.count("/minute/x"), 2);
}

#[tokio::test]
async fn what_a_client_claims_about_itself_does_not_reach_a_shared_answer() {
    let (app, _sidecar, client) = started().await;
    app.answer("/minute/x", |asked| {
        Reply::ok(asked.header("x-forwarded-host").unwrap_or_default().to_owned())
    });
    let poisoner = client
        .with("x-forwarded-host", "evil.example")
        .with("x-original-url", "/admin")
        .with("x-forwarded-for", "6.6.6.6");
    poisoner.get("/minute/x").await;
    let asked = app.asked("/minute/x").remove(0);
    assert_ne!(asked.header("x-forwarded-host"), Some("evil.example"));
    assert_eq!((asked.header("x-original-url"), asked.header("x-forwarded-for")), (None, None));
    assert!(!client.get("/minute/x").await.text().contains("evil"));
}

#[tokio::test]
async fn a_write_makes_the_stored_answer_obsolete() {
    let (app, _sidecar, client) = started().await;
    app.on("/minute/x", Reply::ok("old"));
    client.get("/minute/x").await;
    app.on("/minute/x", Reply::ok("new"));
    assert_eq!(client.get("/minute/x").await.text(), "old");
    client.post("/minute/x", "change").await;
    assert_eq!(client.get("/minute/x").await.text(), "new");
}

#[tokio::test]
async fn languages_that_the_answer_varies_by_are_kept_apart() {
    let (app, _sidecar, client) = started().await;
    app.answer("/minute/x", |asked| {
        Reply::ok(asked.header("accept-language").unwrap_or("none").to_owned())
            .with("vary", "Accept-Language")
    });
    let (german, french) =
        (client.with("accept-language", "de"), client.with("accept-language", "fr"));
    assert_eq!(german.get("/minute/x").await.text(), "de");
    let other = french.get("/minute/x").await;
    assert_eq!((other.text().as_str(), other.cache().as_str()), ("fr", "fwd=vary-miss; stored"));
    assert!(german.get("/minute/x").await.cache().starts_with("hit"));
    assert_eq!(german.get("/minute/x").await.text(), "de");
}

#[tokio::test]
async fn conditions_ranges_and_head_are_answered_from_the_stored_200() {
    let (app, _sidecar, client) = started().await;
    app.on("/minute/x", Reply::ok("0123456789").with("etag", "\"v1\""));
    client.get("/minute/x").await;
    let same = client.with("if-none-match", "W/\"v1\"").get("/minute/x").await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    let part = client.with("range", "bytes=2-4").get("/minute/x").await;
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!(part.header("content-range"), "bytes 2-4/10");
    assert_eq!(client.with("range", "bytes=10-").get("/minute/x").await.status, 416);
    let head = client.send("HEAD", "/minute/x", "").await;
    assert_eq!((head.status, head.header("content-length").as_str()), (200, "10"));
    assert_eq!(app.count("/minute/x"), 1);
}

#[tokio::test]
async fn a_rule_that_is_observed_stores_nothing_and_says_what_it_would_do() {
    let (app, sidecar, client) = started().await;
    app.on("/watched", Reply::ok("x"));
    client.get("/watched").await;
    assert_eq!(client.get("/watched").await.cache(), "fwd=bypass; detail=observed");
    assert_eq!(app.count("/watched"), 2);
    let observed = r#"spillway_observed_total{outcome="use",route="watched",rule="cache"}"#;
    assert_eq!(sidecar.metric(observed).await, 2.0);
}

#[tokio::test]
async fn nothing_is_stored_without_a_cache_rule() {
    let (app, _sidecar, client) = started().await;
    app.on("/free", Reply::ok("x").with("cache-control", "public, max-age=60"));
    client.get("/free").await;
    assert_eq!(client.get("/free").await.header("cache-status"), "");
    assert_eq!(app.count("/free"), 2);
}

#[tokio::test]
async fn answers_judged_by_old_rules_are_not_served_under_new_ones() {
    let (app, sidecar, client) = started().await;
    app.on("/minute/x", Reply::ok("leaked"));
    client.get("/minute/x").await;
    sidecar.change_rules(&RULES.replace("query = [\"a\", \"b\"]", "query = [\"a\"]"));
    eventually("the rules are reloaded", || async {
        (sidecar.metric(r#"spillway_rules_reloads_total{result="success"}"#).await > 0.0)
            .then_some(())
    })
    .await;
    app.on("/minute/x", Reply::ok("mended"));
    assert_eq!(client.get("/minute/x").await.text(), "mended");
}
