//! The same injection as a MutatingAdmissionPolicy (Kubernetes 1.36 and later): CEL that the API
//! server runs itself, without a webhook. Native mode only; where the function warns, it is silent.

use crate::cel::{computed, expression, quoted, spliced};
use crate::form::Form;
use crate::handlers::{ACTIONS, HOOKS, PROBES};
use crate::names::{
    ADMIN_PORT, INJECT, PORT_NAME, PORT_NAME_CHARS_MAX, PREFIX, PROXY_PORT, RECORD, RENAMED,
    SIDECAR, VOLUMES, step,
};
use crate::options::{Mode, Options};
use crate::resources::{STORAGE, STORAGE_REQUEST};
use crate::sidecar::{Sidecar, apps_hook, env_config, env_secret};
use crate::wishes::OVERRIDES;
use serde_json::{Value, json};

mod resources;
mod variable;

use variable::variable;

const NAME: &str = "inject.spillway.dev";

/// The policy and its binding, as YAML.
pub fn manifests(options: &Options) -> String {
    let policy = crate::yaml::write(&policy(options), None);
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": { "name": NAME },
        "spec": { "policyName": NAME },
    });
    let head = "# Made by `spillway inject --policy`, not by hand. Kubernetes 1.36 or later.\n";
    format!("{head}{policy}---\n{}", crate::yaml::write(&binding, None))
}

fn policy(options: &Options) -> Value {
    let variables = variables(options);
    let variables = variables.into_iter().map(|(name, expression)| {
        let name = name.trim_start_matches("variables.");
        json!({ "name": name, "expression": expression })
    });
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": { "name": NAME },
        "spec": {
            // As a webhook that can't be reached: the pod starts without its sidecar.
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": {
                "namespaceSelector": { "matchExpressions": [
                    { "key": INJECT, "operator": "In", "values": ["enabled", "opt-in"] },
                ] },
                "objectSelector": {
                    "matchExpressions": [{ "key": INJECT, "operator": "NotIn", "values": ["disabled"] }],
                },
                "resourceRules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }],
            },
            "variables": variables.collect::<Vec<_>>(),
            "mutations": [{
                "patchType": "JSONPatch",
                "jsonPatch": { "expression": format!("variables.isWanted ?\n{}\n: []\n", patch()) },
            }],
        },
    })
}

/// The annotation's text, or else the expression.
fn annotated(name: &str, otherwise: &str) -> (String, String) {
    let key = quoted(&format!("{PREFIX}{name}"));
    let value = format!(
        "{key} in variables.annotations ? string(variables.annotations[{key}]) : {otherwise}"
    );
    (variable(name), value)
}

