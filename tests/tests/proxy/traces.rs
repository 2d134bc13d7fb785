//! Traces that go on through the sidecar and through jobs, and the lines of the log.

use support::{App, Client, Reply, Spillway, folder};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER: &str = "0af7651916cd43dd8448eb211c80319c";
const RULES: &str = r#"
[[route]]
name  = "prices"
match = { path = "/prices/{id}" }
cache = { sidecar = "1m" }

[[route]]
name    = "reports"
match   = { path = "/reports", methods = ["POST"] }
offload = { queue = "q", when = "always", auth = "none" }

[queue.q]
"#;

async fn app() -> App {
    let app = App::start().await;
    for path in ["/page", "/prices/1", "/reports"] {
        app.on(path, Reply::ok("answered"));
    }
    app.on("/broken", Reply::status(500));
    app
}

fn of(client: &Client, trace: &str) -> Client {
    client.with("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"))
}

/// Version, trace, span and flags.
fn parts(asked: &support::Asked) -> Vec<String> {
    let context = asked.header("traceparent").expect("a trace");
    context.split('-').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_clients_trace_goes_on_with_a_span_of_our_own() {
    let app = app().await;
    let folder = folder();
    let sidecar = Spillway::proxy(RULES, &app).jobs("q", folder.path()).start().await;
    let client = of(&sidecar.client(), TRACE).with("tracestate", "vendor=1");
    for path in ["/page", "/prices/1"] {
        client.get(path).await;
        let asked = app.asked(path).remove(0);
        let parts = parts(&asked);
        assert_eq!((parts[1].as_str(), parts[3].as_str()), (TRACE, "01"));
        assert_ne!(parts[2], "00f067aa0ba902b7");
    }
    assert_eq!(app.asked("/page").remove(0).header("tracestate"), Some("vendor=1"));
    // A fetch for the cache is nobody's own, so the state, which may say anything, stays behind.
    assert_eq!(app.asked("/prices/1").remove(0).header("tracestate"), None);
}

#[tokio::test]
async fn what_is_no_trace_is_replaced_by_a_new_one() {
    let app = app().await;
    let folder = folder();
    let start = |share: &str| {
        let setup = Spillway::proxy(RULES, &app).jobs("q", folder.path());
        setup.with("--trace-sample", share).start()
    };
    for (share, flags) in [("1", "01"), ("0", "00")] {
        let sidecar = start(share).await;
        let client = sidecar.client().with("tracestate", "vendor=1");
        client.with("traceparent", "00-nonsense").get("/page").await;
        client.get("/page").await;
        let asked: Vec<_> = app.asked("/page").into_iter().rev().take(2).collect();
        let (one, two) = (parts(&asked[0]), parts(&asked[1]));
        assert_eq!((one[1].len(), one[2].len(), one[3].as_str()), (32, 16, flags));
        assert_ne!(one[1], two[1]);
        assert!(asked.iter().all(|asked| asked.header("tracestate").is_none()));
    }
}

#[tokio::test]
async fn a_job_keeps_the_trace_of_its_request() {
    let app = app().await;
    let folder = folder();
    let sidecar = Spillway::proxy(RULES, &app).jobs("q", folder.path()).start().await;
    let consumer = Spillway::consume(RULES, &app).jobs("q", folder.path()).start().await;
    assert_eq!(of(&sidecar.client(), TRACE).post("/reports", "a report").await.status, 202);
    app.until_asked("/reports", 1).await;
    assert_eq!(parts(&app.asked("/reports").remove(0))[1], TRACE);
    consumer.until_said("job finished").await;
    assert!(consumer.said().contains(TRACE), "{}", consumer.said());
}

#[tokio::test]
async fn a_request_is_one_line_that_tells_nothing_secret() {
    let app = app().await;
    let folder = folder();
    let setup = Spillway::proxy(RULES, &app).jobs("q", folder.path());
    let sidecar = setup.with("--log-sample", "1").start().await;
    let client = of(&sidecar.client(), TRACE).with("authorization", "Bearer s3cret");
    client.with("cookie", "session=s3cret").get("/page?token=s3cret").await;
    client.get("/prices/1").await;
    sidecar.until_said("uri-miss").await;
    let said = sidecar.said();
    assert!(!said.contains("s3cret"), "{said}");
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    assert_eq!(lines.len(), 2, "{said}");
    for (line, route) in lines.iter().zip(["unmatched", "prices"]) {
        assert_eq!((&line["message"], &line["route"]), (&"response".into(), &route.into()));
        assert_eq!((&line["status"], &line["method"]), (&200.into(), &"GET".into()));
        assert_eq!(line["trace"], TRACE);
        assert!(line["ms"].is_f64() && line["problem"].is_null(), "{line}");
    }
    assert_eq!(lines[0]["cache"], serde_json::Value::Null);
}

#[tokio::test]
async fn what_went_wrong_is_always_told() {
    let app = app().await;
    let folder = folder();
    let setup = Spillway::proxy(RULES, &app).jobs("q", folder.path());
    let sidecar = setup.with("--log-sample", "0").start().await;
    of(&sidecar.client(), OTHER).get("/page").await;
    of(&sidecar.client(), TRACE).get("/broken").await;
    of(&sidecar.client(), TRACE).get("/a/..;/b").await;
    sidecar.until_said("path-ambiguous").await;
    let said = sidecar.said();
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let levels: Vec<_> = lines.iter().map(|line| line["level"].as_str()).collect();
    assert_eq!(levels, [Some("WARN"), Some("INFO")], "{said}");
    assert_eq!((&lines[0]["status"], &lines[1]["status"]), (&500.into(), &400.into()));
    assert_eq!(lines[1]["detail"], "dot-segment");
    assert!(lines.iter().all(|line| line["trace"] == TRACE));
}

#[tokio::test]
async fn a_share_that_is_none_stops_the_start() {
    let app = app().await;
    let ended = Spillway::proxy("", &app).with("--log-sample", "2").refused().await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.errors.contains("--log-sample 2: write 0 to 1"), "{}", ended.errors);
}
