//! The one function that all front ends share, and its inverse.

use crate::handlers;
use crate::names::{
    ADMIN_PORT, GRACE_SECONDS_MIN, INJECT, RECORD, SIDECAR, VOLUMES, renamed, step,
};
use crate::options::{Mode, Options};
use crate::patch::{self, Operation};
use crate::record::Record;
use crate::refusal::{Caution, Reason, Refusal, Warning};
use crate::resources::{self, Resources};
use crate::sidecar::{self, Sidecar, apps_hook};
use crate::target::{self, Target, list, text};
use crate::wishes::Wishes;
use serde_json::{Value, json};

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Injected {
        pod: Value,
        patch: Vec<Operation>,
    },
    /// It was injected before, by whatever front end.
    Already,
    /// Every reason at once; the first is the one that is counted.
    Refused(Vec<Refusal>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub outcome: Outcome,
    pub warnings: Vec<Warning>,
    /// Whether the pod itself wants the sidecar: then a refusal is news to its owner.
    pub is_asked_for: bool,
}

/// Puts the sidecar into a pod, or a pod template (an object with `metadata` and `spec`). A pod
/// that has it already stays as it is, whatever the options are now.
pub fn inject(pod: &Value, options: &Options) -> Answer {
    let wishes = Wishes::new(pod);
    let mut warnings = wishes.unknown();
    let outcome = match plan(pod, &wishes, options, &mut warnings) {
        _ if is_injected(pod) => Outcome::Already,
        Ok(patch) => {
            let mut pod = pod.clone();
            patch::apply(&mut pod, &patch);
            Outcome::Injected { pod, patch }
        }
        Err(refusals) => Outcome::Refused(refusals),
    };
    Answer { outcome, warnings, is_asked_for: wishes.is_asked_for() }
}

/// The same, but a pod that was injected before gets what it would get today.
pub fn update(pod: &Value, options: &Options) -> Answer {
    let injected = Some(pod).filter(|pod| is_injected(pod));
    let Some(original) = injected.and_then(uninject) else { return inject(pod, options) };
    let mut answer = inject(&original, options);
    if matches!(&answer.outcome, Outcome::Injected { pod: updated, .. } if updated == pod) {
        answer.outcome = Outcome::Already;
    }
    answer
}

fn record_of(pod: &Value) -> Option<&str> {
    pod.get("metadata")?.get("annotations")?.get(RECORD)?.as_str()
}

fn sidecar_of(pod: &Value) -> Option<&Value> {
    let spec = pod.get("spec")?;
    let mut all = list(spec, "initContainers").iter().chain(list(spec, "containers"));
    all.find(|container| text(container, "name") == SIDECAR)
}

fn is_injected(pod: &Value) -> bool {
    record_of(pod).is_some() && sidecar_of(pod).is_some()
}

fn plan(
    pod: &Value,
    wishes: &Wishes<'_>,
    options: &Options,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Operation>, Vec<Refusal>> {
    let Some(spec) = pod.get("spec").filter(|spec| !list(spec, "containers").is_empty()) else {
        return Err(vec![Refusal::new(Reason::NotAPod, "spec.containers is missing")]);
    };
    let mut refusals = target::obstacles(spec, wishes, options.mode);
    if options.is_opt_in && wishes.inject().is_none() {
        let why = format!("only pods that say {INJECT}: enabled are injected here");
        refusals.insert(0, Refusal::new(Reason::NotAsked, why));
    }
    if record_of(pod).is_some() {
        let why = format!("{RECORD} is set, but there is no sidecar: remove the annotation");
        refusals.push(Refusal::new(Reason::StaleRecord, why));
    }
    let found = target::find(spec, wishes);
    let target = match found {
        Ok(target) => target,
        Err(refusal) => {
            refusals.push(refusal);
            return Err(refusals);
        }
    };
    refusals.extend(target::name_taken(spec, &target));
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let own = wishes.over(options);
    warnings.extend(cautions(spec, &target));
    warnings.extend(class_of_service(spec, &own));
    warnings.extend(without_pull_secrets(spec, &own));
    Ok(operations(pod, spec, &target, &own))
}

fn cautions(spec: &Value, target: &Target<'_>) -> Vec<Warning> {
    let mut found = Vec::new();
    let name = target.container_name();
    if target.container.pointer("/lifecycle/preStop").is_some() {
        let what = format!(
            "container {name} keeps its own preStop: it may get SIGTERM while requests are in flight unless that hook waits for GET http://127.0.0.1:{ADMIN_PORT}/drained"
        );
        found.push(Warning::new(Caution::OwnPreStop, what));
    }
    let grace = spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64);
    if let Some(grace) = grace.filter(|grace| *grace < GRACE_SECONDS_MIN) {
        let what = format!(
            "terminationGracePeriodSeconds is {grace}: requests in flight may be cut off; {GRACE_SECONDS_MIN} or more lets the drain and the application finish"
        );
        found.push(Warning::new(Caution::ShortGrace, what));
    }
    if target.port.get("hostPort").is_some() {
        let what = format!(
            "port {} of {name} has a hostPort, which goes around the sidecar",
            target.number()
        );
        found.push(Warning::new(Caution::HostPort, what));
    }
    found
}

