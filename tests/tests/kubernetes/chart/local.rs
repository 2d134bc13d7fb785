//! What differs from cluster to cluster: where pods run, how their images are pulled, what is said.

use super::{chart, wishes_for_workers};
use serde_json::{Value, json};
use support::{Manifests, containers};

/// Every value that says how a cluster differs from others.
pub fn local() -> Value {
    let placed = json!({
        "podAnnotations": { "team": "market" },
        "podLabels": { "cost-centre": "7" },
        "nodeSelector": { "kubernetes.io/arch": "amd64" },
        "tolerations": [{ "key": "dedicated", "operator": "Exists" }],
        "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "pool", "operator": "Exists" }] }],
        } } },
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        }],
        "priorityClassName": "system-cluster-critical",
    });
    let mut injection = placed.clone();
    for (key, value) in [
        ("certificateLifetime", json!(86400)),
        ("timeoutSeconds", json!(10)),
        ("port", json!(9443)),
        ("hostNetwork", json!(true)),
        ("sidecar", json!({ "pullSecrets": ["registry", "second"] })),
    ] {
        injection[key] = value;
    }
    let mut consumer = wishes_for_workers();
    for (key, value) in placed.as_object().expect("values") {
        consumer[key] = value.clone();
    }
    consumer["volumes"] = json!([{ "name": "config", "configMap": { "name": "market" } }]);
    consumer["app"]["volumeMounts"] = json!([{ "name": "config", "mountPath": "/etc/market" }]);
    consumer["app"]["envFrom"] = json!([{ "secretRef": { "name": "market" } }]);
    consumer["serviceAccount"] = "market".into();
    json!({
        "image": { "pullPolicy": "Always", "pullSecrets": ["registry"] },
        "injection": injection,
        "consumer": consumer,
        "monitoring": { "podMonitor": true, "rules": true, "labels": { "release": "prometheus" } },
    })
}

#[tokio::test]
async fn what_a_cluster_differs_in_arrives_where_it_is_meant() {
    let manifests = chart(&local()).await;
    let template = |name: &str| manifests.one("Deployment", name)["spec"]["template"].clone();
    for name in ["spillway-injector", "spillway-consumer"] {
        let template = template(name);
        assert_eq!(template["metadata"]["annotations"]["team"], "market", "{name}");
        assert_eq!(template["metadata"]["labels"]["cost-centre"], "7", "{name}");
        let pod = &template["spec"];
        assert_eq!(pod["nodeSelector"]["kubernetes.io/arch"], "amd64", "{name}");
        assert_eq!(pod["tolerations"][0]["key"], "dedicated", "{name}");
        assert!(pod["affinity"]["nodeAffinity"].is_object(), "{name}");
        assert_eq!(pod["topologySpreadConstraints"].as_array().map(Vec::len), Some(1), "{name}");
        assert_eq!(pod["priorityClassName"], "system-cluster-critical", "{name}");
        assert_eq!(pod["imagePullSecrets"], json!([{ "name": "registry" }]), "{name}");
        let own = containers(pod).find(|one| one["name"] == "spillway").expect("ours").clone();
        assert_eq!(own["imagePullPolicy"], "Always", "{name}");
    }
    let injector = template("spillway-injector")["spec"].clone();
    assert_eq!(injector["hostNetwork"], true);
    assert_eq!(injector["containers"][0]["ports"][0]["containerPort"], 9443);
    let arguments = injector["containers"][0]["args"].to_string();
    for flag in
        ["--listen=0.0.0.0:9443", "--certificate-lifetime=86400", "--pull-secrets=registry,second"]
    {
        assert!(arguments.contains(flag), "{flag}: {arguments}");
    }
    let hook = &manifests.one("MutatingWebhookConfiguration", "spillway-injector")["webhooks"][0];
    assert_eq!(hook["timeoutSeconds"], 10);
    let worker = template("spillway-consumer")["spec"].clone();
    assert_eq!(worker["serviceAccountName"], "market");
    assert!(worker["volumes"].to_string().contains("\"config\""));
    for kind in ["PodMonitor", "PrometheusRule"] {
        assert_eq!(manifests.one(kind, "spillway")["metadata"]["labels"]["release"], "prometheus");
    }
}

#[tokio::test]
async fn the_notes_say_what_to_do_next_and_what_is_not_done() {
    let notes = async |values: Value| Manifests::notes(&values).await.expect("notes");
    let usual = notes(json!({})).await;
    for said in [
        "kubectl label namespace NAME spillway.dev/inject=enabled",
        "Pods of spillway-system itself never get one",
        "start without the sidecar",
        "excludeInboundPorts",
        "--reset-then-reuse-values",
        "No alerts are installed",
    ] {
        assert!(usual.contains(said), "{said}: {usual}");
    }
    let fail = notes(json!({ "injection": { "failurePolicy": "Fail" } })).await;
    assert!(fail.contains("do not start"), "{fail}");
    let none = notes(json!({ "injection": { "by": "none" } })).await;
    assert!(none.contains("Nothing is injected"), "{none}");
}

/// Pod Security's `restricted` (Kubernetes' documents), as far as these pods can break it.
#[tokio::test]
async fn a_worker_passes_restricted_and_what_its_application_says_itself_counts() {
    let manifests = chart(&json!({ "consumer": wishes_for_workers() })).await;
    let pod = &manifests.one("Deployment", "spillway-consumer")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(containers(pod).count(), 2);
    for container in containers(pod) {
        let own = &container["securityContext"];
        assert_eq!(own["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(own["capabilities"]["drop"], json!(["ALL"]), "{container}");
    }
    let mut said = wishes_for_workers();
    said["app"]["securityContext"] = json!({ "runAsUser": 1000 });
    let manifests = chart(&json!({ "consumer": said })).await;
    let pod = &manifests.one("Deployment", "spillway-consumer")["spec"]["template"]["spec"];
    let app = containers(pod).find(|one| one["name"] == "app").expect("the application");
    assert_eq!(app["securityContext"], json!({ "runAsUser": 1000 }));
}
