//! The Helm chart: rendered by Helm itself with the values of different people.

mod local;

use base64::Engine as _;
use local::local;
use serde_json::{Value, json};
use support::{Kube, Manifests, Spillway, VERSIONS, containers, eventually, run, trusting, yaml};

const QUEUE: &str = "sqs:https://sqs.eu-west-1.amazonaws.com/000000000000/reports";

/// Workers of an application.
fn wishes_for_workers() -> Value {
    let app = json!({
        "image": "market:1.0.0",
        "env": [{ "name": "MARKET_HOST", "value": "127.0.0.1" }],
        "resources": { "requests": { "cpu": "500m", "memory": "96Mi" } },
    });
    json!({
        "enabled": true,
        "app": app,
        "queues": { "reports": QUEUE },
        "results": "s3://results",
        "upstreams": { "app-a": "http://market-a" },
        "envConfig": "spillway-settings",
    })
}

/// What people may want, by name.
fn wishes() -> Vec<(&'static str, Value)> {
    let consumer = wishes_for_workers();
    let mut scaled = consumer.clone();
    scaled["keda"] = json!({ "enabled": true, "awsRegion": "eu-west-1" });
    let all = json!({ "podMonitor": true, "rules": true, "dashboard": true });
    vec![
        ("nothing said", json!({})),
        (
            "a certificate of cert-manager, and no pod without its sidecar",
            json!({
                "injection": {
                    "failurePolicy": "Fail",
                    "certificates": "cert-manager",
                    "issuer": { "kind": "ClusterIssuer", "name": "internal" },
                    "sidecar": { "cpuLimit": "2", "envSecret": "spillway" },
                },
            }),
        ),
        ("workers only", json!({ "injection": { "by": "none" }, "consumer": consumer })),
        ("all of it", json!({ "monitoring": all, "consumer": scaled })),
        ("what clusters differ in", local()),
    ]
}

async fn chart(values: &Value) -> Manifests {
    Manifests::chart(values).await.unwrap_or_else(|why| panic!("{values}: {why}"))
}

