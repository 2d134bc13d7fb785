//! What a cluster's own rules say of a pod with the sidecar: quotas, LimitRanges and OpenShift's SCC,
//! written after their documents (concepts/policy/limit-range, concepts/policy/resource-quotas, and
//! `restricted-v2` of OpenShift 4.11 and later).

use super::cases::{cases, pods};
use inject::resources::quantity;
use inject::{Options, Outcome, inject};
use serde_json::{Map, Value, json};
use support::Manifests;

/// The containers of a pod, each with its requests and limits.
fn containers(pod: &mut Value) -> impl Iterator<Item = &mut Value> {
    let spec = pod["spec"].as_object_mut().expect("a spec");
    let lists =
        spec.iter_mut().filter(|(key, _)| ["containers", "initContainers"].contains(&key.as_str()));
    lists.flat_map(|(_, list)| list.as_array_mut().into_iter().flatten())
}

/// What an administrator has written down in a namespace.
#[derive(Default)]
struct Namespace {
    name: &'static str,
    /// By resource.
    default_limit: Value,
    default_request: Value,
    min: Value,
    max: Value,
    /// Of the limits of all containers together.
    pod_max: Value,
    /// Limit by request, at most.
    ratio: Option<i128>,
    /// `limits.cpu` and the like, still free.
    quota: Value,
}

fn amount(of: &Value, resource: &str) -> Option<i128> {
    of.get(resource).and_then(|value| quantity(value.as_str().expect("a text")))
}

impl Namespace {
    /// LimitRanger's defaults, and then the API's: a request that is not given is the limit.
    fn fill(&self, pod: &mut Value) {
        for container in containers(pod) {
            let mut resources = container.get("resources").cloned().unwrap_or(json!({}));
            for kind in ["limits", "requests"] {
                let mut own =
                    resources.get(kind).and_then(Value::as_object).cloned().unwrap_or_default();
                let limits =
                    resources.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
                let mut fill = |from: Map<String, Value>| {
                    for (resource, value) in from {
                        own.entry(resource).or_insert(value);
                    }
                };
                let defaults =
                    if kind == "limits" { &self.default_limit } else { &self.default_request };
                // A limit that the container itself has is its request; the default request comes after.
                if kind == "requests" {
                    let given = container.pointer("/resources/limits").and_then(Value::as_object);
                    fill(given.cloned().unwrap_or_default());
                }
                fill(defaults.as_object().cloned().unwrap_or_default());
                if kind == "requests" {
                    fill(limits);
                }
                resources[kind] = own.into();
            }
            container["resources"] = resources;
        }
    }

    fn check(&self, pod: &mut Value) -> Result<(), String> {
        let all: Vec<Value> = containers(pod).map(|one| one["resources"].clone()).collect();
        for own in &all {
            for resource in ["cpu", "memory"] {
                let (request, limit) =
                    (amount(&own["requests"], resource), amount(&own["limits"], resource));
                if let Some(min) = amount(&self.min, resource)
                    && request.is_none_or(|request| request < min)
                {
                    return Err(format!("{resource}: below the minimum"));
                }
                if let Some(max) = amount(&self.max, resource)
                    && limit.is_none_or(|limit| limit > max)
                {
                    return Err(format!("{resource}: over the maximum"));
                }
                if let (Some(ratio), "cpu") = (self.ratio, resource)
                    && limit.zip(request).is_none_or(|(limit, request)| limit > request * ratio)
                {
                    return Err(format!("{resource}: over the ratio"));
                }
            }
        }
        for resource in ["cpu", "memory"] {
            let limits: Option<Vec<i128>> =
                all.iter().map(|own| amount(&own["limits"], resource)).collect();
            if let Some(max) = amount(&self.pod_max, resource)
                && limits.is_none_or(|limits| limits.iter().sum::<i128>() > max)
            {
                return Err(format!("{resource}: the pod is over the maximum"));
            }
        }
        for (name, free) in self.quota.as_object().into_iter().flatten() {
            let (kind, resource) = name.split_once('.').expect("requests.cpu");
            let own: Option<Vec<i128>> =
                all.iter().map(|own| amount(&own[kind], resource)).collect();
            let own = own.ok_or_else(|| format!("{name}: every container must have one"))?;
            let free = free.as_str().and_then(quantity).expect("a quantity");
            if own.iter().sum::<i128>() > free {
                return Err(format!("{name}: exceeded"));
            }
        }
        Ok(())
    }

