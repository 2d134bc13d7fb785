//! Requests that the edge has signed, and all others, before a sidecar that requires a signature.

use rules::UnixMillis;
use rules::signature::{self, Keys};
use rules::{Head, NoFields};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Answer, App, Client, Reply, Setup, Spillway, eventually, folder, raw};

const RULES: &str = r#"
[edge]
require_signature = true

[[route]]
name  = "prices"
match = { path = "/prices/{id}" }
cache = { sidecar = "1m" }

[[route]]
name              = "webhook"
match             = { path = "/webhook" }
require_signature = false
"#;
const OLD: &str = "2026-10=old-old-old-old-old-old-old-old-old";
const NEW: &str = "2026-11=new-new-new-new-new-new-new-new-new";

async fn app() -> App {
    let app = App::start().await;
    for path in ["/prices/1", "/orders", "/webhook", "/chat"] {
        app.on(path, Reply::ok("answered"));
    }
    app
}

fn signing(app: &App, rules: &str) -> Setup {
    Spillway::proxy(rules, app).env("SPILLWAY_EDGE_KEYS", &format!("{NEW},{OLD}"))
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("a time")
}

/// What the edge would add to this request.
struct Edge<'a> {
    keys: &'a str,
    at: u64,
    nonce: &'a str,
}

impl Edge<'_> {
    fn sign(&self, client: &Client, method: &str, target: &str) -> Client {
        let keys = Keys::parse(self.keys).expect("good keys");
        let head = Head { method, scheme: "http", host: client.host(), target, fields: &NoFields };
        let own = signature::sign(&keys, &head, self.nonce, UnixMillis(self.at));
        client
            .with("signature-input", &own.input.expect("signed"))
            .with("signature", &own.signature.expect("signed"))
    }
}

async fn signed(sidecar: &Spillway, method: &str, target: &str, nonce: &str) -> Answer {
    let edge = Edge { keys: NEW, at: now(), nonce };
    edge.sign(&sidecar.client(), method, target).send(method, target, "").await
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, problem: &str, reason: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{}", answer.text());
    assert_eq!(answer.json()["detail"], format!("signature: {reason}"));
}

#[tokio::test]
async fn what_the_edge_signed_is_answered_and_its_signature_goes_no_further() {
    let app = app().await;
    let sidecar = signing(&app, RULES).start().await;
    for (nonce, cache) in [("one", "fwd=uri-miss; stored"), ("two", "hit")] {
        let answer = signed(&sidecar, "GET", "/prices/1", nonce).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.cache().starts_with(cache), "{}", answer.cache());
    }
    let client = sidecar.client().with("signature", "keyId=\"k\",signature=\"theirs\"");
    let edge = Edge { keys: OLD, at: now(), nonce: "three" };
    let answer = edge.sign(&client, "POST", "/orders?a=1").post("/orders?a=1", "an order").await;
    assert_eq!(answer.text(), "answered");
    for path in ["/prices/1", "/orders"] {
        let asked = app.asked(path).remove(0);
        assert_eq!(asked.header("signature-input"), None);
        let theirs = (path == "/orders").then_some("keyId=\"k\",signature=\"theirs\"");
        assert_eq!(asked.header("signature"), theirs);
    }
    assert_eq!(sidecar.metric("spillway_signatures_total{result=\"valid\"}").await, 3.0);
}

#[tokio::test]
async fn all_others_are_refused_by_name_before_cache_and_app() {
    let app = app().await;
    let sidecar = signing(&app, RULES).start().await;
    signed(&sidecar, "GET", "/prices/1", "fills-the-cache").await;
    let client = sidecar.client();
    let missing = client.get("/prices/1").await;
    assert_refused(&missing, 401, "signature-missing", "missing");
    let invalid = |answer: &Answer, reason: &str| {
        assert_refused(answer, 401, "signature-invalid", reason);
    };
    let good = Edge { keys: NEW, at: now(), nonce: "n" };
    invalid(&good.sign(&client, "GET", "/prices/2").get("/prices/1").await, "mismatch");
    invalid(&good.sign(&client, "GET", "/prices/1").get("/prices/1?a=b").await, "mismatch");
    invalid(&good.sign(&client, "GET", "/orders").post("/orders", "").await, "mismatch");
    let elsewhere = client.with("host", "other.example");
    invalid(&good.sign(&elsewhere, "GET", "/prices/1").get("/prices/1").await, "mismatch");
    for (keys, at, reason) in [
        ("2026-12=unknown-unknown-unknown-unknown-unknown", now(), "unknown-key"),
        ("2026-11=other-other-other-other-other-other", now(), "mismatch"),
        (NEW, now() - 100_000, "expired"),
        (NEW, now() + 100_000, "not-yet-valid"),
    ] {
        let edge = Edge { keys, at, nonce: "n" };
        invalid(&edge.sign(&client, "GET", "/prices/1").get("/prices/1").await, reason);
    }
    let torn = client.with("signature-input", "spillway=(\"@method\"").get("/prices/1").await;
    invalid(&torn, "malformed");
    // What the rules refuse, too, is nobody else's to know.
    for path in ["/a//b", "/_spillway/jobs/1", "/_spillway/problems/internal"] {
        assert_refused(&client.get(path).await, 401, "signature-missing", "missing");
    }
    assert_eq!((app.asked("/prices/1").len(), app.asked("/orders").len()), (1, 0));
    let counted = "spillway_problems_total{problem=\"signature-invalid\",route=\"prices\"}";
    assert_eq!(sidecar.metric(counted).await, 8.0);
}

