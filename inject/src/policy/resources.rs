//! Requests, limits and user, as [`crate::resources`] and [`crate::sidecar::user`] choose them, in CEL.

use super::variable::variable;
use crate::names::{AUTO, NONE};
use crate::resources::{CPU_LIMIT, STORAGE};
use crate::sidecar::USER;

/// Whether a field is there; each of its owners may be missing.
fn has(owner: &str, path: &str) -> String {
    let (mut all, mut whole) = (Vec::new(), owner.to_owned());
    for part in path.split('.') {
        whole = format!("{whole}.{part}");
        all.push(format!("has({whole})"));
    }
    all.join(" && ")
}

/// Whether the container `c` has a limit, or a request.
fn is_given(kind: &str, resource: &str) -> String {
    format!("{} && '{resource}' in c.resources.{kind}", has("c", &format!("resources.{kind}")))
}

/// Whether the container `c` requests all of its limit, as it does where it requests nothing.
fn is_requested(resource: &str) -> String {
    let amount = |kind: &str| format!("quantity(string(c.resources.{kind}['{resource}']))");
    format!(
        "(!({}) || {}.compareTo({}) == 0)",
        is_given("requests", resource),
        amount("requests"),
        amount("limits")
    )
}

/// The variables from which `resources` is made, in their order.
pub(super) fn variables() -> [(&'static str, String); 9] {
    let (request, limit) = (variable("cpu-request"), variable("cpu-limit"));
    let memory = variable("memory-limit");
    let is_whole = ["cpu", "memory"]
        .map(|resource| format!("{} && {}", is_given("limits", resource), is_requested(resource)));
    let auto = format!(
        "quantity({request}).compareTo(quantity('{CPU_LIMIT}')) > 0 ? {request} : '{CPU_LIMIT}'"
    );
    let all =
        |kind: &str, of: &str| format!("variables.everyContainer.all(c, {})", is_given(kind, of));
    let raised = |to: &str, own: &str| {
        format!("variables.isGuaranteed && variables.limit != '' ? {to} : {own}")
    };
    [
        (
            "isPodLevel",
            "has(object.spec.resources) && (has(object.spec.resources.limits) || has(object.spec.resources.requests))".to_owned(),
        ),
        ("isStorageRequested", all("requests", STORAGE)),
        ("isStorageLimited", all("limits", STORAGE)),
        ("isLimited", all("limits", "cpu")),
        (
            "isGuaranteed",
            format!("variables.everyContainer.all(c, {})", is_whole.join(" && ")),
        ),
        (
            "limit",
            format!(
                "{limit} == '{NONE}' ? '' : {limit} != '{AUTO}' ? {limit} : variables.isLimited ? ({auto}) : ''"
            ),
        ),
        (
            "requests",
            format!(
                "{{'cpu': {}, 'memory': {}}}",
                raised("variables.limit", &request),
                raised(&memory, &variable("memory-request"))
            ),
        ),
        (
            "limits",
            format!(
                "variables.limit == '' ? {{'memory': {memory}}} : {{'cpu': variables.limit, 'memory': {memory}}}"
            ),
        ),
        ("resources", "{'requests': variables.requests, 'limits': variables.limits}".to_owned()),
    ]
}

/// Empty where none is written down.
pub(super) fn user() -> (&'static str, String) {
    let is_named = ["runAsUser", "runAsGroup"]
        .map(|id| format!("({})", has("object.spec", &format!("securityContext.{id}"))));
    let (user, is_named) = (variable("run-as-user"), is_named.join(" || "));
    let value = format!(
        "{user} == '{NONE}' ? '' : {user} != '{AUTO}' ? {user} : {is_named} ? '{USER}' : ''"
    );
    ("user", value)
}