fn variables(options: &Options) -> Vec<(String, String)> {
    let mut all = given(options);
    let is_match = "(variables.number > 0 ? p.containerPort == variables.number : has(p.name) && p.name == variables.port)";
    let is_match = format!("{is_match} && (!has(p.protocol) || p.protocol == 'TCP')");
    let cut = PORT_NAME_CHARS_MAX - RENAMED.len();
    let mut add = |name: &str, value: String| all.push((format!("variables.{name}"), value));
    let present = |path: &str| format!("has({path}) ? {path} : []");
    add("number", "variables.port.matches('^[0-9]+$') ? int(variables.port) : 0".to_owned());
    add("inits", present("object.spec.initContainers"));
    add("volumes", present("object.spec.volumes"));
    add("everyContainer", "object.spec.containers + variables.inits".to_owned());
    add(
        "apps",
        format!(
            "object.spec.containers.filter(c, (variables.container == '' || c.name == variables.container) && has(c.ports) && c.ports.exists(p, {is_match}))"
        ),
    );
    add(
        "ports",
        format!("size(variables.apps) == 1 ? variables.apps[0].ports.filter(p, {is_match}) : []"),
    );
    add("isFound", "size(variables.ports) == 1".to_owned());
    add("app", "variables.apps[0]".to_owned());
    add("appIndex", "object.spec.containers.map(c, c.name).indexOf(variables.app.name)".to_owned());
    add(
        "portName",
        "variables.isFound && has(variables.ports[0].name) ? string(variables.ports[0].name) : ''"
            .to_owned(),
    );
    add(
        "portIndex",
        "variables.app.ports.map(p, has(p.name) ? string(p.name) : '').indexOf(variables.portName)"
            .to_owned(),
    );
    add("outward", format!("variables.portName == '' ? '{PORT_NAME}' : variables.portName"));
    add(
        "cut",
        format!(
            "'{RENAMED}' + (size(variables.portName) > {cut} ? variables.portName.substring(0, {cut}) : variables.portName)"
        ),
    );
    add("renamed", "variables.cut.endsWith('-') ? variables.cut.substring(0, size(variables.cut) - 1) : variables.cut".to_owned());
    add(
        "hasHook",
        "has(variables.app.lifecycle) && has(variables.app.lifecycle.preStop)".to_owned(),
    );
    add("handlers", handlers());
    add("isFree", is_free());
    add("isWanted", is_wanted());
    for (name, value) in resources::variables().into_iter().chain([resources::user()]) {
        add(name, value);
    }
    add(
        "listed",
        "has(object.spec.imagePullSecrets) ? object.spec.imagePullSecrets.map(s, has(s.name) ? string(s.name) : '') : []".to_owned(),
    );
    // Accounts' own are in by now.
    add(
        "secrets",
        "variables.pullSecrets == '' ? [] : variables.pullSecrets.split(',').filter(n, !(n in variables.listed))".to_owned(),
    );
    add("record", record());
    add("sources", sources());
    add("sidecar", expression(&sidecar().container(), 0));
    all
}

/// What the pod says, or else the options.
fn given(options: &Options) -> Vec<(String, String)> {
    let or_none = |name: &Option<String>| quoted(name.as_deref().unwrap_or_default());
    let present = |of: &str| {
        let path = format!("object.metadata.{of}");
        (format!("variables.{of}"), format!("has({path}) ? {path} : {{}}"))
    };
    let (args, words) = annotated("args", &quoted(&options.args.join(" ")));
    let words = format!("({words}).replace('\\n', ' ').split(' ').filter(w, w != '')");
    let mut all = vec![
        present("labels"),
        present("annotations"),
        (
            "variables.inject".to_owned(),
            format!(
                "'{INJECT}' in variables.labels ? string(variables.labels['{INJECT}']) : {}",
                annotated("inject", &unless_opt_in()).1
            ),
        ),
        annotated("image", &quoted(&options.image)),
        annotated("rules", &quoted(&options.rules)),
        annotated("env-config", &or_none(&options.env_config)),
        annotated("env-secret", &or_none(&options.env_secret)),
        annotated("cpu-request", &quoted(&options.cpu_request)),
        annotated("cpu-limit", &quoted(&options.cpu_limit)),
        annotated("memory-request", &quoted(&options.memory_request)),
        annotated("memory-limit", &quoted(&options.memory_limit)),
        annotated("spool", &quoted(&options.spool)),
        annotated("trusted-proxy", &quoted(&options.trusted_proxy)),
        annotated("run-as-user", &quoted(&options.run_as_user)),
        annotated("pull-secrets", &quoted(&options.pull_secrets)),
        annotated("port", &quoted(PORT_NAME)),
        annotated("container", "''"),
        (args, words),
    ];
    let is_good = |(name, form): (&str, Form)| {
        let key = quoted(&format!("{PREFIX}{name}"));
        let (variable, regex) = (variable(name), quoted(form.regex()));
        format!("(!({key} in variables.annotations) || {variable}.matches({regex}))")
    };
    let checks = OVERRIDES.into_iter().chain(crate::wishes::SELECTORS).map(is_good);
    let checks: Vec<String> = checks.collect();
    all.push(("variables.isWellFormed".to_owned(), checks.join(" &&\n")));
    all
}

