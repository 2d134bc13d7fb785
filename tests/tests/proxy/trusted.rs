//! Behind other proxies: who is believed in what, and that nobody's word becomes another's answer.

use support::{App, Asked, Reply, Spillway, raw};

const CACHED: &str = r#"
[[route]]
name  = "cached"
match = { path = "/cached" }
cache = { sidecar = "1m" }
"#;

const FIELDS: [(&str, &str); 14] = [
    ("x-forwarded-for", "203.0.113.9"),
    ("x-real-ip", "203.0.113.9"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "shop.example"),
    ("x-forwarded-port", "443"),
    ("x-forwarded-scheme", "https"),
    ("x-forwarded-ssl", "on"),
    ("x-forwarded-prefix", "/shop"),
    ("x-forwarded-user", "alice"),
    ("x-forwarded-email", "alice@shop.example"),
    ("x-forwarded-groups", "staff"),
    ("x-forwarded-access-token", "t0ken"),
    ("x-forwarded-client-cert", "Hash=1"),
    ("client-cert", ":AA==:"),
];
/// Of these, those that tell how the request came.
const OF_THE_WAY: usize = 7;

/// What the app sees of a request with all these fields.
async fn seen(trusted: &[&str]) -> Asked {
    let app = App::start().await;
    app.on("/", Reply::ok(""));
    let mut setup = Spillway::proxy("", &app);
    for block in trusted {
        setup = setup.with("--trusted-proxy", block);
    }
    let sidecar = setup.start().await;
    let mut client = sidecar.client().with("x-request-id", "7").with("forwarded", "for=1.1.1.1");
    for (name, value) in FIELDS {
        client = client.with(name, value);
    }
    client.get("/").await;
    app.asked("/").remove(0)
}