    /// As the API server works: LimitRanger, webhooks, LimitRanger again for what they added.
    fn admits(&self, pod: &Value, options: Option<&Options>) -> Result<(), String> {
        let mut pod = pod.clone();
        self.fill(&mut pod);
        if let Some(options) = options {
            match inject(&pod, options).outcome {
                Outcome::Injected { pod: injected, .. } => pod = injected,
                other => panic!("{other:?}"),
            }
            self.fill(&mut pod);
        }
        self.check(&mut pod)
    }
}

fn pod(resources: &Value) -> Value {
    json!({ "metadata": { "name": "web" }, "spec": { "containers": [{
        "name": "web", "ports": [{ "name": "http", "containerPort": 8080 }], "resources": resources,
    }] } })
}

fn namespaces() -> Vec<Namespace> {
    let usual = |name| Namespace { name, ..Namespace::default() };
    let cpu = |amount: &str| json!({ "cpu": amount });
    vec![
        usual("nothing"),
        Namespace {
            default_limit: json!({ "cpu": "300m", "memory": "200Mi" }),
            default_request: json!({ "cpu": "100m", "memory": "100Mi" }),
            max: json!({ "cpu": "500m", "memory": "512Mi" }),
            ..usual("a maximum with defaults")
        },
        Namespace { default_limit: cpu("1"), ..usual("a default limit") },
        Namespace { default_request: cpu("250m"), ..usual("a default request") },
        Namespace { pod_max: json!({ "cpu": "1", "memory": "1Gi" }), ..usual("a pod's maximum") },
        Namespace {
            quota: json!({ "requests.cpu": "1", "limits.cpu": "1", "requests.memory": "1Gi", "limits.memory": "1Gi" }),
            ..usual("a quota of everything")
        },
        Namespace { quota: json!({ "requests.cpu": "2" }), ..usual("a quota of requests") },
        Namespace {
            quota: json!({ "limits.cpu": "2" }),
            default_limit: cpu("500m"),
            ..usual("a quota with defaults")
        },
        Namespace {
            quota: json!({ "requests.ephemeral-storage": "10Gi", "limits.ephemeral-storage": "20Gi" }),
            ..usual("a quota of storage")
        },
        Namespace { min: json!({ "cpu": "10m", "memory": "16Mi" }), ..usual("a small minimum") },
    ]
}