/// What becomes of a pod's class of service, where that costs something.
fn class_of_service(spec: &Value, own: &Options) -> Option<Warning> {
    let resources = Resources::of(spec, own).filter(|_| resources::is_guaranteed(spec))?;
    Some(match &resources.cpu_limit {
        Some(limit) => {
            let memory = &resources.memory_limit;
            let what = format!(
                "the pod is Guaranteed, and stays so: the sidecar requests all that it may use, cpu {limit} and memory {memory}"
            );
            Warning::new(Caution::Guaranteed, what)
        }
        None => {
            let what =
                "without a CPU limit of the sidecar the pod is Burstable, no longer Guaranteed";
            Warning::new(Caution::Burstable, what)
        }
    })
}

fn without_pull_secrets(spec: &Value, own: &Options) -> Option<Warning> {
    let is_left_out = !own.pull_secrets.is_empty()
        && !own.is_admission
        && list(spec, "imagePullSecrets").is_empty();
    let what = format!(
        "the pod lists no imagePullSecrets, and with one of its own it would get none of its ServiceAccount's: put {} there",
        own.pull_secrets
    );
    is_left_out.then(|| Warning::new(Caution::PullSecrets, what))
}

/// Everything that is changed, in the order in which it is written down.
fn operations(pod: &Value, spec: &Value, target: &Target<'_>, own: &Options) -> Vec<Operation> {
    let sidecar = Sidecar {
        options: own.clone(),
        port_name: target.outward_name().to_owned(),
        app_port: target.number().to_string(),
        resources: Resources::of(spec, own),
        user: sidecar::user(own, spec),
    };
    let mut patch = Patch::default();
    match own.mode {
        Mode::Native => {
            patch.ensure(spec, "/spec", "initContainers", json!([]), "init-containers");
            patch.add("/spec/initContainers/0", sidecar.container());
        }
        Mode::Container => patch.add("/spec/containers/-", sidecar.container()),
    }
    let container = format!("/spec/containers/{}", target.index);
    if let Some(name) = target.port_name() {
        let new = renamed(name);
        let port = format!("{container}/ports/{}/name", target.port_index);
        patch.replace(port, &new);
        for (pointer, _) in handlers::ports(target.container).filter(|(_, port)| *port == name) {
            patch.replace(format!("{container}{pointer}"), &new);
        }
    }
    let lifecycle = target.container.get("lifecycle");
    if lifecycle.and_then(|lifecycle| lifecycle.get("preStop")).is_none() {
        patch.ensure(target.container, &container, "lifecycle", json!({}), "lifecycle");
        patch.add(format!("{container}/lifecycle/preStop"), apps_hook());
        patch.added.push("prestop");
    }
    let pull_secrets = pull_secrets(spec, own);
    if !pull_secrets.is_empty() {
        patch.ensure(spec, "/spec", "imagePullSecrets", json!([]), "image-pull-secrets");
        for name in &pull_secrets {
            patch.add("/spec/imagePullSecrets/-", json!({ "name": name }));
        }
    }
    patch.ensure(spec, "/spec", "volumes", json!([]), "volumes");
    for volume in sidecar.volumes() {
        patch.add("/spec/volumes/-", volume);
    }
    patch.ensure(pod, "", "metadata", json!({}), "metadata");
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    patch.ensure(metadata, "/metadata", "annotations", json!({}), "annotations");
    let record = Record {
        container: target.container_name().to_owned(),
        port: target.port_name().map(str::to_owned),
        pull_secrets,
        added: patch.added.clone(),
    };
    patch.add(format!("/metadata/annotations/{}", step(RECORD)), record.to_string().into());
    patch.operations
}