#[tokio::test]
async fn a_copy_of_a_request_that_changes_something_is_refused() {
    let app = app().await;
    let sidecar = signing(&app, RULES).start().await;
    let edge = Edge { keys: NEW, at: now(), nonce: "once" };
    // Each on a connection of its own, so that other threads see it, too.
    let copy =
        || async { edge.sign(&sidecar.client(), "POST", "/orders").post("/orders", "").await };
    assert_eq!(copy().await.status, 200);
    for _ in 0..5 {
        assert_refused(&copy().await, 401, "signature-invalid", "replayed");
    }
    assert_eq!(app.asked("/orders").len(), 1);
    assert_eq!(signed(&sidecar, "POST", "/orders", "twice").await.status, 200);
    // A safe one may be asked again, as networks do by themselves.
    let edge = Edge { keys: NEW, at: now(), nonce: "read" };
    for _ in 0..2 {
        let client = edge.sign(&sidecar.client(), "GET", "/orders");
        assert_eq!(client.get("/orders").await.status, 200);
    }
}

#[tokio::test]
async fn a_route_may_ask_for_none_and_what_comes_in_is_counted_all_the_same() {
    let app = app().await;
    let sidecar = signing(&app, RULES).start().await;
    assert_eq!(sidecar.client().post("/webhook", "").await.status, 200);
    assert_eq!(sidecar.metric("spillway_signatures_total{result=\"missing\"}").await, 1.0);
    // Before they are required: nobody is refused, and one sees who would be.
    let watching = signing(&app, "").start().await;
    assert_eq!(watching.client().get("/orders").await.status, 200);
    assert_eq!(signed(&watching, "GET", "/orders", "n").await.status, 200);
    for (result, count) in [("missing", 1.0), ("valid", 1.0)] {
        let series = format!("spillway_signatures_total{{result={result:?}}}");
        assert_eq!(watching.metric(&series).await, count, "{result}");
    }
}

#[tokio::test]
async fn listed_networks_need_no_signature_and_the_rest_does() {
    let app = app().await;
    let exempt = |block: &str| signing(&app, RULES).with("--unsigned-from", block).start();
    let inside = exempt("127.0.0.0/8").await;
    assert_eq!(inside.client().get("/orders").await.status, 200);
    assert_eq!(inside.metric("spillway_signatures_total{result=\"exempt\"}").await, 1.0);
    let outside = exempt("10.0.0.0/8").await;
    assert_eq!(outside.client().get("/orders").await.status, 401);
}

#[tokio::test]
async fn a_sidecar_that_forwards_to_another_is_known_by_its_marker() {
    let rules = format!(
        "{RULES}
        [[route]]
        name  = \"items\"
        match = {{ path = \"/items/{{id}}\" }}
        shard = {{ map = \"m\", from = [\"path:id\"] }}
        [shard_map.m]
        key_type = \"int\"
        ranges   = [{{ from = 0, shard = \"a\" }}, {{ from = 100, shard = \"b\" }}]
        shards   = {{ a = {{ upstream = \"a\" }}, b = {{ upstream = \"b\" }} }}"
    );
    let app = app().await;
    app.on("/items/150", Reply::ok("from b"));
    let b = signing(&app, &rules).with("--shard", "b").with("--upstream", "a=http://127.0.0.1:9");
    let b = b.start().await;
    let a =
        signing(&app, &rules).with("--shard", "a").with("--upstream", &format!("b={}", b.url()));
    let a = a.start().await;
    assert_eq!(signed(&a, "GET", "/items/150", "n").await.text(), "from b");
    assert_eq!(b.metric("spillway_signatures_total{result=\"forwarded\"}").await, 1.0);
    assert_eq!(b.client().get("/items/150").await.status, 401);
}

#[tokio::test]
async fn an_upgrade_is_refused_like_any_other_request() {
    let app = app().await;
    let sidecar = signing(&app, RULES).start().await;
    let request =
        "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = raw(sidecar.address(), request, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(app.asked("/chat").is_empty());
}

#[tokio::test]
async fn rules_that_require_signatures_need_keys_at_start_and_at_reload() {
    let app = app().await;
    let ended = Spillway::proxy(RULES, &app).refused().await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.errors.contains("require_signature without keys"), "{}", ended.errors);
    let weak = Spillway::proxy(RULES, &app).env("SPILLWAY_EDGE_KEYS", "a=short").refused().await;
    assert_eq!(weak.code, Some(78));
    assert!(weak.errors.contains("shorter than 32"), "{}", weak.errors);
    let sidecar = Spillway::proxy("", &app).start().await;
    sidecar.change_rules(RULES);
    let refused = "spillway_rules_reloads_total{result=\"failure\"}";
    eventually("the rules are refused", || async {
        (sidecar.metric(refused).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(sidecar.client().get("/orders").await.status, 200);
    // From a file, as Kubernetes mounts a Secret.
    let folder = folder();
    let file = folder.path().join("keys");
    std::fs::write(&file, format!("{OLD}\n")).expect("a file");
    let with = Spillway::proxy(RULES, &app).with("--edge-keys-file", file.to_str().expect("text"));
    assert_eq!(with.start().await.client().get("/orders").await.status, 401);
}
