//! The manifests under k8s/: what an API server says to them, and whether their numbers agree with
//! the rules and with each other.

use serde_json::Value;
use std::collections::BTreeSet;
use support::{App, Manifests, Reply, Spillway, VERSIONS, containers, folder, run};

/// What somebody may apply: a folder, and components over it.
const SETS: [(&str, &[&str]); 5] = [
    ("k8s/base", &[]),
    ("k8s/base", &["k8s/autoscaling/keda"]),
    ("k8s/base", &["k8s/autoscaling/jobs"]),
    ("k8s/base", &["k8s/autoscaling/external"]),
    ("k8s/shards", &["k8s/autoscaling/keda", "k8s/monitoring", "k8s/dashboard"]),
];
/// What docs/kubernetes.md lets its reader make by hand.
const BY_HAND: [&str; 1] = ["spillway-routes"];
/// The preStop hooks, and the receive under way, which `--grace` does not count. Seconds.
const DRAIN: u64 = 25;
const LONG_POLL: u64 = 5;

async fn sets() -> Vec<(String, Manifests)> {
    let mut sets = Vec::new();
    for (base, components) in SETS {
        let name = format!("{base} {}", components.join(" "));
        sets.push((name, Manifests::overlay(base, components).await));
    }
    sets
}

fn routes() -> rules::file::Checked {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../routes.toml");
    let text = std::fs::read_to_string(file).expect("the example rules");
    rules::file::check(&text).expect("rules without a fault")
}

/// Seconds of the longest job.
fn job_timeout() -> u64 {
    let longest = routes().document.queues["reports"].job_timeout;
    longest.as_secs()
}

fn arguments(container: &Value) -> Vec<&str> {
    let arguments = container["args"].as_array().map(Vec::as_slice).unwrap_or_default();
    arguments.iter().filter_map(Value::as_str).collect()
}

fn flag<'v>(container: &'v Value, name: &str) -> Option<&'v str> {
    let start = format!("--{name}=");
    arguments(container).into_iter().find_map(|argument| argument.strip_prefix(&start))
}

/// Every container that runs Spillway, with its pod.
fn sidecars(manifests: &Manifests) -> Vec<(&Value, &Value)> {
    let pairs = manifests.pods().flat_map(|pod| containers(pod).map(move |one| (pod, one)));
    pairs.filter(|(_, container)| container["name"] == "spillway").collect()
}