/// What the sidecar's registry asks for and the pod does not list yet. A pod that lists none has its
/// account's, which it would lose by one of its own: then nothing is added, unless admission has put
/// the account's in already.
fn pull_secrets(spec: &Value, own: &Options) -> Vec<String> {
    let listed = list(spec, "imagePullSecrets");
    if listed.is_empty() && !own.is_admission {
        return Vec::new();
    }
    let is_listed = |name: &str| listed.iter().any(|one| text(one, "name") == name);
    let wanted = own.pull_secrets.split(',').filter(|name| !name.is_empty());
    wanted.filter(|name| !is_listed(name)).map(str::to_owned).collect()
}

#[derive(Default)]
struct Patch {
    operations: Vec<Operation>,
    added: Vec<&'static str>,
}

impl Patch {
    fn add(&mut self, path: impl Into<String>, value: Value) {
        self.operations.push(Operation::Add(path.into(), value));
    }

    fn replace(&mut self, path: String, value: &str) {
        self.operations.push(Operation::Replace(path, value.into()));
    }

    /// Adds an empty field where there is none, and remembers it by its word.
    fn ensure(&mut self, owner: &Value, path: &str, key: &str, empty: Value, word: &'static str) {
        if owner.get(key).is_none_or(Value::is_null) {
            self.add(format!("{path}/{key}"), empty);
            self.added.push(word);
        }
    }
}

/// Gives back what was injected; nothing for a pod that was not.
pub fn uninject(pod: &Value) -> Option<Value> {
    let record = Record::parse(record_of(pod)?);
    let mut pod = pod.clone();
    if let Some(spec) = pod.get_mut("spec") {
        for key in ["initContainers", "containers"] {
            remove_named(spec, key, &[SIDECAR]);
        }
        remove_named(spec, "volumes", &VOLUMES);
        if !record.pull_secrets.is_empty() {
            let own: Vec<&str> = record.pull_secrets.iter().map(String::as_str).collect();
            remove_named(spec, "imagePullSecrets", &own);
        }
        drop_if_added(spec, "imagePullSecrets", record.has_added("image-pull-secrets"));
        drop_if_added(spec, "initContainers", record.has_added("init-containers"));
        drop_if_added(spec, "volumes", record.has_added("volumes"));
        let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
        let mut containers = containers.into_iter().flatten();
        if let Some(app) = containers.find(|one| text(one, "name") == record.container) {
            restore(app, &record);
        }
    }
    if let Some(metadata) = pod.get_mut("metadata") {
        if let Some(all) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            all.remove(RECORD);
        }
        drop_if_added(metadata, "annotations", record.has_added("annotations"));
    }
    drop_if_added(&mut pod, "metadata", record.has_added("metadata"));
    Some(pod)
}

fn restore(app: &mut Value, record: &Record) {
    if let Some(name) = &record.port {
        let new = renamed(name);
        let ports = app.get_mut("ports").and_then(Value::as_array_mut);
        let names = ports.into_iter().flatten().filter_map(|port| port.get_mut("name"));
        for own in names.filter(|own| **own == new) {
            *own = name.as_str().into();
        }
        for pointer in handlers::pointers() {
            if let Some(port) = app.pointer_mut(&pointer).filter(|port| **port == new) {
                *port = name.as_str().into();
            }
        }
    }
    if record.has_added("prestop")
        && let Some(lifecycle) = app.get_mut("lifecycle").and_then(Value::as_object_mut)
    {
        lifecycle.remove("preStop");
    }
    drop_if_added(app, "lifecycle", record.has_added("lifecycle"));
}

fn remove_named(owner: &mut Value, key: &str, names: &[&str]) {
    if let Some(items) = owner.get_mut(key).and_then(Value::as_array_mut) {
        items.retain(|item| !names.contains(&text(item, "name")));
    }
}

/// Takes off what the injection had to add, unless somebody has filled it since.
fn drop_if_added(owner: &mut Value, key: &str, is_added: bool) {
    let is_empty = match owner.get(key) {
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        _ => false,
    };
    if let Some(fields) = owner.as_object_mut().filter(|_| is_added && is_empty) {
        fields.remove(key);
    }
}
