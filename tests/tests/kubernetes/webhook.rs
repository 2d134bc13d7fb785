//! `spillway webhook` in front of an API server's double: certificates, reviews, events.

mod certificates;
mod endings;

use serde_json::{Value, json};
use std::time::Instant;
use support::{Kube, Reviews, Spillway, eventually, python, run, trusting};

const SECRET: &str = "/api/v1/namespaces/spillway/secrets/spillway-webhook-tls";
const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/spillway";
const NAME: &str = "spillway-webhook.spillway.svc";

async fn cluster() -> Kube {
    let kube = Kube::start().await;
    let hook = |name: &str| json!({ "name": name, "clientConfig": { "service": {} } });
    let hooks = [hook("inject.spillway.dev"), hook("second.spillway.dev")];
    kube.put(CONFIGURATION, json!({ "metadata": { "name": "spillway" }, "webhooks": hooks }));
    kube
}

/// What API servers trust.
async fn bundle(kube: &Kube) -> String {
    let configuration = kube.get(CONFIGURATION).expect("the configuration");
    let hooks = configuration["webhooks"].as_array().expect("webhooks");
    let bundles: Vec<&Value> = hooks.iter().map(|hook| &hook["clientConfig"]["caBundle"]).collect();
    assert_eq!(bundles[0], bundles[1], "every webhook has it");
    decoded(bundles[0].as_str().unwrap_or_default())
}

fn decoded(text: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
    String::from_utf8(bytes).expect("text")
}

async fn ready(webhook: &Spillway) {
    let admin = webhook.admin();
    eventually("ready", || async { (admin.get("/ready").await.status == 200).then_some(()) }).await;
}

async fn connected(webhook: &Spillway, kube: &Kube) -> Reviews {
    let stream = trusting(webhook.address(), &bundle(kube).await, NAME).await;
    Reviews::over(stream.expect("a certificate that the configuration vouches for")).await
}

fn pod(annotations: Value) -> Value {
    json!({
        "metadata": {
            "generateName": "web-6d4b-",
            "annotations": annotations,
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4b", "uid": "u-1", "controller": true }],
        },
        "spec": { "containers": [{ "name": "web", "image": "nginx", "ports": [{ "name": "http", "containerPort": 80 }] }] },
    })
}

fn review(object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "namespace": "shop",
            "operation": "CREATE",
            "object": object,
        },
    })
}

/// The `response` of the answer.
async fn reviewed(reviews: &mut Reviews, review: &Value) -> Value {
    let (status, body) = reviews.post(review.to_string()).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    assert_eq!(answer["response"]["allowed"], true, "a pod is never refused");
    answer["response"].clone()
}

/// What the API server makes of the answer, by somebody else's JSON Patch.
async fn applied(object: &Value, response: &Value) -> Value {
    assert_eq!(response["patchType"], "JSONPatch");
    let environment = [
        ("OBJECT".to_owned(), object.to_string()),
        ("PATCH".to_owned(), decoded(response["patch"].as_str().expect("a patch"))),
    ];
    let lines = "import json, jsonpatch, os\nprint(json.dumps(jsonpatch.apply_patch(json.loads(os.environ['OBJECT']), json.loads(os.environ['PATCH']))))";
    serde_json::from_str(&python(lines, &environment).await).expect("JSON")
}

