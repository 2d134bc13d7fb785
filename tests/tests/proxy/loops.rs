//! Two sidecars that each take the other for the one who serves a request, and share no secret: the
//! request ends after a few forwards, whatever it is and however they speak.

use support::{App, Client, Relay, Reply, Spillway, raw};

const RULES: &str = r#"
    [[route]]
    name  = "prices"
    match = { path = "/prices/{id}" }
    shard = { map = "market", from = ["path:id"] }

    [[route]]
    name  = "cached"
    match = { path = "/cached/{id}", methods = ["GET"] }
    shard = { map = "market", from = ["path:id"] }
    cache = { sidecar = "1m" }

    [[route]]
    name     = "elsewhere"
    match    = { path = "/elsewhere" }
    upstream = "app-b"

    [shard_map.market]
    key_type = "int"
    ranges = [ { from = 1, shard = "a" }, { from = 10001, shard = "b" } ]
    shards = { a = { upstream = "app-a" }, b = { upstream = "app-b" } }
"#;
/// The first one, and those that it is sent on as: the last of them has four members and is refused.
const REQUESTS_MAX: f64 = 5.0;

struct Pair {
    app: App,
    one: Spillway,
    other: Spillway,
}

/// Each is asked for shard b by the other.
async fn pair(protocol: &str) -> Pair {
    let app = App::start().await;
    let relay = Relay::new().await;
    let sidecar = |to: &str, secret: char| {
        let upstreams = format!("app-a={protocol}://{to},app-b={protocol}://{to}");
        Spillway::proxy(RULES, &app)
            .with("--shard", "a")
            .with("--upstream", &upstreams)
            .env("SPILLWAY_SECRET", &secret.to_string().repeat(40))
    };
    let one = sidecar(relay.address(), '1').start().await;
    let other = sidecar(one.address(), '2').start().await;
    relay.lead_to(&[other.address()]);
    Pair { app, one, other }
}

impl Pair {
    fn client(&self) -> Client {
        self.one.client()
    }

    /// Requests that both have answered.
    async fn answered(&self, route: &str) -> f64 {
        let series = format!("spillway_http_requests_total{{code=\"5xx\",route=\"{route}\"}}");
        let unmatched = "spillway_http_requests_total{code=\"5xx\",route=\"unmatched\"}";
        let mut count = 0.0;
        for sidecar in [&self.one, &self.other] {
            count += sidecar.metric(&series).await + sidecar.metric(unmatched).await;
        }
        count
    }
}

#[tokio::test]
async fn a_request_that_goes_round_is_refused_by_name_over_either_protocol() {
    for protocol in ["http", "h2c"] {
        for (path, route) in
            [("/prices/15000", "prices"), ("/cached/15000", "cached"), ("/elsewhere", "elsewhere")]
        {
            let pair = pair(protocol).await;
            let answer = pair.client().get(path).await;
            let seen = (answer.status, answer.problem());
            assert_eq!(seen, (508, "shard-loop".to_owned()), "{protocol} {path}");
            assert_eq!(answer.header("cache-control"), "no-store", "{protocol} {path}");
            let answered = pair.answered(route).await;
            assert!(answered <= REQUESTS_MAX, "{protocol} {path}: {answered} requests");
            assert!(answered > 1.0, "{protocol} {path}: it did not go round");
            let refused = "spillway_problems_total{problem=\"shard-loop\",route=\"unmatched\"}";
            let refused = pair.one.metric(refused).await + pair.other.metric(refused).await;
            assert_eq!(refused, 1.0, "{protocol} {path}");
        }
    }
}

#[tokio::test]
async fn an_upgrade_that_goes_round_is_refused_too() {
    let pair = pair("http").await;
    let asked = "GET /prices/15000 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = raw(pair.one.address(), asked, "shard-loop").await;
    assert!(answer.starts_with("HTTP/1.1 508 "), "{answer}");
    assert!(pair.answered("prices").await <= REQUESTS_MAX);
}

#[tokio::test]
async fn members_of_others_stay_and_the_app_beside_us_gets_none_of_ours() {
    let pair = pair("http").await;
    pair.app.on("/prices/5", Reply::ok("own"));
    let asking = pair.client().with("cdn-loop", "cloudflare; subreqs=1");
    asking.get("/prices/5").await;
    let asked = pair.app.asked("/prices/5").remove(0);
    assert_eq!(asked.header("cdn-loop"), Some("cloudflare; subreqs=1"));
    // To anybody else one member more.
    let elsewhere = App::start().await;
    elsewhere.on("/elsewhere", Reply::ok("there"));
    let there = format!("app-a=http://127.0.0.1:1,app-b={}", elsewhere.url());
    let sidecar = Spillway::proxy(RULES, &pair.app).with("--upstream", &there).start().await;
    let asking = sidecar.client().with("cdn-loop", "cloudflare; subreqs=1, spillway");
    assert_eq!(asking.get("/elsewhere").await.status, 200);
    let asked = elsewhere.asked("/elsewhere").remove(0);
    let lines = asked.headers.get_all("cdn-loop").iter().filter_map(|line| line.to_str().ok());
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines, ["cloudflare; subreqs=1, spillway", "spillway"]);
}

#[tokio::test]
async fn a_client_can_only_refuse_itself() {
    let app = App::start().await;
    app.on("/cached/15000", Reply::ok("there"));
    let there = format!("app-a=http://127.0.0.1:1,app-b={}", app.url());
    let sidecar = Spillway::proxy(RULES, &app).with("--upstream", &there).start().await;
    let four = sidecar.client().with("cdn-loop", "spillway, spillway, spillway, spillway");
    assert_eq!(four.get("/cached/15000").await.status, 508);
    // What others get from the store was not asked for with this one's members.
    let two = sidecar.client().with("cdn-loop", "spillway, spillway");
    assert_eq!(two.get("/cached/15000").await.cache(), "fwd=bypass; detail=forwarded");
    assert_eq!(sidecar.client().get("/cached/15000").await.cache(), "fwd=uri-miss; stored");
    let asked = app.asked("/cached/15000").remove(1);
    assert_eq!(asked.header("cdn-loop"), Some("spillway"));
    assert_eq!(sidecar.client().get("/cached/15000").await.status, 200);
}

#[tokio::test]
async fn a_sidecar_that_is_its_own_app_does_not_start() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = free.local_addr().expect("a bound port").port();
    drop(free);
    for app in ["127.0.0.1", "localhost"] {
        let app = format!("http://{app}:{port}");
        let listen = format!("127.0.0.1:{port}");
        let ended = Spillway::proxy_to(RULES, &app)
            .env("SPILLWAY_UPSTREAM", "app-a=http://127.0.0.1:1,app-b=http://127.0.0.1:1")
            .at(&listen)
            .refused()
            .await;
        assert_eq!(ended.code, Some(78), "{}", ended.errors);
        assert!(ended.errors.contains("it would ask itself for ever"), "{}", ended.errors);
    }
}