/// What a pod that says nothing means, by its namespace.
fn unless_opt_in() -> String {
    let labels = "namespaceObject.metadata.labels";
    format!("{labels}['{INJECT}'] == 'opt-in' ? 'disabled' : 'enabled'")
}

/// Nothing has a name or a number that the sidecar needs.
fn is_free() -> String {
    let named = |name: &str| format!("(has(p.name) && p.name == {name})");
    let pointed = ACTIONS.map(|action| points_at(action, "variables.renamed"));
    let outward = named("variables.outward");
    [
        format!("!variables.everyContainer.exists(c, c.name == '{SIDECAR}' || has(c.ports) && c.ports.exists(p, p.containerPort in [{PROXY_PORT}, {ADMIN_PORT}]))"),
        format!("!variables.volumes.exists(v, v.name in [{}])", VOLUMES.map(quoted).join(", ")),
        format!("!object.spec.containers.exists(c, has(c.ports) && size(c.ports.filter(p, {outward})) > (variables.portName != '' && c.name == variables.app.name ? 1 : 0))"),
        format!("(variables.portName == '' || !variables.app.ports.exists(p, {}) && !variables.handlers.exists(h, {}))", named("variables.renamed"), pointed.join(" || ")),
    ]
    .join(" &&\n")
}

fn is_wanted() -> String {
    [
        "variables.inject == 'enabled'".to_owned(),
        format!("!('{RECORD}' in variables.annotations)"),
        "variables.isWellFormed".to_owned(),
        "!(has(object.spec.hostNetwork) && object.spec.hostNetwork)".to_owned(),
        "!(has(object.spec.os) && object.spec.os.name == 'windows')".to_owned(),
        "!(has(object.spec.nodeSelector) && 'kubernetes.io/os' in object.spec.nodeSelector && object.spec.nodeSelector['kubernetes.io/os'] == 'windows')".to_owned(),
        "variables.isFound".to_owned(),
        "variables.isFree".to_owned(),
    ]
    .join(" &&\n")
}

fn record() -> String {
    let unless = |condition: &str, word: &str| format!("({condition} ? '' : ' {word}')");
    [
        "'container=' + string(variables.app.name)".to_owned(),
        "(variables.portName == '' ? '' : ' port=' + variables.portName)".to_owned(),
        "(size(variables.secrets) == 0 ? '' : ' pull-secrets=' + variables.secrets.join(','))"
            .to_owned(),
        unless("has(object.spec.initContainers)", "init-containers"),
        unless("variables.hasHook || has(variables.app.lifecycle)", "lifecycle"),
        unless("variables.hasHook", "prestop"),
        unless(
            "size(variables.secrets) == 0 || has(object.spec.imagePullSecrets)",
            "image-pull-secrets",
        ),
        unless("has(object.spec.volumes)", "volumes"),
        unless("has(object.metadata.annotations)", "annotations"),
    ]
    .join(" +\n")
}

/// The application's probes and hooks, each with its pointer below the container.
fn handlers() -> String {
    let of = |owner: &str, prefix: &str, holders: &[&str]| {
        let names: Vec<String> = holders.iter().map(|holder| quoted(holder)).collect();
        format!(
            "[{}].filter(h, h in {owner}).map(h, {{'path': dyn('{prefix}' + h), 'handler': dyn({owner}[h])}})",
            names.join(", ")
        )
    };
    let lifecycle = "variables.app.lifecycle";
    format!(
        "{} +\n(has({lifecycle}) ? {} : [])",
        of("variables.app", "/", &PROBES),
        of(lifecycle, "/lifecycle/", &HOOKS)
    )
}

/// Whether the handler `h` takes this action on the port of that name.
fn points_at(action: &str, name: &str) -> String {
    let action = format!("h.handler.{action}");
    format!("has({action}) && has({action}.port) && {action}.port == {name}")
}

