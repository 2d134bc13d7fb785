//! Cache poisoning and cache deception against the default configuration: an application that shows
//! in every answer everything that it was asked with, and clients who try to make others see it.

use support::{App, Asked, Client, Reply, Spillway, raw};

const RULES: &str = r#"
    [[route]]
    name  = "all"
    match = { path = "/{*rest}" }
    cache = { sidecar = "1m" }
"#;

const CANARY: &str = "canary7f3a";

/// What scanners try (Kettle, Practical Web Cache Poisoning, 2018; of Web Cache Vulnerability Scanner,
/// Param Miner and cpd the part that is about headers applications and frameworks read; all names of
/// the first: benches/cache/scanners.py).
#[rustfmt::skip]
const HEADERS: [&str; 95] = [
    "__requesturi",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-method",
    "base-url",
    "cache-control",
    "cf-connecting-ip",
    "client-ip",
    "cluster-client-ip",
    "contact",
    "content-type",
    "date",
    "destination",
    "dnt",
    "early-data",
    "expect-ct",
    "fastly-client-ip",
    "forwarded",
    "from",
    "front-end-https",
    "host-override",
    "http-host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "link",
    "max-forwards",
    "next-resume",
    "next-router-prefetch",
    "next-router-state-tree",
    "next-url",
    "origin",
    "pragma",
    "prefer",
    "proxy-host",
    "purpose",
    "range",
    "redirect",
    "referer",
    "request-uri",
    "rsc",
    "save-data",
    "sec-fetch-dest",
    "sec-fetch-site",
    "tracestate",
    "true-client-ip",
    "uri",
    "url",
    "user-agent",
    "via",
    "x-amz-website-redirect-location",
    "x-api-version",
    "x-arbitrary",
    "x-client-ip",
    "x-csrf-token",
    "x-custom-ip-authorization",
    "x-device",
    "x-forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-locale",
    "x-method-override",
    "x-middleware-subrequest",
    "x-mobile",
    "x-nextjs-data",
    "x-now-route-matches",
    "x-original-host",
    "x-original-url",
    "x-originating-ip",
    "x-proxy-url",
    "x-real-ip",
    "x-requested-with",
    "x-rewrite-url",
    "x-shard",
    "x-shard-note",
    "x-tenant-id",
    "x-url-scheme",
    "x-wap-profile",
    "x_forwarded_host",
];

/// All that the application was asked with.
fn reflection(asked: &Asked) -> Reply {
    Reply::ok(format!("{} {} {:?} {:?}", asked.method, asked.target, asked.headers, asked.body))
}

/// Nobody is believed; clients are, how they asked; clients are, in all.
const TRUSTED: [&str; 3] = ["none", "private", "127.0.0.0/8"];

async fn started(trusted: &str, paths: &[&str]) -> (App, Spillway, Client) {
    let app = App::start().await;
    for path in paths {
        app.answer(path, reflection);
    }
    let sidecar = Spillway::proxy(RULES, &app).with("--trusted-proxy", trusted).start().await;
    let client = sidecar.client();
    (app, sidecar, client)
}

/// What the next client sees, which knows nothing of the attacker.
async fn victim(client: &Client, target: &str) -> String {
    let answer = client.get(target).await;
    assert!(answer.status == 200 && !answer.text().is_empty(), "{target}: {}", answer.status);
    answer.text()
}

