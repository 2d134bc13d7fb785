//! Pages and APIs as frameworks write them, at the sidecar's cache: redirects that depend on fields that
//! nobody names, sessions beside anonymous visitors, and tokens.

use std::path::Path;
use support::{App, Client, Reply, Spillway, eventually, folder, run};

const RULES: &str = r#"
    [[route]]
    name  = "page"
    match = { path = "/page/{*rest}" }
    cache = { sidecar = "1m", ignore_cookies = true }

    [[route]]
    name  = "anonymous"
    match = { path = "/anonymous/{*rest}" }
    cache = { sidecar = "1m", bypass_cookies = ["session"], cookies = ["theme"] }

    [[route]]
    name  = "api"
    match = { path = "/api/{*rest}" }
    cache = { sidecar = "1m", headers = ["Authorization"], stale_if_error = "1h" }

    [[route]]
    name  = "asked-again"
    match = { path = "/asked-again" }
    cache = { sidecar = "1ms", headers = ["Authorization"], stale_if_error = "1h" }

    [[route]]
    name  = "without-tokens"
    match = { path = "/without-tokens" }
    cache = { sidecar = "from-origin" }
"#;

async fn started() -> (App, Spillway, Client) {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let client = sidecar.client();
    (app, sidecar, client)
}

/// A redirect to the page itself with another parameter, as Next.js answers a request whose checksum does
/// not fit.
fn back(path: &str) -> Reply {
    Reply::status(307).with("location", &format!("{path}?_rsc=other"))
}

#[tokio::test]
async fn a_redirect_to_itself_is_asked_for_whole_and_the_field_it_depends_on_is_learned() {
    let (app, sidecar, client) = started().await;
    app.answer("/page/next", |asked| match asked.header("next-url") {
        Some(url) => Reply::ok(format!("for {url}")),
        None => back("/page/next"),
    });
    let visitor = client.with("x-unused", "1").with("next-url", "/from").with("cookie", "a=b");
    let first = visitor.get("/page/next?_rsc=1").await;
    assert_eq!((first.status, first.text().as_str()), (200, "for /from"));
    assert_eq!(first.cache(), "fwd=uri-miss; detail=shown-too-little");
    let whole = app.asked("/page/next").into_iter().find(|asked| asked.header("cookie").is_some());
    assert!(whole.is_some(), "once with all that the client sent");
    sidecar.until_said("learned which fields a redirect depends on").await;
    assert!(!sidecar.said().contains("x-unused"), "it changes nothing");
    assert_eq!(visitor.get("/page/next?_rsc=1").await.cache(), "fwd=uri-miss; stored");
    assert!(visitor.get("/page/next?_rsc=1").await.cache().starts_with("hit"));
    let other = client.with("next-url", "/elsewhere").get("/page/next?_rsc=1").await;
    assert_eq!(other.text(), "for /elsewhere", "kept apart by it");
    assert_eq!(other.cache(), "fwd=vary-miss; stored");
}

#[tokio::test]
async fn a_redirect_that_no_field_alone_explains_passes_uncached_and_the_log_names_the_fields() {
    let (app, sidecar, client) = started().await;
    app.answer("/page/two", |asked| match asked.header("x-one").and(asked.header("x-two")) {
        Some(_) => Reply::ok("both"),
        None => back("/page/two"),
    });
    let visitor = client.with("x-one", "1").with("x-two", "1");
    assert_eq!(visitor.get("/page/two").await.text(), "both");
    // Not the name alone: the line of the request itself has it, too, before anything is known.
    sidecar.until_said("none of these fields alone explains it").await;
    let said = sidecar.said();
    assert!(said.contains("x-one") && said.contains("x-two") && said.contains("page"), "{said}");
    let asked = app.count("/page/two");
    let again = eventually("it passes", || async {
        let again = visitor.get("/page/two").await;
        (again.cache() == "fwd=bypass; detail=uncacheable").then_some(again)
    });
    // What passes as uncacheable is shown what a miss would be: it is not everybody's.
    assert_eq!(again.await.text(), "both");
    assert_eq!(app.count("/page/two"), asked + 1);
}

#[tokio::test]
async fn a_redirect_that_is_the_same_for_the_whole_request_is_given_and_kept_from_nobody() {
    let (app, _sidecar, client) = started().await;
    // The usual check for cookies: once round without, and on with it.
    app.answer("/page/checked", |asked| match asked.header("cookie") {
        Some(_) => Reply::ok("welcome"),
        None => Reply::status(301).with("location", "/page/checked").with("set-cookie", "seen=1"),
    });
    let first = client.get("/page/checked").await;
    assert_eq!((first.status, first.cache().as_str()), (301, "fwd=uri-miss; detail=leads-back"));
    assert_eq!(app.count("/page/checked"), 2, "once as the rules show it, once whole");
    let seen = client.with("cookie", "seen=1").get("/page/checked").await;
    assert_eq!((seen.status, seen.text().as_str()), (200, "welcome"), "not round for ever");
    app.on("/page/elsewhere", Reply::status(301).with("location", "/page/there"));
    client.get("/page/elsewhere").await;
    assert_eq!(app.count("/page/elsewhere"), 1);
    assert!(client.get("/page/elsewhere").await.cache().starts_with("hit"));
}

