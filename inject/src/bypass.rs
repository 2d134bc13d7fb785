//! Services that lead around the sidecar: those that ask for the application's port by number.

use crate::manifest::{Document, for_each_pod};
use crate::names::{ADMIN_PORT, PORT_NAME, PROXY_PORT, RECORD, renamed};
use crate::record::Record;
use crate::refusal::{Caution, Warning};
use crate::target::{list, text};
use serde_json::Value;

/// What a Service may ask for that is the application's own port.
struct Injected {
    what: String,
    namespace: String,
    labels: Value,
    number: u64,
    /// The name that the port had, and that the sidecar's has now.
    outward: Option<String>,
}

/// Every port of a Service that selects an injected pod and goes to the application itself.
/// The documents are those after the injection.
pub fn find(documents: &[Document<'_>]) -> Vec<Warning> {
    let (mut pods, mut services) = (Vec::new(), Vec::new());
    for document in documents {
        let mut value = document.value.clone();
        collect(&value, &mut services);
        for_each_pod(&mut value, &mut |what, workload, pointer| {
            pods.extend(injected(what, workload, pointer));
        });
    }
    let mut found = Vec::new();
    for service in &services {
        for pod in pods.iter().filter(|pod| selects(service, pod)) {
            let ports = service.pointer("/spec/ports").and_then(Value::as_array);
            found.extend(ports.into_iter().flatten().filter_map(|port| around(service, port, pod)));
        }
    }
    found
}

/// What a Service alone says that may lead around the sidecars of its pods: ports that it asks for by
/// number. For who sees no pods.
pub fn by_number(service: &Value) -> Option<Warning> {
    let spec = service.get("spec")?;
    let has_pods =
        spec.get("selector").and_then(Value::as_object).is_some_and(|one| !one.is_empty());
    if !has_pods || text(spec, "type") == "ExternalName" {
        return None;
    }
    // Without a targetPort the Service's own number is meant.
    let wanted = |port: &Value| port.get("targetPort").or_else(|| port.get("port"))?.as_u64();
    let ours = [u64::from(PROXY_PORT), u64::from(ADMIN_PORT)];
    let numbers: Vec<String> = list(spec, "ports")
        .iter()
        .filter_map(wanted)
        .filter(|number| !ours.contains(number))
        .map(|number| number.to_string())
        .collect();
    let what = format!(
        "targetPort {} is a number, which goes around the sidecar of pods that have one: write the name of the port, {PORT_NAME} as a rule",
        numbers.join(", ")
    );
    (!numbers.is_empty()).then(|| Warning::new(Caution::Bypass, what))
}

fn collect(value: &Value, services: &mut Vec<Value>) {
    match text(value, "kind") {
        "Service" if text(value, "apiVersion") == "v1" => services.push(value.clone()),
        kind if kind.ends_with("List") => {
            list(value, "items").iter().for_each(|item| collect(item, services));
        }
        _ => {}
    }
}

fn injected(what: String, workload: &Value, pointer: &str) -> Option<Injected> {
    let pod = workload.pointer(pointer)?;
    let record = pod.get("metadata")?.get("annotations")?.get(RECORD)?.as_str()?;
    let record = Record::parse(record);
    let sidecar = "--app=http://127.0.0.1:";
    let spec = pod.get("spec")?;
    let all = list(spec, "initContainers").iter().chain(list(spec, "containers"));
    let number = all
        .flat_map(|container| list(container, "args"))
        .find_map(|argument| argument.as_str()?.strip_prefix(sidecar)?.parse().ok())?;
    Some(Injected {
        what,
        namespace: namespace(workload).to_owned(),
        labels: pod.pointer("/metadata/labels").cloned().unwrap_or_default(),
        number,
        outward: record.port,
    })
}

fn namespace(object: &Value) -> &str {
    object.get("metadata").map_or("", |metadata| text(metadata, "namespace"))
}

fn selects(service: &Value, pod: &Injected) -> bool {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    namespace(service) == pod.namespace
        && selector.is_some_and(|selector| {
            !selector.is_empty()
                && selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
        })
}

fn around(service: &Value, port: &Value, pod: &Injected) -> Option<Warning> {
    // Without a targetPort the Service's own number is meant.
    let wanted = port.get("targetPort").or_else(|| port.get("port"))?;
    let outward = pod.outward.as_deref();
    let is_own = match wanted {
        Value::String(name) => {
            outward.map(renamed).as_ref() == Some(name) || name.parse() == Ok(pod.number)
        }
        number => number.as_u64() == Some(pod.number),
    };
    let name = service.get("metadata").map_or("", |metadata| text(metadata, "name"));
    let instead = outward.unwrap_or(PORT_NAME);
    let what = format!(
        "Service {name} sends port {} to {wanted} of {}, around the sidecar: set targetPort: {instead}",
        port.get("port").unwrap_or(&Value::Null),
        pod.what,
    );
    is_own.then(|| Warning::new(Caution::Bypass, what))
}