#[tokio::test]
async fn no_header_of_one_client_shows_in_the_answer_of_another() {
    for trusted in TRUSTED {
        let paths: Vec<String> =
            (0..HEADERS.len()).map(|number| format!("/page/{number}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let (_app, _sidecar, client) = started(trusted, &paths).await;
        for (name, path) in HEADERS.iter().zip(paths) {
            let answered = client.with(name, CANARY).get(path).await;
            assert!(answered.status < 500, "{name}: {}", answered.status);
            let seen = victim(&client, path).await;
            assert!(!seen.contains(CANARY), "{name} reached a shared answer: {seen}");
            // It was in danger: the answer is kept and shared.
            let next = client.get(path).await;
            assert!(next.cache().starts_with("hit"), "{name}: {}", next.cache());
            assert_eq!(next.text(), seen, "{name}");
        }
    }
}

#[tokio::test]
async fn what_the_application_says_it_looks_at_keeps_clients_apart() {
    for trusted in TRUSTED {
        let (app, _sidecar, client) = started(trusted, &[]).await;
        app.answer("/page", |asked| reflection(asked).with("vary", "x-locale, user-agent"));
        let attacker = client.with("x-locale", CANARY).with("user-agent", CANARY);
        assert!(
            attacker.get("/page").await.text().contains(CANARY),
            "the attacker gets the own answer"
        );
        assert!(!victim(&client, "/page").await.contains(CANARY));
        assert!(!victim(&client.with("x-locale", "de"), "/page").await.contains(CANARY));
    }
}

#[tokio::test]
async fn a_body_of_a_get_and_an_override_of_its_method_reach_nobody_else() {
    for trusted in TRUSTED {
        let (_app, sidecar, client) = started(trusted, &["/page", "/other"]).await;
        let fat = format!(
            "GET /page HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{CANARY}",
            sidecar.address(),
            CANARY.len()
        );
        raw(sidecar.address(), &fat, "\0").await;
        assert!(!victim(&client, "/page").await.contains(CANARY));
        for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
            client.with(name, "POST").get("/other").await;
            assert!(!victim(&client, "/other").await.contains("POST"), "{name}");
        }
    }
}

#[tokio::test]
async fn ways_of_writing_a_path_do_not_put_one_pages_answer_under_anothers_name() {
    for trusted in TRUSTED {
        let (app, sidecar, client) = started(trusted, &["/page"]).await;
        let host = sidecar.address();
        for target in [
            "/x/../page",
            "/x/%2e%2e/page",
            "/x%2f..%2fpage",
            "/page%00",
            "/page%3Fa=1",
            "/page%23a",
            "/page;a=1",
            "//page",
            "/./page",
            "\\page",
            "/x\\..\\page",
            "/page%0d%0aset-cookie:a=1",
            "/page/",
            "/PAGE",
            "/%70age",
            "/page?%61=1",
            "/page#a",
            "/page%20",
            "/%2fpage",
        ] {
            let request =
                format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            raw(host, &request, "\0").await;
        }
        let seen = victim(&client, "/page").await;
        assert!(seen.starts_with("GET /page "), "{seen}");
        // Whatever was written, the application was asked for the page in one way only.
        assert!(
            app.asked("/page").iter().all(|asked| asked.target.split('?').next() == Some("/page"))
        );
    }
}

#[tokio::test]
async fn a_private_page_under_the_name_of_a_file_is_not_kept() {
    let app = App::start().await;
    let sidecar = Spillway::proxy(
        &RULES.replace("sidecar = \"1m\"", "sidecar = \"1m\", ignore_cookies = true"),
        &app,
    )
    .start()
    .await;
    let client = sidecar.client();
    for (path, kind) in [
        ("/account/x.css", "text/html; charset=utf-8"),
        ("/account/x.js", "application/json"),
        ("/account/x.PNG", "text/html"),
        ("/account;x.css", "text/html"),
        ("/account/x.woff2", "application/xhtml+xml"),
    ] {
        app.on(path, Reply::ok("the account of alice").with("content-type", kind));
        let first = client.get(path).await;
        assert_eq!(first.cache(), "fwd=uri-miss; detail=content-type-mismatch", "{path}");
    }
    app.on("/account/y.css", Reply::ok("p{}").with("content-type", "text/css"));
    assert_eq!(client.get("/account/y.css").await.cache(), "fwd=uri-miss; stored");
}

#[tokio::test]
async fn answers_for_one_person_are_never_shared() {
    for trusted in TRUSTED {
        let (app, _sidecar, client) = started(trusted, &[]).await;
        for (name, value) in [
            ("cache-control", "private"),
            ("cache-control", "max-age=60, No-Store"),
            ("set-cookie", "session=1"),
            ("cdn-cache-control", "private"),
        ] {
            let path = format!("/me/{}", value.len());
            app.on(&path, Reply::ok("alice").with(name, value));
            client.get(&path).await;
            app.on(&path, Reply::ok("bob"));
            assert_eq!(victim(&client, &path).await, "bob", "{name}: {value}");
        }
        app.answer("/auth", |asked| {
            Reply::ok(asked.header("authorization").unwrap_or("anonymous").to_owned())
        });
        assert_eq!(victim(&client, "/auth").await, "anonymous");
        let alice = client.with("authorization", "alice");
        assert_eq!(victim(&alice, "/auth").await, "alice", "not what the anonymous one was shown");
        assert_eq!(victim(&client, "/auth").await, "anonymous");
        app.answer("/cookie", |asked| {
            Reply::ok(asked.header("cookie").unwrap_or("none").to_owned())
        });
        assert_eq!(victim(&client.with("cookie", "alice"), "/cookie").await, "alice");
        assert_eq!(victim(&client, "/cookie").await, "none");
    }
}

#[tokio::test]
async fn more_fields_than_are_learned_are_shown_and_their_answers_not_kept() {
    for trusted in TRUSTED {
        let (app, _sidecar, client) = started(trusted, &[]).await;
        let names: Vec<String> = (0..9).map(|number| format!("x-note-{number}")).collect();
        let vary = names.join(", ");
        app.answer("/page", move |asked| reflection(asked).with("vary", &vary));
        let talkative = names.iter().fold(client.clone(), |client, name| client.with(name, CANARY));
        for _ in 0..2 {
            let seen = talkative.get("/page").await;
            assert!(names.iter().all(|name| seen.text().contains(name)), "{}", seen.text());
            assert!(!seen.cache().contains("stored") && !seen.cache().starts_with("hit"));
        }
        assert!(!victim(&client, "/page").await.contains(CANARY));
    }
}

#[tokio::test]
async fn the_app_sees_the_same_of_a_client_whether_or_not_its_answer_is_kept() {
    for trusted in TRUSTED {
        let (app, _sidecar, client) = started(trusted, &[]).await;
        app.on("/page", Reply::ok("mine").with("cache-control", "no-store"));
        let asking = client.with("x-arbitrary", CANARY).with("if-none-match", "\"1\"");
        for _ in 0..2 {
            asking.get("/page").await;
        }
        let asked = app.asked("/page");
        assert!(asked.iter().all(|asked| asked.header("x-arbitrary").is_none()));
        let conditions: Vec<_> = asked.iter().map(|asked| asked.header("if-none-match")).collect();
        assert_eq!(
            conditions,
            [None, Some("\"1\"")],
            "its own conditions, once nothing can be kept"
        );
    }
}