#[tokio::test]
async fn an_api_server_of_every_supported_version_takes_every_manifest() {
    for (name, manifests) in sets().await {
        assert!(manifests.documents.len() > 5, "{name}");
        assert_eq!(manifests.faults(&VERSIONS).await, Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn a_misspelt_field_is_refused_in_every_kind() {
    let keda = Manifests::overlay("k8s/base", &["k8s/autoscaling/keda"]).await;
    let jobs = Manifests::overlay("k8s/base", &["k8s/autoscaling/jobs", "k8s/monitoring"]).await;
    for (manifests, right, wrong) in [
        (&keda, "averageUtilization", "averageUtilisation"),
        (&keda, "startupProbe", "startupprobe"),
        (&keda, "maxUnavailable: 1", "maxUnavailible: 1"),
        (&keda, "cooldownPeriod", "coolDownPeriod"),
        (&keda, "failureThreshold: 3", "failureThreshold: three"),
        (&keda, "identityOwner", "identityowner"),
        (&keda, "scaleOnInFlight", "scaleOnInflight"),
        (&keda, "kind: ScaledObject\nmetadata:\n  name", "kind: ScaledObject\nmetadata:\n  nam"),
        (&jobs, "backoffLimit", "backOffLimit"),
        (&jobs, "successfulJobsHistoryLimit", "successfullJobsHistoryLimit"),
        (&jobs, "podMetricsEndpoints", "podMetricEndpoints"),
        (&jobs, "interval: 15s", "interval: 15 s"),
        (&jobs, "kind: ScaledJob", "kind: ScaledJobs"),
    ] {
        let faults = manifests.but(right, wrong).await.faults(&VERSIONS[..1]).await;
        assert!(!faults.is_empty(), "{wrong} was taken");
    }
}

#[tokio::test]
async fn every_argument_is_one_that_the_program_has() {
    for (name, manifests) in sets().await {
        let found = sidecars(&manifests);
        assert!(!found.is_empty(), "{name}");
        for (_, container) in found {
            let arguments = [arguments(container), vec!["--help"]].concat();
            let ended = run(&arguments).await;
            assert_eq!(ended.code, Some(0), "{name}: {arguments:?}: {}", ended.errors);
        }
    }
}

#[tokio::test]
async fn every_name_of_the_rules_is_bound_and_every_service_that_is_bound_exists() {
    let document = routes().document;
    for (name, manifests) in sets().await {
        let services: BTreeSet<&str> =
            manifests.of("Service").filter_map(|own| own["metadata"]["name"].as_str()).collect();
        for (_, container) in sidecars(&manifests) {
            let bound: Vec<(&str, &str)> = arguments(container)
                .into_iter()
                .filter_map(|argument| argument.strip_prefix("--upstream=")?.split_once('='))
                .collect();
            let names: BTreeSet<&str> = bound.iter().map(|(name, _)| *name).collect();
            let shards = document.shard_maps.values().flat_map(|map| map.shards.values());
            let wanted: BTreeSet<&str> = shards.filter_map(|one| one.upstream.as_deref()).collect();
            assert_eq!(names, wanted, "{name}");
            for (_, url) in bound {
                let host = url.trim_start_matches("http://");
                let is_there = host == "127.0.0.1:8080" || services.contains(host);
                assert!(is_there, "{name}: no Service {host}");
            }
            let queue = flag(container, "queue").and_then(|queue| queue.split_once('='));
            assert_eq!(queue.map(|(name, _)| name), Some("reports"), "{name}");
        }
    }
}

#[tokio::test]
async fn each_shard_has_a_service_that_selects_its_own_pods_only() {
    let manifests = Manifests::kustomize("k8s/shards").await;
    for shard in ["a", "b", "c"] {
        let name = format!("market-{shard}");
        let selector = &manifests.one("Service", &name)["spec"]["selector"];
        assert_eq!(selector["spillway.dev/shard"], shard);
        let labels =
            manifests.one("Deployment", &name)["spec"]["template"]["metadata"]["labels"].clone();
        assert_eq!(labels, *selector);
        let target = &manifests.one("HorizontalPodAutoscaler", &name)["spec"]["scaleTargetRef"];
        assert_eq!(target["name"], name.as_str());
        let pod = &manifests.one("Deployment", &name)["spec"]["template"]["spec"];
        assert_eq!(flag(&pod["initContainers"][0], "shard"), Some(shard));
    }
    let all = &manifests.one("Service", "market")["spec"]["selector"];
    assert_eq!(*all, serde_json::json!({ "app.kubernetes.io/name": "market" }));
    assert_eq!(manifests.of("Deployment").count(), 4, "three shards and the workers");
}

/// The headless Services of admin ports, by name, with whom they select.
fn admin_services(manifests: &Manifests) -> Vec<(&str, &Value)> {
    let services = manifests.of("Service").filter(|own| own["spec"]["clusterIP"] == "None");
    let named = services.map(|own| (own["metadata"]["name"].as_str().expect("a name"), own));
    named.collect()
}

#[tokio::test]
async fn siblings_and_the_coordinator_of_shard_maps_reach_every_admin_port() {
    let coordinator = Manifests::kustomize("k8s/coordinator").await;
    assert_eq!(coordinator.faults(&VERSIONS).await, Vec::<String>::new());
    let job = &coordinator.one("Job", "market-shards")["spec"]["template"];
    let container = &job["spec"]["containers"][0];
    let ended = run(&[arguments(container), vec!["--help"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let environment = container["env"].as_array().expect("an environment");
    let sidecars = environment.iter().find(|own| own["name"] == "SPILLWAY_SIDECARS");
    let asked = sidecars.and_then(|own| own["value"].as_str()).expect("whom it asks");
    for (name, manifests) in sets().await {
        let services = admin_services(&manifests);
        let addresses: Vec<String> =
            services.iter().map(|(service, _)| format!("{service}:15081")).collect();
        assert_eq!(addresses.join(","), asked, "{name}");
        let peers = &manifests.one("ConfigMap", "spillway-settings")["data"]["SPILLWAY_PEERS"];
        assert_eq!(peers.as_str(), addresses.first().map(String::as_str), "{name}");
        let policy = &manifests.one("NetworkPolicy", "market")["spec"];
        let from = policy["ingress"][1]["from"].as_array().expect("who may come");
        let may = |labels: &Value| from.iter().any(|peer| peer["podSelector"] == *labels);
        assert!(may(&policy["podSelector"]), "{name}: siblings");
        let role = job["metadata"]["labels"]["spillway.dev/role"].as_str();
        let labels = serde_json::json!({ "matchLabels": { "spillway.dev/role": role } });
        assert!(may(&labels), "{name}: the coordinator");
        for (service, own) in services {
            assert_eq!(own["spec"]["publishNotReadyAddresses"], true, "{name}: {service}");
            let selected = own["spec"]["selector"]["app.kubernetes.io/name"].as_str();
            let chosen = &policy["podSelector"]["matchExpressions"][0]["values"];
            let is_chosen = chosen.as_array().is_some_and(|all| {
                all.iter().any(|value| value.as_str() == selected && selected.is_some())
            });
            assert!(is_chosen, "{name}: {service} leads to pods of the policy");
        }
    }
}

#[tokio::test]
async fn the_job_that_moves_a_range_reaches_what_the_coordinator_reaches() {
    let manifests = Manifests::kustomize("k8s/reshard").await;
    assert_eq!(manifests.faults(&VERSIONS).await, Vec::<String>::new());
    let job = &manifests.one("Job", "market-reshard")["spec"]["template"];
    let container = &job["spec"]["containers"][0];
    let mut reshard = tokio::process::Command::new(support::reshard());
    let ended = reshard.args(arguments(container)).arg("--help").output().await.expect("it starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let coordinator = Manifests::kustomize("k8s/coordinator").await;
    let other = &coordinator.one("Job", "market-shards")["spec"]["template"];
    let role = |job: &Value| job["metadata"]["labels"]["spillway.dev/role"].clone();
    assert_eq!(role(job), role(other));
    let (own, its) = (&job["spec"], &other["spec"]);
    assert_eq!(own["serviceAccountName"], its["serviceAccountName"]);
    assert_eq!(own["volumes"], its["volumes"]);
    let environment = |spec: &Value| spec["containers"][0]["env"].as_array().cloned();
    let (own, its) = (environment(own).expect("an environment"), environment(its).expect("one"));
    assert!(its.iter().all(|variable| own.contains(variable)), "{own:?}");
}

#[tokio::test]
async fn a_pod_names_only_config_maps_that_are_there() {
    for (name, manifests) in sets().await {
        let mut known: BTreeSet<&str> =
            manifests.of("ConfigMap").filter_map(|map| map["metadata"]["name"].as_str()).collect();
        known.extend(BY_HAND);
        for pod in manifests.pods() {
            let sources = containers(pod).flat_map(|one| one["envFrom"].as_array()).flatten();
            let volumes = pod["volumes"].as_array().into_iter().flatten();
            let named = sources
                .map(|source| &source["configMapRef"]["name"])
                .chain(volumes.map(|volume| &volume["configMap"]["name"]))
                .filter_map(Value::as_str);
            for map in named {
                assert!(known.contains(map), "{name}: no ConfigMap {map}");
            }
        }
    }
}

#[tokio::test]
async fn a_pod_is_given_the_time_that_its_processes_take_to_end() {
    for (name, manifests) in sets().await {
        for (pod, container) in sidecars(&manifests) {
            let given = pod["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
            let grace = flag(container, "grace").map_or(25, |text| text.parse().expect("seconds"));
            let before = if arguments(container)[0] == "proxy" { DRAIN } else { LONG_POLL };
            assert!(given >= before + grace, "{name}: {given} s for {before} s and {grace} s");
        }
    }
}

#[tokio::test]
async fn workers_are_not_taken_away_or_cut_off_before_the_longest_job_can_have_ended() {
    let keda = Manifests::overlay("k8s/base", &["k8s/autoscaling/keda"]).await;
    let scaled = &keda.one("ScaledObject", "market-consumer")["spec"];
    assert!(scaled["cooldownPeriod"].as_u64() > Some(job_timeout()));
    assert_eq!(scaled["triggers"][0]["metadata"]["scaleOnInFlight"], "true");
    assert_eq!(scaled["minReplicaCount"], 0);
    let workers = keda.one("Deployment", "market-consumer");
    assert!(workers["spec"].get("replicas").is_none(), "KEDA owns them");
    let timeouts = keda.one("ConfigMap", "worker-timeouts")["data"].as_object().expect("settings");
    assert!(timeouts.len() > 3, "{timeouts:?}");
    for (server, text) in timeouts {
        let number = text.as_str().expect("text").split(|c: char| !c.is_ascii_digit());
        let first = number.filter_map(|digits| digits.parse::<u64>().ok()).next();
        assert!(first >= Some(job_timeout()), "{server}: {text}");
    }
}

#[tokio::test]
async fn gunicorn_reads_its_time_limit_from_the_workers_environment() {
    let base = Manifests::kustomize("k8s/base").await;
    let timeouts = &base.one("ConfigMap", "worker-timeouts")["data"];
    let said = support::python(
        "import sys; from gunicorn.app.wsgiapp import WSGIApplication\n\
         sys.argv = ['gunicorn', 'app:app']; print(WSGIApplication().cfg.timeout)",
        &[(
            "GUNICORN_CMD_ARGS".to_owned(),
            timeouts["GUNICORN_CMD_ARGS"].as_str().expect("text").to_owned(),
        )],
    )
    .await;
    assert_eq!(said, job_timeout().to_string());
}

#[tokio::test]
async fn nobody_but_prometheus_gets_past_the_sidecars_port() {
    for (name, manifests) in sets().await {
        let policy = &manifests.one("NetworkPolicy", "market")["spec"];
        let covered = &policy["podSelector"]["matchExpressions"][0]["values"];
        for pod in manifests.of("Deployment").chain(manifests.of("ScaledJob")) {
            let labels = pod.pointer("/spec/template/metadata/labels");
            let labels = labels.or(pod.pointer("/spec/jobTargetRef/template/metadata/labels"));
            let own = &labels.expect("labels")["app.kubernetes.io/name"];
            assert!(covered.as_array().is_some_and(|all| all.contains(own)), "{name}: {own}");
        }
        for rule in policy["ingress"].as_array().expect("rules") {
            let ports: Vec<u64> = rule["ports"]
                .as_array()
                .expect("ports")
                .iter()
                .filter_map(|one| one["port"].as_u64())
                .collect();
            match rule.get("from") {
                None => assert_eq!(ports, [15080], "{name}"),
                Some(_) => assert_eq!(ports, [15081], "{name}"),
            }
        }
    }
}

#[tokio::test]
async fn every_container_asks_for_cpu_and_memory_and_nothing_it_does_not_need() {
    for (name, manifests) in sets().await {
        for pod in manifests.pods() {
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
                "{name}"
            );
            for container in containers(pod) {
                let requests = &container["resources"]["requests"];
                assert!(requests["cpu"].is_string() && requests["memory"].is_string(), "{name}");
                let rights = &container["securityContext"];
                assert_eq!(rights["allowPrivilegeEscalation"], false, "{name}");
                assert_eq!(rights["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(rights["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
            }
        }
    }
}

const JOB: &str = r#"
[[route]]
name = "work"
match = { path = "/work", methods = ["POST"] }
offload = { queue = "q", when = "always", auth = "none" }

[queue.q]
visibility = "30s"
"#;

#[tokio::test]
async fn a_worker_for_a_kubernetes_job_ends_when_the_queue_is_empty_and_not_before() {
    let (app, files) = (App::start().await, folder());
    app.on("/work", Reply::ok("done").after(std::time::Duration::from_secs(6)));
    let proxy = Spillway::proxy(JOB, &app).jobs("q", files.path()).start().await;
    let accepted = proxy.client().post("/work", "1").await;
    let worker =
        Spillway::consume(JOB, &app).jobs("q", files.path()).env("SPILLWAY_UNTIL_EMPTY", "true");
    // The job takes longer than a receive that finds nothing.
    let worker = worker.start().await;
    assert_eq!(worker.ended().await, Some(0));
    let job = proxy.client().get(&accepted.header("location")).await;
    assert_eq!(job.json()["status"], "succeeded");
    let idle =
        Spillway::consume(JOB, &app).jobs("q", files.path()).env("SPILLWAY_UNTIL_EMPTY", "true");
    assert_eq!(idle.start().await.ended().await, Some(0));
    assert_eq!(app.count("/work"), 1);
}