fn kept(asked: &Asked) -> Vec<&'static str> {
    let is_kept = |(name, value): &(&'static str, &str)| {
        asked.header(name).is_some_and(|found| found.starts_with(value))
    };
    FIELDS.into_iter().filter(is_kept).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn a_named_proxy_is_believed_in_all_but_forwarded() {
    let asked = seen(&["127.0.0.0/8"]).await;
    assert_eq!(kept(&asked), FIELDS.map(|(name, _)| name));
    assert_eq!(asked.header("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
    assert_eq!(asked.header("forwarded"), None);
}

#[tokio::test]
async fn a_peer_on_the_same_network_is_believed_how_it_was_asked_and_nothing_else() {
    let asked = seen(&["private"]).await;
    assert_eq!(
        kept(&asked),
        FIELDS[..OF_THE_WAY].iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    assert_eq!(asked.header("x-request-id"), Some("7"));
    assert_eq!(asked.header("x-forwarded-user"), None);
}

#[tokio::test]
async fn whoever_is_not_trusted_says_nothing_of_others() {
    for trusted in [&[][..], &["none"], &["10.0.0.0/8"]] {
        let asked = seen(trusted).await;
        assert_eq!(kept(&asked), Vec::<&str>::new(), "{trusted:?}");
        assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(asked.header("x-forwarded-proto"), Some("http"));
    }
}

#[tokio::test]
async fn forwarded_counts_where_the_operator_says_so_and_must_agree() {
    let app = App::start().await;
    app.on("/", Reply::ok(""));
    let setup = Spillway::proxy("", &app).with("--trusted-proxy", "127.0.0.1");
    let sidecar = setup.env("SPILLWAY_FORWARDED_FIELD", "true").start().await;
    let client =
        sidecar.client().with("forwarded", "for=203.0.113.9;proto=https;host=shop.example");
    assert_eq!(client.get("/").await.status, 200);
    let asked = app.asked("/").remove(0);
    let forwarded = "for=203.0.113.9;proto=https;host=shop.example, for=127.0.0.1";
    assert_eq!(asked.header("forwarded"), Some(forwarded));
    assert_eq!(asked.header("x-forwarded-proto"), Some("https"));
    assert_eq!(asked.header("x-forwarded-host"), Some("shop.example"));
    let refused = client.with("x-forwarded-proto", "http").get("/").await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "forwarded-conflict"));
}

#[tokio::test]
async fn what_is_stated_of_scheme_and_host_keeps_answers_apart() {
    let app = App::start().await;
    app.answer("/cached", |asked| {
        let of = |name| asked.header(name).unwrap_or("none").to_owned();
        Reply::ok(format!("{}://{}", of("x-forwarded-proto"), of("x-forwarded-host")))
    });
    let sidecar = Spillway::proxy(CACHED, &app).with("--trusted-proxy", "private").start().await;
    let client = sidecar.client().with("host", "inner");
    let ask = |proto: &str, host: &str| {
        let client = client.with("x-forwarded-proto", proto).with("x-forwarded-host", host);
        async move { client.get("/cached").await }
    };
    for (proto, host) in [("https", "a.example"), ("http", "a.example"), ("https", "b.example")] {
        let answer = ask(proto, host).await;
        assert_eq!(answer.text(), format!("{proto}://{host}"));
        assert!(answer.cache().starts_with("fwd=uri-miss"), "{}", answer.cache());
        assert!(ask(proto, host).await.cache().starts_with("hit"));
    }
    // What only comes before the nearest proxy's word may be a client's: it is no key and reaches nobody.
    let answer = ask("http, https", "evil.example, a.example").await;
    assert!(answer.cache().starts_with("hit"), "{}", answer.cache());
    assert_eq!(answer.text(), "https://a.example");
}

#[tokio::test]
async fn a_write_makes_obsolete_what_is_stored_under_the_host_that_the_proxy_states() {
    let app = App::start().await;
    app.on("/cached", Reply::ok("old"));
    let sidecar = Spillway::proxy(CACHED, &app).with("--trusted-proxy", "private").start().await;
    let inner = sidecar.client().with("host", "inner");
    let (own, other) =
        (inner.with("x-forwarded-host", "a.example"), inner.with("x-forwarded-host", "b.example"));
    own.get("/cached").await;
    other.get("/cached").await;
    app.on("/cached", Reply::ok("new"));
    own.post("/cached", "change").await;
    assert_eq!(own.get("/cached").await.text(), "new");
    assert_eq!(other.get("/cached").await.text(), "old");
}

#[tokio::test]
async fn what_is_no_part_of_a_key_stays_back_on_a_cached_route() {
    let app = App::start().await;
    app.on("/cached", Reply::ok("x"));
    let sidecar =
        Spillway::proxy(CACHED, &app).with("--trusted-proxy", "127.0.0.0/8").start().await;
    let mut client = sidecar.client();
    for (name, value) in FIELDS {
        client = client.with(name, value);
    }
    client.get("/cached").await;
    assert_eq!(kept(&app.asked("/cached")[0]), ["x-forwarded-proto", "x-forwarded-host"]);
}

#[tokio::test]
async fn a_list_of_trusted_proxies_that_says_two_things_stops_the_start() {
    let app = App::start().await;
    for wrong in [&["none", "private"][..], &["privat"]] {
        let mut setup = Spillway::proxy("", &app);
        for text in wrong {
            setup = setup.with("--trusted-proxy", text);
        }
        let ended = setup.refused().await;
        assert_eq!(ended.code, Some(78), "{}", ended.errors);
        assert!(ended.errors.contains("--trusted-proxy"), "{}", ended.errors);
    }
}

#[tokio::test]
async fn a_client_of_another_proxy_can_not_choose_the_host_of_a_route() {
    let app = App::start().await;
    app.on("/only", Reply::ok(""));
    let rules = "[[route]]\nname = \"only\"\nmatch = { path = \"/only\", hosts = [\"inner\"] }\nmax_body = \"1B\"\n";
    let sidecar = Spillway::proxy(rules, &app).with("--trusted-proxy", "private").start().await;
    let request = "POST /only HTTP/1.1\r\nHost: inner\r\nX-Forwarded-Host: other\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let answer = raw(sidecar.address(), request, "<closed>").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}
