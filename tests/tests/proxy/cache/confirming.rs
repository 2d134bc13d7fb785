//! What a 304 makes of a stored answer, at the sidecar; `tests/cases/confirming.toml` has the rules.

use support::{App, Asked, Client, Reply, Spillway};

const RULES: &str = r#"
    [[route]]
    name  = "origin"
    match = { path = "/origin/{*rest}" }
    cache = { sidecar = "from-origin" }

    [[route]]
    name  = "told"
    match = { path = "/told" }
    cache = { sidecar = "from-origin", browser = "10s" }
"#;

async fn started() -> (App, Spillway, Client) {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let client = sidecar.client();
    (app, sidecar, client)
}

/// An application whose answer has the entity tag `"v1"`, and is confirmed by `again`.
fn confirms(first: Reply, again: Reply) -> impl Fn(&Asked) -> Reply {
    move |asked| match asked.header("if-none-match") {
        Some("\"v1\"") => again.clone(),
        _ => first.clone().with("etag", "\"v1\""),
    }
}

#[tokio::test]
async fn an_unchanged_answer_is_revalidated_not_sent_again() {
    let (app, _sidecar, client) = started().await;
    app.answer("/origin/x", |asked| match asked.header("if-none-match") {
        Some("\"v1\"") => Reply::status(304).with("x-version", "2"),
        _ => Reply::ok("body")
            .with("etag", "\"v1\"")
            .with("cache-control", "max-age=0")
            .with("x-version", "1"),
    });
    client.get("/origin/x").await;
    let again = client.get("/origin/x").await;
    assert_eq!(
        (again.status, again.text().as_str(), again.header("x-version").as_str()),
        (200, "body", "2")
    );
    assert_eq!(again.cache(), "hit; fwd=stale; fwd-status=304; stored");
}

#[tokio::test]
async fn what_caches_behind_us_said_of_the_first_answer_is_not_told_of_the_confirmed_one() {
    let (app, _sidecar, client) = started().await;
    let first = Reply::ok("body").with("cache-control", "max-age=0");
    let first = first.with("cache-status", "inner; fwd=uri-miss; stored").with("age", "9");
    app.answer("/origin/x", confirms(first, Reply::status(304)));
    client.get("/origin/x").await;
    let again = client.get("/origin/x").await;
    assert_eq!(
        again.header("cache-status"),
        "spillway-sidecar; hit; fwd=stale; fwd-status=304; stored"
    );
    assert_eq!(again.header("age"), "0");
}

#[tokio::test]
async fn a_cookie_that_comes_with_a_304_goes_to_its_client_only_and_the_answer_stays_stored() {
    let (app, _sidecar, client) = started().await;
    let again = Reply::status(304).with("set-cookie", "session=ann");
    let again = again.with("cache-control", "max-age=60");
    let first = Reply::ok("body").with("cache-control", "max-age=0");
    app.answer("/origin/x", confirms(first, again));
    client.get("/origin/x").await;
    let asker = client.get("/origin/x").await;
    assert_eq!(
        (asker.text().as_str(), asker.header("set-cookie").as_str()),
        ("body", "session=ann")
    );
    let other = client.get("/origin/x").await;
    assert!(other.cache().starts_with("hit; ttl="), "{}", other.cache());
    assert_eq!((other.text().as_str(), other.header("set-cookie").as_str()), ("body", ""));
}

#[tokio::test]
async fn after_a_304_without_cache_control_the_origins_own_words_count_not_those_for_browsers() {
    let (app, _sidecar, client) = started().await;
    let first = Reply::ok("body").with("cache-control", "max-age=0");
    app.answer("/told", confirms(first, Reply::status(304)));
    for _ in 0..3 {
        let answer = client.get("/told").await;
        assert_eq!(answer.header("cache-control"), "max-age=10");
    }
    assert_eq!(app.count("/told"), 3, "the origin said max-age=0, and never anything else");
}

#[tokio::test]
async fn an_answer_that_a_304_forbids_to_keep_is_given_once_more_and_never_again() {
    let (app, _sidecar, client) = started().await;
    let again = Reply::status(304).with("cache-control", "private");
    let first = Reply::ok("body").with("cache-control", "max-age=0, stale-if-error=3600");
    app.answer("/origin/x", confirms(first, again));
    client.get("/origin/x").await;
    let last = client.get("/origin/x").await;
    assert_eq!((last.status, last.text().as_str()), (200, "body"));
    assert_eq!(last.cache(), "fwd=stale; detail=private");
    app.on("/origin/x", Reply::status(500));
    assert_eq!(client.get("/origin/x").await.status, 500, "nothing stale is left of it");
}