#[tokio::test]
async fn whatever_somebody_wishes_an_api_server_of_every_version_takes_it() {
    for (name, values) in wishes() {
        let manifests = chart(&values).await;
        assert!(!manifests.documents.is_empty(), "{name}");
        assert_eq!(manifests.faults(&VERSIONS).await, Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn helm_has_nothing_against_the_chart() {
    let lint = "import json, sys\nfrom helm_python.chart import lint\n\
        print(json.dumps([m for m in lint('../k8s/chart')['messages'] if m['severity'] > 1]))";
    // An icon is recommended, at severity 1: there is none.
    assert_eq!(support::python(lint, &[]).await, "[]");
}

#[tokio::test]
async fn wrong_values_are_refused_before_anything_is_rendered() {
    let consumer = |more: Value| {
        let mut consumer = wishes()[3].1["consumer"].clone();
        for (key, value) in more.as_object().expect("keys") {
            consumer[key] = value.clone();
        }
        json!({ "consumer": consumer })
    };
    for (values, said) in [
        (json!({ "injektion": {} }), "injektion"),
        (json!({ "injection": { "failurepolicy": "Fail" } }), "failurepolicy"),
        (json!({ "injection": { "failurePolicy": "Maybe" } }), "failurePolicy"),
        (json!({ "injection": { "replicas": 0 } }), "replicas"),
        (json!({ "injection": { "by": "magic" } }), "by"),
        (json!({ "injection": { "certificates": "cert-manager" } }), "needs an issuer"),
        (json!({ "injection": { "sidecar": { "cpuLimit": "two" } } }), "cpuLimit"),
        (
            json!({ "injection": { "resources": { "limits": { "cpu": "1", "memory": "1Gi", "gpu": "1" } } } }),
            "gpu",
        ),
        (json!({ "monitoring": { "podMonitor": "yes" } }), "podMonitor"),
        (json!({ "consumer": { "enabled": true } }), "image"),
        (consumer(json!({ "results": "" })), "results"),
        (consumer(json!({ "queues": {} })), "queues"),
        (
            consumer(json!({ "queues": { "reports": "https://sqs.eu-west-1.amazonaws.com/0/q" } })),
            "reports",
        ),
        (consumer(json!({ "queues": { "reports": "file:/queue" } })), "is not in SQS"),
        (consumer(json!({ "keda": { "enabled": true, "awsRegion": "" } })), "awsRegion"),
        (consumer(json!({ "app": { "name": "mine", "image": "market" } })), "app"),
    ] {
        match Manifests::chart(&values).await {
            Ok(_) => panic!("taken: {values}"),
            Err(why) => assert!(why.contains(said), "{values}: {why}"),
        }
    }
}

#[tokio::test]
async fn only_pods_of_namespaces_that_ask_depend_on_the_webhook() {
    for (policy, values) in
        [("Ignore", json!({})), ("Fail", json!({ "injection": { "failurePolicy": "Fail" } }))]
    {
        let manifests = chart(&values).await;
        let hooks = &manifests.one("MutatingWebhookConfiguration", "spillway-injector")["webhooks"];
        assert_eq!(hooks.as_array().map(Vec::len), Some(3));
        for (hook, path, labels, failure) in [
            (&hooks[0], "/inject", json!(["enabled"]), policy),
            (&hooks[1], "/inject/opt-in", json!(["opt-in"]), policy),
            (&hooks[2], "/services", json!(["enabled", "opt-in"]), "Ignore"),
        ] {
            assert_eq!(hook["clientConfig"]["service"]["path"], path);
            assert_eq!(hook["failurePolicy"], failure);
            let [asks, never] = [0, 1].map(|at| &hook["namespaceSelector"]["matchExpressions"][at]);
            assert_eq!((&asks["operator"], &asks["values"]), (&json!("In"), &labels));
            assert_eq!(
                (&never["operator"], &never["values"]),
                (&json!("NotIn"), &json!(["kube-system", "spillway-system"]))
            );
        }
        let webhook = &hooks[0];
        assert_eq!(webhook["objectSelector"]["matchExpressions"][0]["values"], json!(["disabled"]));
        let service = &webhook["clientConfig"]["service"];
        let name = service["name"].as_str().expect("a name");
        let pods = &manifests.one("Deployment", "spillway-injector")["spec"]["template"];
        let selected = &manifests.one("Service", name)["spec"]["selector"];
        let label = &pods["metadata"]["labels"]["app.kubernetes.io/name"];
        assert_eq!(selected["app.kubernetes.io/name"], *label);
        assert!(manifests.of("PodDisruptionBudget").count() == 1);
    }
}

#[tokio::test]
async fn the_webhook_may_do_no_more_than_keep_its_own_certificate_and_tell_events() {
    for (name, values) in wishes() {
        let manifests = chart(&values).await;
        for role in manifests.of("Role").chain(manifests.of("ClusterRole")) {
            for rule in role["rules"].as_array().expect("rules") {
                assert!(!rule.to_string().contains('*'), "{name}: {rule}");
                let is_named = rule["resourceNames"] == json!(["spillway-injector"]);
                let is_event = rule["resources"] == json!(["events"]);
                assert!(is_named || is_event, "{name}: {rule}");
                assert!(!is_event || rule["verbs"] == json!(["create"]), "{name}: {rule}");
            }
        }
    }
    let given = &chart(&wishes()[1].1).await;
    assert_eq!(given.of("Role").count(), 0, "cert-manager keeps the certificate");
    assert_eq!(given.of("ClusterRole").count(), 0, "nothing is asked of the API");
    let may_create = |manifests: &Manifests| {
        let rules = manifests.one("Role", "spillway-injector")["rules"].to_string();
        rules.contains("\"create\"")
    };
    assert!(!may_create(&chart(&json!({})).await));
    assert!(may_create(&chart(&json!({ "injection": { "mayCreateSecrets": true } })).await));
    let pod = &given.one("Deployment", "spillway-injector")["spec"]["template"]["spec"];
    let secret = &given.one("Certificate", "spillway-injector")["spec"]["secretName"];
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], *secret);
    assert!(pod["containers"][0]["args"].to_string().contains("--tls-dir=/etc/spillway/tls"));
}

#[tokio::test]
async fn what_is_said_of_the_sidecars_reaches_the_webhook_by_its_flags() {
    let values = json!({ "image": { "repository": "here/spillway", "tag": "9" }, "injection": { "sidecar": { "memoryLimit": "1Gi", "runAsUser": "none", "args": "--fallback=refuse" } } });
    let manifests = chart(&values).await;
    let pod = &manifests.one("Deployment", "spillway-injector")["spec"]["template"]["spec"];
    let arguments = pod["containers"][0]["args"].to_string();
    for flag in [
        "--image=here/spillway:9",
        "--rules=spillway-routes",
        "--memory-limit=1Gi",
        "--run-as-user=none",
        "--args=--fallback=refuse",
    ] {
        assert!(arguments.contains(flag), "{flag}: {arguments}");
    }
    assert!(!arguments.contains("--cpu-limit"), "the program's own default: {arguments}");
}

#[tokio::test]
async fn every_container_of_ours_is_restricted_and_its_arguments_are_the_programs() {
    for (name, values) in wishes() {
        for pod in chart(&values).await.pods() {
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            for container in containers(pod).filter(|one| one["name"] == "spillway") {
                assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
                assert!(container["resources"]["requests"]["cpu"].is_string(), "{name}");
                let arguments: Vec<&str> = container["args"]
                    .as_array()
                    .expect("arguments")
                    .iter()
                    .filter_map(Value::as_str)
                    .collect();
                let ended = run(&[&arguments[..], &["--help"]].concat()).await;
                assert_eq!(ended.code, Some(0), "{name}: {arguments:?}: {}", ended.errors);
            }
        }
    }
}

#[tokio::test]
async fn the_admission_policy_is_the_repositorys_with_what_is_said_of_the_sidecars() {
    let given = json!({
        "cpuLimit": "2", "memoryLimit": "1Gi", "envSecret": "spillway", "rules": "our-routes",
        "runAsUser": "none", "spool": "2Gi", "args": "--fallback=refuse --threads=1",
    });
    let values = json!({
        "image": { "repository": "here/spillway", "tag": "9" },
        "injection": { "by": "policy", "failurePolicy": "Fail", "sidecar": given },
    });
    let manifests = chart(&values).await;
    // The kind is there from 1.36 on.
    assert_eq!(manifests.faults(&["1.36", "1.37"]).await, Vec::<String>::new());
    assert_eq!(manifests.documents.len(), 2, "policy and binding, nothing that runs");
    // What the program itself makes of the same wishes.
    let own = run(&[
        "inject",
        "--policy",
        "--image=here/spillway:9",
        "--cpu-limit=2",
        "--memory-limit=1Gi",
        "--env-secret=spillway",
        "--rules=our-routes",
        "--run-as-user=none",
        "--spool=2Gi",
        "--args=--fallback=refuse --threads=1",
    ])
    .await;
    let own = yaml(&own.output.replace("failurePolicy: Ignore", "failurePolicy: Fail")).await;
    assert_eq!(manifests.documents, own);
}

#[tokio::test]
async fn the_webhook_that_the_chart_starts_is_the_one_that_its_configuration_calls() {
    let manifests = chart(&json!({})).await;
    let kube = Kube::start().await;
    let name = "spillway-injector";
    let secret = format!("/api/v1/namespaces/spillway-system/secrets/{name}");
    let own = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let own = format!("{own}/{name}");
    kube.put(&secret, manifests.one("Secret", name).clone());
    kube.put(&own, manifests.one("MutatingWebhookConfiguration", name).clone());
    let pod = &manifests.one("Deployment", name)["spec"]["template"]["spec"];
    let mut setup = Spillway::webhook(kube.url());
    for argument in pod["containers"][0]["args"].as_array().expect("arguments").iter().skip(1) {
        let argument = argument.as_str().expect("text").trim_start_matches("--");
        let (flag, value) = argument.split_once('=').expect("a value");
        // The ports of a pod, which the test has none of.
        if !["listen", "admin"].contains(&flag) {
            setup = setup.with(&format!("--{flag}"), value);
        }
    }
    let webhook = setup.start().await;
    let bundle = eventually("the configuration has the CA", || async {
        let hook = kube.get(&own)?["webhooks"][0].clone();
        hook["clientConfig"]["caBundle"].as_str().map(str::to_owned)
    })
    .await;
    let ca = base64::engine::general_purpose::STANDARD.decode(bundle).expect("base64");
    let ca = String::from_utf8(ca).expect("PEM");
    let service = &manifests.one("MutatingWebhookConfiguration", name)["webhooks"][0]["clientConfig"]
        ["service"];
    let host = format!(
        "{}.{}.svc",
        service["name"].as_str().expect("a name"),
        service["namespace"].as_str().expect("a namespace")
    );
    trusting(webhook.address(), &ca, &host).await.expect("a certificate for the Service's name");
    assert!(kube.get(&secret).expect("the Secret")["data"]["tls.key"].is_string());
}

#[tokio::test]
async fn alerts_and_dashboard_are_those_of_the_repository() {
    let manifests = chart(&wishes()[3].1).await;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect("a file");
    let mut groups = Vec::new();
    for file in ["recording", "requests", "jobs"] {
        let rules = yaml(&read(&format!("k8s/alerts/{file}.yaml"))).await.remove(0);
        groups.extend(rules["groups"].as_array().expect("groups").clone());
    }
    assert_eq!(manifests.one("PrometheusRule", "spillway")["spec"]["groups"], json!(groups));
    let shown = &manifests.one("ConfigMap", "spillway-dashboard")["data"]["spillway.json"];
    let shown: Value = serde_json::from_str(shown.as_str().expect("text")).expect("JSON");
    let own: Value = serde_json::from_str(&read("k8s/dashboard/spillway.json")).expect("JSON");
    assert_eq!(shown, own);
}

#[tokio::test]
async fn the_guides_values_and_rules_are_taken_as_they_stand() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kubernetes.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    let block = |fence: &str| {
        let text = guide.split_once(fence).expect("the block").1;
        text.split("```").next().expect("its end").to_owned()
    };
    let mut values = yaml(&block("```yaml\n# workers.yaml")).await.remove(0);
    let plain = chart(&values).await;
    assert_eq!(plain.faults(&VERSIONS).await, Vec::<String>::new());
    assert_eq!(plain.of("Deployment").count(), 1);
    values["consumer"]["keda"] = json!({ "enabled": true, "awsRegion": "eu-west-1" });
    let scaled = chart(&values).await;
    assert_eq!(scaled.faults(&VERSIONS).await, Vec::<String>::new());
    assert_eq!(scaled.of("ScaledObject").count(), 1);
    let rules = rules::file::check(&block("```toml\n"));
    assert!(rules.is_ok(), "{rules:?}");
}

#[tokio::test]
async fn the_policy_of_the_chart_is_the_programs_with_the_charts_defaults() {
    let sidecar = json!({ "cpuLimit": "2", "envSecret": "spillway", "rules": "own-routes" });
    let wanted = json!({ "injection": { "by": "policy", "sidecar": sidecar } });
    let manifests = chart(&wanted).await;
    let is_policy = |one: &&Value| one["kind"] == "MutatingAdmissionPolicy";
    let rendered = manifests.documents.iter().find(is_policy).expect("a policy");
    let variables = rendered["spec"]["variables"].as_array().expect("variables");
    let image = variables.iter().find(|one| one["name"] == "image").expect("the image");
    let image = image["expression"].as_str().and_then(|text| text.rsplit('\'').nth(1));
    let flags = ["--cpu-limit=2", "--env-secret=spillway", "--rules=own-routes", "--image"];
    let mut arguments = vec!["inject", "--policy"];
    arguments.extend(flags.iter().copied().chain(image));
    let printed = run(&arguments).await;
    assert_eq!(printed.code, Some(0), "{}", printed.errors);
    assert_eq!(rendered["spec"], yaml(&printed.output).await[0]["spec"]);
}
