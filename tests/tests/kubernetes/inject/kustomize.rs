//! The kustomize components, rendered by kubectl.

use super::cases::{Case, cases, checked_in, read, values, was_injected};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use support::{Ended, folder, peer, run};

/// Resources and a component, rendered together.
async fn rendered(resources: &str, component: &str) -> Ended {
    let folder = folder();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, text).expect("a file");
    };
    write("app.yaml", resources);
    write("component/kustomization.yaml", component);
    write("kustomization.yaml", "resources: [app.yaml]\ncomponents: [component]\n");
    peer("kubectl", &["kustomize", &folder.path().display().to_string()]).await
}

/// By kind and name, as kustomize sorts; lists are taken apart, as it does.
fn objects(text: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for value in values(text) {
        let items = value.get("items").and_then(Value::as_array).cloned();
        for object in items.unwrap_or_else(|| vec![value]) {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            found.insert(name, object);
        }
    }
    found
}

#[tokio::test]
async fn a_component_for_a_workload_makes_exactly_what_the_command_makes() {
    let mut count = 0;
    for case in cases() {
        let golden = read(&case.golden_file());
        let has_name = !case.text.contains("generateName");
        // A component is made for what has no sidecar yet; and kustomize has rules of its own for
        // `no` and `on`, and reads no character of two escapes, whether there is a component or not.
        let is_special =
            ["already-injected", "yaml-traps", "json-documents"].contains(&case.name.as_str());
        if !was_injected(&golden) || !has_name || is_special {
            continue;
        }
        let component = component(&case).await;
        let ended = rendered(&case.text, &component).await;
        assert_eq!(ended.code, Some(0), "{}: {}", case.name, ended.errors);
        assert_eq!(objects(&ended.output), objects(&golden), "{}", case.name);
        count += 1;
    }
    assert!(count >= 30, "only {count} components");
}

async fn component(case: &Case) -> String {
    let file = case.file.display().to_string();
    let mut arguments = vec!["inject", "--component", file.as_str()];
    arguments.extend(case.flags.iter().map(String::as_str));
    let ended = run(&arguments).await;
    assert_eq!(ended.code, Some(0), "{}: {}", case.name, ended.errors);
    ended.output
}

#[tokio::test]
async fn a_component_refuses_a_workload_that_has_changed_since() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "php-fpm-nginx").expect("the case");
    let changed = case.text.replace("name: fpm", "name: php");
    let ended = rendered(&changed, &component(case).await).await;
    assert_ne!(ended.code, Some(0), "{}", ended.output);
}

const GENERAL: &str = "k8s/component/kustomization.yaml";

/// With the label on the workload that the general component looks for.
fn labelled(mut workload: Value) -> Value {
    workload["metadata"]["labels"]["spillway.dev/inject"] = "enabled".into();
    workload
}

/// Sorted volumes, and no record: the general component can't know what there was before.
fn comparable(mut workload: Value) -> Value {
    let template = &mut workload["spec"]["template"];
    let volumes = template["spec"]["volumes"].as_array_mut().expect("volumes");
    volumes.sort_by_key(|volume| volume["name"].to_string());
    let metadata = template["metadata"].as_object_mut().expect("metadata");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("spillway.dev/injected");
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    workload
}

#[tokio::test]
async fn the_general_component_makes_the_same_where_its_conditions_hold() {
    checked_in(GENERAL, &run(&["inject", "--component"]).await.output);
    // It can't see whether a pod names a user; the function writes one down only then.
    let general = run(&["inject", "--component", "--run-as-user=none"]).await.output;
    let usual = ["daemonset", "mesh-cloudsql", "mesh-vault-agent", "spring-boot"];
    for name in usual {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == name).expect("the case");
        let before = labelled(values(&case.text).swap_remove(0));
        let ended = rendered(&before.to_string(), &general).await;
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.errors);
        let after = comparable(values(&ended.output).swap_remove(0));
        let golden = labelled(values(&read(&case.golden_file())).swap_remove(0));
        assert_eq!(after, comparable(golden), "{name}");
    }
}

#[tokio::test]
async fn the_general_component_fails_where_port_or_hooks_are_others() {
    let general = read(&checked_in(GENERAL, &run(&["inject", "--component"]).await.output));
    let cases = cases();
    for name in ["statefulset", "django-gunicorn", "php-fpm-nginx"] {
        let case = cases.iter().find(|case| case.name == name).expect("the case");
        let before = labelled(values(&case.text).swap_remove(0));
        let ended = rendered(&before.to_string(), &general).await;
        assert_ne!(ended.code, Some(0), "{name}: {}", ended.output);
    }
    // Without the label it is none of its business.
    let plain =
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "plain" } });
    let ended = rendered(&plain.to_string(), &general).await;
    assert_eq!(values(&ended.output), [plain], "{}", ended.errors);
}