fn wishes() -> Vec<Value> {
    let storage = json!({ "ephemeral-storage": "1Gi" });
    vec![
        json!({}),
        json!({ "requests": { "cpu": "100m", "memory": "128Mi" } }),
        json!({ "limits": { "cpu": "400m", "memory": "256Mi" } }),
        json!({ "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "cpu": "400m", "memory": "256Mi" } }),
        json!({ "requests": storage, "limits": storage }),
    ]
}

#[test]
fn what_is_accepted_without_the_sidecar_is_accepted_with_it() {
    let (mut accepted, options) = (0, Options::default());
    for namespace in namespaces() {
        for resources in wishes() {
            let pod = pod(&resources);
            if namespace.admits(&pod, None).is_ok() {
                accepted += 1;
                assert_eq!(
                    namespace.admits(&pod, Some(&options)),
                    Ok(()),
                    "{}: {resources}",
                    namespace.name
                );
            }
        }
    }
    assert!(accepted > 25, "only {accepted} pods were accepted without it");
}

#[test]
fn what_a_guide_names_as_refused_is_refused_and_its_annotation_mends_it() {
    let cpu = |amount: &str| json!({ "cpu": amount });
    let limited = json!({ "requests": { "cpu": "200m" }, "limits": { "cpu": "400m" } });
    let minimum = Namespace { min: cpu("100m"), ..Namespace::default() };
    let ratio = Namespace { ratio: Some(4), ..Namespace::default() };
    let full = Namespace { quota: json!({ "limits.cpu": "600m" }), ..Namespace::default() };
    let maximum =
        Namespace { max: cpu("400m"), default_limit: cpu("400m"), ..Namespace::default() };
    let own = |key: &str, value: &str| {
        let mut pod = pod(&limited);
        pod["metadata"]["annotations"] = json!({ format!("spillway.dev/{key}"): value });
        pod
    };
    for (namespace, why, key, value) in [
        (&minimum, "cpu: below the minimum", "cpu-request", "100m"),
        (&ratio, "cpu: over the ratio", "cpu-limit", "200m"),
        (&full, "limits.cpu: exceeded", "cpu-limit", "100m"),
        (&maximum, "cpu: over the maximum", "cpu-limit", "400m"),
    ] {
        let options = Options::default();
        assert_eq!(namespace.admits(&pod(&limited), None), Ok(()));
        assert_eq!(namespace.admits(&pod(&limited), Some(&options)), Err(why.to_owned()));
        assert_eq!(namespace.admits(&own(key, value), Some(&options)), Ok(()), "{key}");
    }
}

/// What `restricted-v2` refuses of a pod in a namespace whose users are these.
fn refused_by_scc(pod: &Value) -> Vec<String> {
    let range = 1_000_650_000..1_000_660_000_u64;
    let mut found = Vec::new();
    let mut check = |of: &str, context: &Value, keys: &[&str]| {
        for key in keys {
            if let Some(id) =
                context.get(*key).and_then(Value::as_u64).filter(|id| !range.contains(id))
            {
                found.push(format!("{of}: {key} {id}"));
            }
        }
        let profile = context.pointer("/seccompProfile/type").and_then(Value::as_str);
        if let Some(other) = profile.filter(|profile| *profile != "RuntimeDefault") {
            found.push(format!("{of}: seccomp {other}"));
        }
        if ["privileged", "allowPrivilegeEscalation"].iter().any(|key| context[*key] == true) {
            found.push(format!("{of}: privileges"));
        }
        let added = context.pointer("/capabilities/add").and_then(Value::as_array);
        if added.is_some_and(|added| added.iter().any(|one| one != "NET_BIND_SERVICE")) {
            found.push(format!("{of}: capabilities"));
        }
    };
    let spec = &pod["spec"];
    check("the pod", &spec["securityContext"], &["runAsUser", "fsGroup"]);
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            check(name, &container["securityContext"], &["runAsUser"]);
        }
    }
    if ["hostNetwork", "hostPID", "hostIPC"].iter().any(|key| spec[*key] == true) {
        found.push("the node's namespaces".to_owned());
    }
    found
}

#[test]
fn openshift_admits_with_the_sidecar_what_it_admits_without() {
    let mut admitted = 0;
    for case in cases() {
        for pod in pods(&case.text).iter().filter(|pod| refused_by_scc(pod).is_empty()) {
            let Outcome::Injected { pod: injected, .. } = inject(pod, &Options::default()).outcome
            else {
                continue;
            };
            // A user of one's own choice is one's own affair.
            if !case.text.contains("run-as-user") {
                assert_eq!(refused_by_scc(&injected), Vec::<String>::new(), "{}", case.name);
                admitted += 1;
            }
        }
    }
    assert!(admitted > 25, "only {admitted} pods");
}

#[tokio::test]
async fn openshift_admits_the_pods_of_chart_and_base() {
    let chart = Manifests::chart(&json!({})).await.expect("rendered");
    let base = Manifests::kustomize("k8s/base").await;
    let mut count = 0;
    for template in chart.pods().chain(base.pods()) {
        assert_eq!(refused_by_scc(&json!({ "spec": template })), Vec::<String>::new());
        count += 1;
    }
    assert!(count >= 3, "only {count} pods");
}