#[tokio::test]
async fn a_redirect_to_itself_needs_no_second_place_of_its_route() {
    let app = App::start().await;
    let rules =
        RULES.replacen("ignore_cookies = true }", "ignore_cookies = true }\n concurrency = 1", 1);
    let sidecar = Spillway::proxy(&rules, &app).start().await;
    app.answer("/page/next", |asked| match asked.header("next-url") {
        Some(_) => Reply::ok("page"),
        None => back("/page/next").body("moved"),
    });
    let answer = sidecar.client().with("next-url", "/from").get("/page/next").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "page"));
}

#[tokio::test]
async fn who_has_the_session_goes_past_the_cache_and_all_others_share_what_no_cookie_could_change()
{
    let (app, _sidecar, client) = started().await;
    app.answer("/anonymous/home", |asked| {
        Reply::ok(asked.header("cookie").unwrap_or("nobody").to_owned()).with("vary", "Cookie")
    });
    let get = async |cookie: &str| client.with("cookie", cookie).get("/anonymous/home").await;
    for session in
        ["session=ann", "a=b; session=ann", "session=", "session", " session = x", "Session=ann"]
    {
        let own = get(session).await;
        assert_eq!(own.cache(), "fwd=bypass; detail=bypass-cookie", "{session}");
        assert_eq!(own.text(), session.trim(), "the app sees the cookies of its user");
    }
    let several = client.with("cookie", "theme=dark").with("cookie", "session=ann");
    assert_eq!(several.get("/anonymous/home").await.cache(), "fwd=bypass; detail=bypass-cookie");
    for (cookie, seen) in [
        ("_ga=1", "nobody"),
        ("__Host-session=ann", "nobody"),
        ("sess%69on=ann", "nobody"),
        ("my session=ann", "nobody"),
        ("session[id]=ann", "nobody"),
        ("theme=dark; _ga=1", "theme=dark"),
        ("theme=\"session=ann\"", "theme=\"session=ann\""),
    ] {
        let answer = get(cookie).await;
        assert!(!answer.cache().contains("bypass"), "{cookie}: {}", answer.cache());
        assert_eq!(answer.text(), seen, "{cookie}");
    }
    assert!(get("_ga=2").await.cache().starts_with("hit"));
}

#[tokio::test]
async fn an_answer_for_the_bearer_of_a_token_is_for_that_bearer_only_and_the_token_stands_nowhere()
{
    let (app, sidecar, client) = started().await;
    app.answer("/api/me", |asked| {
        Reply::ok(asked.header("authorization").unwrap_or("nobody").to_owned())
    });
    let (ann, bob) = (
        client.with("authorization", "Bearer ann-secret"),
        client.with("authorization", "Bearer bob"),
    );
    for (who, text) in [(&ann, "Bearer ann-secret"), (&bob, "Bearer bob"), (&client, "nobody")] {
        assert_eq!(who.get("/api/me").await.cache(), "fwd=uri-miss; stored");
        let hit = who.get("/api/me").await;
        assert!(hit.cache().starts_with("hit"), "{}", hit.cache());
        assert_eq!(hit.text(), text);
    }
    assert_eq!(app.count("/api/me"), 3);
    assert!(!sidecar.said().contains("ann-secret"), "{}", sidecar.said());
    let files = folder();
    let routes = files.path().join("routes.toml");
    std::fs::write(&routes, RULES).expect("a file");
    let routes = routes.display().to_string();
    let header = "Authorization: Bearer ann-secret";
    let told = run(&["explain", "--routes", &routes, "GET", "/api/me", "-H", header]).await;
    assert_eq!(told.code, Some(0), "{}", told.errors);
    assert!(
        !told.output.contains("ann-secret") && told.output.contains("token"),
        "{}",
        told.output
    );
    checked(Path::new(&routes)).await;
}

/// `check` says what who caches for bearers of tokens should know.
async fn checked(routes: &Path) {
    let checked = run(&["check", &routes.display().to_string()]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.errors);
    let said = format!("{}{}", checked.output, checked.errors);
    assert!(said.contains("withdrawn-token"), "{said}");
}

#[tokio::test]
async fn a_token_that_the_app_does_not_take_any_more_reads_nothing_that_is_stored() {
    let (app, _sidecar, client) = started().await;
    let ann = client.with("authorization", "Bearer ann");
    for refusal in [401, 403] {
        app.on("/asked-again", Reply::ok("secret").with("etag", "\"1\""));
        ann.get("/asked-again").await;
        app.on("/asked-again", Reply::status(refusal));
        eventually("it is refused", || async {
            (ann.get("/asked-again").await.status == refusal).then_some(())
        })
        .await;
        app.on("/asked-again", Reply::status(500));
        assert_eq!(ann.get("/asked-again").await.status, 500, "nothing stale is left");
    }
}

#[tokio::test]
async fn what_cannot_be_stored_for_a_token_keeps_nobody_elses_request_from_the_cache() {
    let (app, _sidecar, client) = started().await;
    app.on("/without-tokens", Reply::ok("public").with("cache-control", "max-age=60"));
    let own = client.with("authorization", "Bearer ann").get("/without-tokens").await;
    assert_eq!(own.cache(), "fwd=uri-miss; detail=authorization");
    assert_eq!(client.get("/without-tokens").await.cache(), "fwd=uri-miss; stored");
    assert!(client.get("/without-tokens").await.cache().starts_with("hit"));
}