#[tokio::test]
async fn a_review_gets_the_patch_that_makes_the_pod_of_the_function() {
    let kube = cluster().await;
    let webhook = Spillway::webhook(kube.url()).with("--image", "spillway:1").start().await;
    ready(&webhook).await;
    let mut reviews = connected(&webhook, &kube).await;
    let object = pod(json!({ "spillway.dev/cpu-limit": "2", "spillway.dev/prot": "web" }));
    let response = reviewed(&mut reviews, &review(&object)).await;
    let options = inject::Options { image: "spillway:1".to_owned(), ..Default::default() };
    let inject::Outcome::Injected { pod: wanted, .. } = inject::inject(&object, &options).outcome
    else {
        panic!("the function refuses it");
    };
    assert_eq!(applied(&object, &response).await, wanted);
    let warning = response["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("did you mean spillway.dev/port?"), "{warning}");
    // A second webhook has changed the pod, and ours is asked again.
    let again = reviewed(&mut reviews, &review(&wanted)).await;
    assert_eq!(again.get("patch"), None);
    for (series, count) in [
        ("spillway_injections_total{reason=\"\",result=\"injected\"}", 1.0),
        ("spillway_injections_total{reason=\"already-injected\",result=\"skipped\"}", 1.0),
    ] {
        assert_eq!(webhook.metric(series).await, count, "{series}");
    }
}

#[tokio::test]
async fn what_is_refused_is_admitted_and_told_to_its_owner_once() {
    let kube = cluster().await;
    let webhook = Spillway::webhook(kube.url()).start().await;
    ready(&webhook).await;
    let mut reviews = connected(&webhook, &kube).await;
    let mut object = pod(json!({}));
    object["spec"]["hostNetwork"] = true.into();
    let mut dry = review(&object);
    dry["request"]["dryRun"] = true.into();
    for asked in [dry, review(&object), review(&object)] {
        let response = reviewed(&mut reviews, &asked).await;
        assert_eq!(response.get("patch"), None);
        assert!(response["warnings"][0].as_str().expect("a warning").contains("host-network"));
    }
    // A pod without such a port is nobody's news, unless it asks for the sidecar.
    let mut quiet = pod(json!({}));
    quiet["spec"]["containers"][0]["ports"] = json!([]);
    assert_eq!(reviewed(&mut reviews, &review(&quiet)).await.get("warnings"), None);
    let mut named = pod(json!({ "spillway.dev/port": "8080" }));
    named["spec"]["containers"][0]["ports"] = json!([]);
    let response = reviewed(&mut reviews, &review(&named)).await;
    assert!(response["warnings"][0].as_str().expect("a warning").contains("containerPort: 8080"));
    quiet["metadata"]["labels"] = json!({ "spillway.dev/inject": "enabled" });
    let response = reviewed(&mut reviews, &review(&quiet)).await;
    assert!(response["warnings"][0].as_str().expect("a warning").contains("no-port"));
    let events = eventually("three events", || async {
        let events = kube.below("/api/v1/namespaces/shop/events/");
        (events.len() == 3).then_some(events)
    })
    .await;
    for event in events {
        assert_eq!(event["involvedObject"]["kind"], "ReplicaSet");
        assert_eq!(event["involvedObject"]["name"], "web-6d4b");
        assert_eq!((&event["reason"], &event["type"]), (&json!("NotInjected"), &json!("Warning")));
    }
    let series = "spillway_injections_total{reason=\"host-network\",result=\"skipped\"}";
    assert_eq!(webhook.metric(series).await, 3.0);
}

#[tokio::test]
async fn a_service_that_goes_around_the_sidecars_is_told_so_and_never_changed() {
    let kube = cluster().await;
    let webhook = Spillway::webhook(kube.url()).start().await;
    ready(&webhook).await;
    let mut reviews = connected(&webhook, &kube).await;
    let service = |target: Value, selector: Value| {
        let ports = json!([{ "port": 80, "targetPort": target }]);
        let object = json!({ "metadata": { "name": "web" }, "spec": { "ports": ports, "selector": selector } });
        let mut asked = review(&object);
        asked["request"]["kind"]["kind"] = "Service".into();
        asked["request"]["operation"] = "UPDATE".into();
        asked
    };
    let selector = json!({ "app": "web" });
    for quiet in [
        service("http".into(), selector.clone()),
        service(15080.into(), selector.clone()),
        service(8080.into(), json!({})),
    ] {
        let response = reviewed(&mut reviews, &quiet).await;
        assert_eq!((response.get("warnings"), response.get("patch")), (None, None), "{quiet}");
    }
    let response = reviewed(&mut reviews, &service(8080.into(), selector)).await;
    assert_eq!(response.get("patch"), None);
    assert!(response["warnings"][0].as_str().expect("a warning").contains("targetPort 8080"));
    let event =
        eventually("an event", || async { kube.below("/api/v1/namespaces/shop/events/").pop() })
            .await;
    assert_eq!(event["reason"], "AroundSidecar");
    assert_eq!(event["involvedObject"]["kind"], "Service");
    assert_eq!(event["involvedObject"]["name"], "web");
}

#[tokio::test]
async fn where_pods_have_to_ask_the_silent_ones_are_left_alone_and_nobody_is_told() {
    let kube = cluster().await;
    let webhook = Spillway::webhook(kube.url()).start().await;
    ready(&webhook).await;
    let mut reviews = connected(&webhook, &kube).await;
    reviews.path = "/inject/opt-in";
    let silent = reviewed(&mut reviews, &review(&pod(json!({})))).await;
    assert_eq!((silent.get("patch"), silent.get("warnings")), (None, None));
    let asks = pod(json!({ "spillway.dev/inject": "enabled" }));
    assert!(reviewed(&mut reviews, &review(&asks)).await["patch"].is_string());
    let series = "spillway_injections_total{reason=\"not-asked\",result=\"skipped\"}";
    assert_eq!(webhook.metric(series).await, 1.0);
}

#[tokio::test]
async fn a_review_that_is_none_is_answered_and_the_next_one_is_served() {
    let kube = cluster().await;
    let webhook = Spillway::webhook(kube.url()).start().await;
    ready(&webhook).await;
    for (body, wanted) in [
        (String::new(), 400),
        ("{".to_owned(), 400),
        ("[]".to_owned(), 400),
        (json!({ "request": { "uid": 7 } }).to_string(), 400),
        (format!("\"{}\"", "x".repeat(9 * 1024 * 1024)), 413),
    ] {
        // Each on a connection of its own: after too large a body, it is closed.
        let mut reviews = connected(&webhook, &kube).await;
        assert_eq!(reviews.post(body).await.0, wanted);
    }
    let mut reviews = connected(&webhook, &kube).await;
    let odd = [
        json!(null),
        json!([]),
        json!({}),
        json!({ "spec": 1 }),
        json!({ "spec": { "containers": [1, null, {}] } }),
        json!({ "metadata": [], "spec": { "containers": [{ "ports": {} }] } }),
    ];
    for object in odd {
        let response = reviewed(&mut reviews, &review(&object)).await;
        assert_eq!(response.get("patch"), None, "{object}");
    }
    let response = reviewed(&mut reviews, &review(&pod(json!({})))).await;
    assert!(response["patch"].is_string());
    let series = "spillway_injections_total{reason=\"\",result=\"malformed\"}";
    assert_eq!(webhook.metric(series).await, 5.0);
}

#[tokio::test]
async fn an_api_server_without_native_sidecars_gets_an_ordinary_container() {
    for (minor, wanted) in [("28", "/spec/containers/-"), ("29+", "/spec/initContainers")] {
        let kube = cluster().await;
        kube.put("/version", json!({ "major": "1", "minor": minor }));
        let webhook = Spillway::webhook(kube.url()).start().await;
        ready(&webhook).await;
        let mut reviews = connected(&webhook, &kube).await;
        let response = reviewed(&mut reviews, &review(&pod(json!({})))).await;
        let patch: Value =
            serde_json::from_str(&decoded(response["patch"].as_str().expect("a patch")))
                .expect("JSON");
        assert_eq!(patch[0]["path"], wanted, "1.{minor}");
    }
}

#[tokio::test]
async fn every_flag_is_in_the_guide() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/injection.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    for command in ["webhook", "inject"] {
        let help = run(&[command, "--help"]).await.output;
        let words = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        let flags: Vec<&str> = words.filter(|flag| *flag != "help").collect();
        assert!(flags.len() > 10, "{command}: {flags:?}");
        for flag in flags {
            let written =
                [format!("`--{flag}`"), format!("`spillway.dev/{flag}`"), format!(" --{flag} ")];
            let is_there = written.iter().any(|text| guide.contains(text));
            assert!(is_there, "docs/injection.md lacks --{flag} of {command}");
        }
    }
}

#[tokio::test]
async fn five_hundred_reviews_over_one_connection_get_the_same_patch() {
    let kube = cluster().await;
    let webhook = Spillway::webhook(kube.url()).start().await;
    ready(&webhook).await;
    let mut reviews = connected(&webhook, &kube).await;
    let asked = review(&pod(json!({})));
    let first = reviewed(&mut reviews, &asked).await;
    assert!(first["patch"].is_string(), "{first}");
    let mut times = Vec::new();
    for _ in 0..500 {
        let started = Instant::now();
        let response = reviewed(&mut reviews, &asked).await;
        times.push(started.elapsed());
        assert_eq!(response, first);
    }
    // For docs/injection.md; how long it takes decides nothing here.
    times.sort();
    eprintln!("a review takes {:?} (median), {:?} (99th percentile)", times[250], times[495]);
}
