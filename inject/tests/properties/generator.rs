//! Pods of every shape; also for the test of the admission policy.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn object(fields: Vec<(&str, Option<Value>)>) -> Value {
    let fields = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn one_of(values: Vec<Value>) -> impl Strategy<Value = Value> {
    prop::sample::select(values)
}

fn maybe(values: Vec<Value>) -> impl Strategy<Value = Option<Value>> {
    prop::option::of(one_of(values))
}

fn a_port() -> impl Strategy<Value = Value> {
    let name =
        maybe(vec![json!("http"), json!("web"), json!("app-http"), json!("grpc-internals-9")]);
    let number = one_of(vec![json!(80), json!(8080), json!(9000), json!(15080)]);
    let protocol = maybe(vec![json!("TCP"), json!("UDP")]);
    (name, number, protocol).prop_map(|(name, number, protocol)| {
        object(vec![("name", name), ("containerPort", Some(number)), ("protocol", protocol)])
    })
}

fn a_handler() -> impl Strategy<Value = Value> {
    one_of(vec![
        json!({ "httpGet": { "port": "http", "path": "/" } }),
        json!({ "httpGet": { "port": 8080 } }),
        json!({ "tcpSocket": { "port": "http" } }),
        json!({ "tcpSocket": { "port": "app-http" } }),
        json!({ "exec": { "command": ["true"] } }),
        json!({ "grpc": { "port": 9000 } }),
        // What the injection itself adds, in a pod that had it before.
        json!({ "httpGet": { "path": "/drained", "port": 15081 } }),
    ])
}

fn a_lifecycle() -> impl Strategy<Value = Value> {
    let hook = || prop::option::of(a_handler());
    (hook(), hook()).prop_map(|(start, stop)| object(vec![("postStart", start), ("preStop", stop)]))
}

fn a_container(name: &'static str) -> impl Strategy<Value = Value> {
    let usual = json!({ "name": "http", "containerPort": 8080 });
    let usual = prop_oneof![4 => Just(vec![usual]), 1 => Just(Vec::new())];
    let more = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(a_port(), 1..3)];
    let ports = (usual, more).prop_map(|(usual, more)| [usual, more].concat());
    let ports = prop::option::weighted(0.8, ports);
    let probe = || prop::option::of(a_handler());
    let lifecycle = prop::option::of(a_lifecycle());
    let all = (ports, probe(), probe(), lifecycle, some_resources());
    all.prop_map(move |(ports, ready, live, lifecycle, resources)| {
        object(vec![
            ("resources", resources),
            ("name", Some(name.into())),
            ("ports", ports.map(Value::from)),
            ("readinessProbe", ready),
            ("livenessProbe", live),
            ("lifecycle", lifecycle),
        ])
    })
}

fn some_resources() -> impl Strategy<Value = Option<Value>> {
    let whole = json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "1", "memory": "1Gi" } });
    prop_oneof![
        2 => Just(None),
        3 => Just(Some(whole)),
        2 => one_of(vec![
            json!({}),
            json!({ "requests": { "cpu": "100m" } }),
            json!({ "limits": { "cpu": 1 } }),
            json!({ "limits": { "cpu": "1000m", "memory": "1024Mi" }, "requests": { "cpu": 1 } }),
            json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "0.5" } }),
            json!({ "limits": { "memory": "1Gi", "ephemeral-storage": "1Gi" } }),
            json!({ "requests": { "ephemeral-storage": "1Gi" }, "limits": { "ephemeral-storage": "1Gi" } }),
        ]).prop_map(Some),
    ]
}

/// One to three, each under a name of its own, as Kubernetes asks.
fn containers() -> impl Strategy<Value = Vec<Value>> {
    (
        a_container("web"),
        prop::option::weighted(0.3, a_container("worker")),
        prop::option::weighted(0.1, a_container("spillway")),
    )
        .prop_map(|(first, second, third)| {
            [Some(first), second, third].into_iter().flatten().collect()
        })
}

fn a_metadata() -> impl Strategy<Value = Value> {
    let annotations = maybe(vec![
        json!({}),
        json!({ "spillway.dev/port": "8080" }),
        json!({ "spillway.dev/port": "web", "spillway.dev/cpu-limit": "2" }),
        json!({ "spillway.dev/container": "web", "other": "x" }),
        json!({ "spillway.dev/cpu-limit": "none", "spillway.dev/run-as-user": "1000" }),
        json!({ "spillway.dev/cpu-request": "600m", "spillway.dev/run-as-user": "none" }),
        json!({ "spillway.dev/pull-secrets": "registry,second" }),
    ]);
    let labels = maybe(vec![json!({}), json!({ "spillway.dev/inject": "enabled" })]);
    (annotations, labels).prop_map(|(annotations, labels)| {
        object(vec![("annotations", annotations), ("labels", labels)])
    })
}

/// A pod, or a pod template.
pub fn a_pod() -> impl Strategy<Value = Value> {
    let init = maybe(vec![
        json!([]),
        json!([{ "name": "migrate" }]),
        json!([{ "name": "migrate", "resources": { "limits": { "cpu": "1", "memory": "1Gi" } } }]),
        json!([{ "name": "mesh", "restartPolicy": "Always" }, { "name": "migrate" }]),
    ]);
    let volumes =
        maybe(vec![json!([]), json!([{ "name": "data" }]), json!([{ "name": "spillway" }])]);
    let security = maybe(vec![
        json!({}),
        json!({ "runAsUser": 0 }),
        json!({ "runAsGroup": 1000, "fsGroup": 1000 }),
        json!({ "fsGroup": 1000 }),
    ]);
    let secrets = maybe(vec![json!([]), json!([{ "name": "registry" }, {}])]);
    let whole = prop::option::weighted(0.1, Just(json!({ "limits": { "cpu": "2" } })));
    let spec = (containers(), init, volumes, security, whole, secrets);
    let spec = spec.prop_map(|(containers, init, volumes, security, whole, secrets)| {
        object(vec![
            ("imagePullSecrets", secrets),
            ("securityContext", security),
            ("resources", whole),
            ("containers", Some(containers.into())),
            ("initContainers", init),
            ("volumes", volumes),
        ])
    });
    (prop::option::of(a_metadata()), spec)
        .prop_map(|(metadata, spec)| object(vec![("metadata", metadata), ("spec", Some(spec))]))
}
