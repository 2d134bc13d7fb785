//! The same injection as a kustomize Component: for workloads that are known, exactly; for any
//! others, as far as a patch can go that sees nothing of what it changes.

use crate::manifest::{self, Document};
use crate::names::{INJECT, PORT_NAME, RENAMED};
use crate::options::Options;
use crate::patch::Operation;
use crate::pod::{self, Outcome};
use crate::resources::Resources;
use crate::sidecar::{Sidecar, apps_hook, user_unseen};
use crate::target::text;
use crate::yaml;
use serde_json::{Value, json};

/// What the general component expects of the first container's first port.
const APP_PORT: u16 = 8080;

/// For exactly these workloads. Their containers' names are tested first, so that a component that
/// is older than its workload fails instead of changing another container.
pub fn for_workloads(documents: &[Document<'_>], options: &Options) -> String {
    let mut patches = Vec::new();
    for document in documents {
        let mut value = document.value.clone();
        manifest::for_each_pod(&mut value, &mut |_, workload, pointer| {
            let Some(pod) = workload.pointer(pointer) else { return };
            if let Outcome::Injected { patch, .. } = pod::inject(pod, options).outcome {
                let operations = guards(pod, pointer)
                    .chain(patch.iter().map(|operation| below(pointer, operation)));
                let patch = yaml::write(&operations.collect(), None);
                patches.push(json!({ "target": target(workload), "patch": patch }));
            }
        });
    }
    component(&patches)
}

fn component(patches: &[Value]) -> String {
    let component = json!({
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": patches,
    });
    format!(
        "# Made by `spillway inject --component`, not by hand.\n{}",
        yaml::write(&component, None)
    )
}

fn guards<'p>(pod: &'p Value, pointer: &'p str) -> impl Iterator<Item = Value> + 'p {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    containers.into_iter().flatten().enumerate().map(move |(index, container)| {
        let path = format!("{pointer}/spec/containers/{index}/name");
        json!({ "op": "test", "path": path, "value": text(container, "name") })
    })
}

fn below(pointer: &str, operation: &Operation) -> Value {
    let mut operation = operation.to_json();
    operation["path"] = format!("{pointer}{}", text(&operation, "path")).into();
    operation
}

fn target(workload: &Value) -> Value {
    let version = text(workload, "apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let metadata = workload.get("metadata").unwrap_or(&Value::Null);
    let mut target = json!({
        "version": version,
        "kind": text(workload, "kind"),
        "name": text(metadata, "name"),
    });
    for (key, value) in [("group", group), ("namespace", text(metadata, "namespace"))] {
        if !value.is_empty() {
            target[key] = value.into();
        }
    }
    target
}

/// For every workload with the label `spillway.dev/inject: enabled` of which this holds: the first
/// container is the application, and its first port is 8080, named `http`; its probes ask by
/// number; it has no lifecycle hooks. Where port or hooks are others, kustomize fails.
pub fn for_labelled(options: &Options) -> String {
    let sidecar = Sidecar {
        options: options.clone(),
        port_name: PORT_NAME.to_owned(),
        app_port: APP_PORT.to_string(),
        resources: Some(Resources::unseen(options)),
        user: user_unseen(options),
    };
    let added = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "any" },
        "spec": { "template": { "spec": {
            "initContainers": [sidecar.container()],
            "volumes": sidecar.volumes(),
        } } },
    });
    let app = "/spec/template/spec/containers/0";
    let operation = |op: &str, path: &str, value: Value| json!({ "op": op, "path": format!("{app}{path}"), "value": value });
    let changed = json!([
        operation("test", "/ports/0/name", PORT_NAME.into()),
        operation("test", "/ports/0/containerPort", APP_PORT.into()),
        operation("test", "/lifecycle", Value::Null),
        operation("replace", "/ports/0/name", format!("{RENAMED}{PORT_NAME}").into()),
        operation("add", "/lifecycle", json!({ "preStop": apps_hook() })),
    ]);
    let target = json!({
        "group": "apps",
        "version": "v1",
        "kind": "(Deployment|StatefulSet|DaemonSet)",
        "labelSelector": format!("{INJECT}=enabled"),
    });
    component(
        &[added, changed]
            .map(|patch| json!({ "target": target, "patch": yaml::write(&patch, None) })),
    )
}