fn sidecar() -> Sidecar {
    let of = |annotation: &str| computed(&variable(annotation));
    let options = Options {
        image: of("image"),
        rules: of("rules"),
        // Added by an operation of its own: an expression can't leave a field out.
        env_config: None,
        env_secret: None,
        args: vec![spliced("variables.args")],
        spool: of("spool"),
        trusted_proxy: of("trusted-proxy"),
        mode: Mode::Native,
        ..Options::default()
    };
    Sidecar {
        options,
        port_name: computed("variables.outward"),
        app_port: computed("string(variables.ports[0].containerPort)"),
        // These, too.
        resources: None,
        user: None,
    }
}

/// The operations, in the order of `pod`.
fn patch() -> String {
    let add = |path: &str, value: &str| operation("add", path, value);
    let when = |condition: &str, then: &str| format!("({condition} ? [{then}] : [])");
    let absent =
        |field: &str, path: &str, empty: &str| when(&format!("!has({field})"), &add(path, empty));
    let always = |operation: String| format!("[{operation}]");
    let app = |path: &str| format!("'/spec/containers/' + string(variables.appIndex) + {path}");
    let pointed = ACTIONS.map(|action| {
        let path = app(&format!("h.path + '/{action}/port'"));
        let replace = operation("replace", &path, "variables.renamed");
        format!(
            "variables.handlers.filter(h, {}).map(h, {replace})",
            points_at(action, "variables.portName")
        )
    });
    let port = app("'/ports/' + string(variables.portIndex) + '/name'");
    let hook = expression(&apps_hook(), 0);
    let volumes =
        sidecar().volumes().map(|volume| add("'/spec/volumes/-'", &expression(&volume, 0)));
    let identity = ["runAsUser", "runAsGroup"].map(|id| {
        add(&format!("'/spec/initContainers/0/securityContext/{id}'"), "int(variables.user)")
    });
    let storage = |condition: &str, kind: &str, value: &str| {
        let path = format!("'/spec/initContainers/0/resources/{kind}/{STORAGE}'");
        when(&format!("!variables.isPodLevel && variables.{condition}"), &add(&path, value))
    };
    let record = format!("'/metadata/annotations/{}'", step(RECORD));
    [
        absent("object.spec.initContainers", "'/spec/initContainers'", "[]"),
        always(add("'/spec/initContainers/0'", "variables.sidecar")),
        when(
            "size(variables.sources) > 0",
            &add("'/spec/initContainers/0/envFrom'", "variables.sources"),
        ),
        when(
            "!variables.isPodLevel",
            &add("'/spec/initContainers/0/resources'", "variables.resources"),
        ),
        storage("isStorageRequested", "requests", &quoted(STORAGE_REQUEST)),
        storage("isStorageLimited", "limits", "variables.spool"),
        when("variables.user != ''", &identity.join(", ")),
        when("variables.portName != ''", &operation("replace", &port, "variables.renamed")),
        pointed.join(" +\n"),
        absent("variables.app.lifecycle", &app("'/lifecycle'"), "{}"),
        when("!variables.hasHook", &add(&app("'/lifecycle/preStop'"), &hook)),
        when(
            "size(variables.secrets) > 0 && !has(object.spec.imagePullSecrets)",
            &add("'/spec/imagePullSecrets'", "[]"),
        ),
        format!("variables.secrets.map(n, {})", add("'/spec/imagePullSecrets/-'", "{'name': n}")),
        absent("object.spec.volumes", "'/spec/volumes'", "[]"),
        always(volumes.join(", ")),
        absent("object.metadata.annotations", "'/metadata/annotations'", "{}"),
        always(add(&record, "variables.record")),
    ]
    .join(" +\n")
}

fn operation(op: &str, path: &str, value: &str) -> String {
    format!("JSONPatch{{op: '{op}', path: {path}, value: {value}}}")
}

/// ConfigMap and Secret of the environment, as far as they are named.
fn sources() -> String {
    let sources = [("env-config", env_config as fn(&String) -> Value), ("env-secret", env_secret)];
    let source = |(name, source): (&str, fn(&String) -> Value)| {
        let variable = variable(name);
        let value = expression(&source(&computed(&variable)), 0);
        format!("({variable} == '' ? [] : [{value}])")
    };
    sources.map(source).join(" +\n")
}
