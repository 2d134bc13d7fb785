//! Answers under the names of assets at the sidecar, with and without its cache.

use support::{App, Client, Reply, Spillway};

const RULES: &str = r#"
    [[route]]
    name  = "edge-only"
    match = { path = "/assets/{*file}" }
    cache = { versioned = true }

    [[route]]
    name  = "kept"
    match = { path = "/kept/{*file}" }
    cors  = { origins = ["*"] }
    cache = { versioned = "all", sidecar = "1h" }
"#;
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

async fn started() -> (App, Spillway, Client) {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let client = sidecar.client();
    (app, sidecar, client)
}

#[tokio::test]
async fn what_stands_in_the_place_of_an_asset_is_kept_by_no_browser() {
    let (app, _sidecar, client) = started().await;
    for (folder, status, kind) in [
        ("/assets", 404, "text/javascript"),
        ("/assets", 503, "text/javascript"),
        ("/assets", 302, "text/javascript"),
        ("/assets", 200, "text/html"),
        ("/kept", 404, "text/javascript"),
        ("/kept", 503, "text/javascript"),
        ("/kept", 200, "text/html"),
    ] {
        let path = format!("{folder}/app-{status}{}.v1.js", kind.len());
        let reply = Reply::status(status).with("content-type", kind);
        app.on(&path, reply.with("cache-control", IMMUTABLE).with("location", "/login"));
        for _ in 0..2 {
            let answer = client.get(&path).await;
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        }
    }
}

#[tokio::test]
async fn an_asset_is_immutable_once_it_is_kept_and_as_the_app_says_where_it_passes_by() {
    let (app, _sidecar, client) = started().await;
    for (path, words, count) in
        [("/assets/app.v1.js", "max-age=60", 2), ("/kept/app-BqL7urjy.js", IMMUTABLE, 1)]
    {
        let reply = Reply::ok("run()").with("content-type", "text/javascript");
        app.on(path, reply.with("cache-control", "max-age=60").with("set-cookie", "session=2"));
        for _ in 0..2 {
            assert_eq!(client.get(path).await.header("cache-control"), words, "{path}");
        }
        assert_eq!(app.count(path), count, "{path}");
    }
    assert_eq!(client.get("/assets/app.v1.js").await.header("set-cookie"), "session=2");
    assert_eq!(client.get("/kept/app-BqL7urjy.js").await.header("set-cookie"), "");
}

#[tokio::test]
async fn a_font_is_one_answer_for_pages_of_all_origins() {
    let (app, _sidecar, client) = started().await;
    let path = "/kept/Inter-BqL7urjy.woff2";
    app.answer(path, |asked| {
        let reply = Reply::ok("font").with("content-type", "font/woff2").with("vary", "Origin");
        let origin = asked.header("origin").unwrap_or("https://nobody.example");
        let reply = reply.with("access-control-allow-origin", origin);
        reply.with("access-control-allow-credentials", "true")
    });
    for origin in ["https://a.example", "https://b.example"] {
        let answer = client.with("origin", origin).get(path).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        assert_eq!(answer.header("vary"), "");
    }
    assert_eq!(app.count(path), 1);
    app.on("/kept/Gone-BqL7urjy.woff2", Reply::status(404));
    let missing = client.with("origin", "https://a.example").get("/kept/Gone-BqL7urjy.woff2").await;
    assert_eq!(missing.header("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn a_coded_asset_costs_one_request_per_coding() {
    let (app, _sidecar, client) = started().await;
    let path = "/kept/index-BqL7urjy.js";
    app.answer(path, |asked| {
        let coding = asked.header("accept-encoding").unwrap_or("identity").to_owned();
        let reply = Reply::ok(coding.clone()).with("content-type", "text/javascript");
        reply.with("vary", "Accept-Encoding").with("content-encoding", &coding)
    });
    for _ in 0..2 {
        for coding in ["gzip", "br"] {
            let answer = client.with("accept-encoding", coding).get(path).await;
            assert_eq!(answer.text(), coding);
        }
    }
    assert_eq!(app.count(path), 2);
}
