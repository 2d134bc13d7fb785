//! `spillway explain --answer`: whether an answer of the app would be stored, and why.

use support::{App, Ended, Reply, Spillway, folder, run};

const RULES: &str = r#"
    [[route]]
    name  = "items"
    match = { path = "/items/{id}" }
    cache = { edge = "5s", sidecar = "1s", stale_while_revalidate = "2s", max_staleness = "9s", tags = ["item-{id}"] }

    [[route]]
    name  = "rest"
    match = { path = "/{*rest}" }
    cache = { sidecar = "from-origin", strip_cookies = true }

    [[route]]
    name  = "assets"
    match = { path = "/assets/{*file}" }
    cache = { versioned = true }
"#;

/// What is said of an answer with these field lines.
async fn explain(request: &[&str], answer: &str) -> Ended {
    let files = folder();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let (routes, answer) = (write("routes.toml", RULES), write("answer", answer));
    let arguments = ["--routes", &routes, "--answer", &answer];
    run(&[&["explain", "GET"], request, &arguments].concat()).await
}

/// The part about one tier.
fn tier<'t>(text: &'t str, name: &str) -> &'t str {
    let part = text.split_once(&format!("\n{name}\n")).expect("the tier").1;
    part.split("\n\n").next().unwrap_or_default()
}

#[tokio::test]
async fn an_answer_that_is_stored_is_told_with_lifetime_source_windows_vary_and_tags() {
    let answer =
        "HTTP/1.1 200 OK\r\nAge: 2\r\nVary: Accept-Language\r\nSurrogate-Key: x\r\n\r\nbody";
    let told = explain(&["/items/7", "-H", "Accept-Language: de"], answer).await;
    assert_eq!(told.code, Some(0), "{}", told.errors);
    for (name, fresh) in [("edge", 5000), ("sidecar", 1000)] {
        let text = tier(&told.output, name);
        for part in [
            "asked    once more, with accept-language",
            &format!("fresh    {fresh} ms, by rule, 2000 ms old when it came"),
            "stale    2000 ms while it is renewed",
            "never older than 9000 ms",
            "vary     accept-language: only for requests with the same (de)",
            "item-7",
            " x",
            &format!("says     Cache-Status: spillway-{name}; fwd=uri-miss; stored"),
        ] {
            assert!(text.contains(part), "{name}: {part}: {text}");
        }
    }
}

#[tokio::test]
async fn the_source_of_a_lifetime_has_a_name() {
    for (fields, fresh) in [
        ("Cache-Control: max-age=60, s-maxage=9", "9000 ms, by s-maxage"),
        ("Cache-Control: max-age=60", "60000 ms, by max-age"),
        ("CDN-Cache-Control: max-age=7\nCache-Control: no-store", "7000 ms, by max-age"),
        (
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\nExpires: Sun, 06 Nov 1994 08:49:47 GMT\nETag: \"1\"",
            "10000 ms, by expires",
        ),
        ("Cache-Control: no-cache\nETag: \"1\"", "0 ms, by no-cache"),
        ("ETag: \"1\"", "0 ms, by nothing"),
    ] {
        let told = explain(&["/page"], &format!("HTTP/1.1 200 OK\n{fields}\n")).await;
        let text = tier(&told.output, "sidecar");
        assert!(text.contains(&format!("fresh    {fresh}")), "{fields}: {text}");
    }
    let told = explain(&["/items/7"], "HTTP/1.1 404 Not Found\n").await;
    assert!(
        tier(&told.output, "edge").contains("fresh    5000 ms, by not-found"),
        "{}",
        told.output
    );
}

/// What `explain` says is what the sidecar does.
#[tokio::test]
async fn the_reason_of_an_answer_that_is_not_stored_is_the_one_in_cache_status() {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    for (target, name, value) in [
        ("/items/1", "cache-control", "private"),
        ("/items/2", "cache-control", "no-store"),
        ("/items/3", "set-cookie", "a=1"),
        ("/items/4", "vary", "*"),
        ("/items/5", "content-type", "text/event-stream"),
        ("/page.css", "content-type", "text/html"),
        ("/page", "content-type", "text/html"),
    ] {
        app.on(target, Reply::ok("").with(name, value));
        let member = sidecar.client().get(target).await.cache();
        let reason = member.rsplit("detail=").next().unwrap_or_default();
        let told = explain(&[target], &format!("HTTP/1.1 200 OK\n{name}: {value}\n\n")).await;
        let text = tier(&told.output, "sidecar");
        assert!(text.contains(&format!("stored   no: {reason}\n")), "{value}: {member}: {text}");
        assert!(text.contains(&member), "{value}: {member}: {text}");
    }
}

#[tokio::test]
async fn of_a_request_past_the_cache_no_answer_is_stored_and_what_is_no_answer_is_refused() {
    let told = explain(&["/page", "-H", "Cookie: a=1"], "HTTP/1.1 200 OK\n").await;
    let text = tier(&told.output, "sidecar");
    assert!(text.contains("stored   no: the request does not use the cache (cookie)"), "{text}");
    // curl prints all heads; the last one counts.
    let heads =
        "HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/2 200\ncache-control: max-age=60\n\n\u{0}";
    let told = explain(&["/page"], heads).await;
    assert!(told.output.contains("60000 ms, by max-age"), "{}", told.output);
    for none in ["", "200 OK", "HTTP/1.1\n", "HTTP/1.1 200 OK\nno field"] {
        let told = explain(&["/page"], none).await;
        assert_eq!(told.code, Some(78), "{none}: {}", told.output);
    }
}

#[tokio::test]
async fn a_name_without_a_version_is_told_with_what_to_write() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\n\r\n";
    let told = explain(&["/assets/index-BqL7urjy.js"], answer).await;
    let text = tier(&told.output, "edge");
    assert!(text.contains("no version in this name"), "{text}");
    assert!(text.contains("versioned = \"all\""), "{text}");
    let known = explain(&["/assets/index-3f2a9c1b.js"], answer).await;
    let text = tier(&known.output, "edge");
    assert!(text.contains("versioned: immutable") && !text.contains("no version"), "{text}");
}
