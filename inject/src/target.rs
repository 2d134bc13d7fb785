//! Which container and which of its ports the sidecar is put in front of, and what is in its way.

use crate::names::{ADMIN_PORT, INJECT, PORT_NAME, PROXY_PORT, SIDECAR, VOLUMES, renamed};
use crate::options::Mode;
use crate::refusal::{Reason, Refusal};
use crate::wishes::Wishes;
use serde_json::Value;

/// The application's container and the port that is taken over.
pub struct Target<'p> {
    pub index: usize,
    pub container: &'p Value,
    pub port_index: usize,
    pub port: &'p Value,
}

impl<'p> Target<'p> {
    pub fn container_name(&self) -> &'p str {
        text(self.container, "name")
    }

    /// The port's own name, if it has one to give up.
    pub fn port_name(&self) -> Option<&'p str> {
        self.port.get("name")?.as_str().filter(|name| !name.is_empty())
    }

    /// The name under which Services find the sidecar.
    pub fn outward_name(&self) -> &'p str {
        self.port_name().unwrap_or(PORT_NAME)
    }

    pub fn number(&self) -> u64 {
        number(self.port)
    }
}

pub fn list<'p>(value: &'p Value, key: &str) -> &'p [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub fn text<'p>(value: &'p Value, key: &str) -> &'p str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(port: &Value) -> u64 {
    port.get("containerPort").and_then(Value::as_u64).unwrap_or(0)
}

/// # Errors
/// Why no port can be taken over.
pub fn find<'p>(spec: &'p Value, wishes: &Wishes<'_>) -> Result<Target<'p>, Refusal> {
    let wanted = wishes.port();
    let only = wishes.get("container");
    let wanted_number: Option<u64> = wanted.parse().ok();
    let is_wanted = |port: &Value| match wanted_number {
        Some(wanted) => number(port) == wanted,
        None => text(port, "name") == wanted,
    };
    let mut found = Vec::new();
    for (index, container) in list(spec, "containers").iter().enumerate() {
        if only.is_some_and(|only| only != text(container, "name")) {
            continue;
        }
        for (port_index, port) in list(container, "ports").iter().enumerate() {
            if is_wanted(port) {
                found.push(Target { index, container, port_index, port });
            }
        }
    }
    let is_tcp = |target: &Target<'_>| matches!(text(target.port, "protocol"), "" | "TCP");
    let of_other_protocols = found.len();
    found.retain(is_tcp);
    let count = found.len();
    match (found.pop(), count) {
        (Some(target), 1) => Ok(target),
        (None, _) if of_other_protocols > 0 => Err(Refusal::new(
            Reason::Protocol,
            format!("port {wanted} is not TCP: only HTTP over TCP can be taken over"),
        )),
        (None, _) => Err(Refusal::new(Reason::NoPort, nothing_found(spec, wanted, only))),
        (Some(_), _) => Err(Refusal::new(
            Reason::AmbiguousPort,
            format!(
                "{count} ports are called {wanted}: set spillway.dev/container, and give the others another name, since a Service that asks for the name must find one port; or set spillway.dev/port to a number"
            ),
        )),
    }
}

fn nothing_found(spec: &Value, wanted: &str, only: Option<&str>) -> String {
    let mut ports = Vec::new();
    for container in list(spec, "containers") {
        for port in list(container, "ports") {
            let name = port.get("name").and_then(Value::as_str).unwrap_or("without a name");
            ports.push(format!("{} {} ({name})", text(container, "name"), number(port)));
        }
    }
    let there = if ports.is_empty() {
        let remedy = match wanted.parse::<u64>() {
            Ok(number) => {
                format!(": add ports: [{{containerPort: {number}}}] to the application's")
            }
            Err(_) => String::new(),
        };
        format!("the containers declare no port{remedy}")
    } else {
        format!("there are: {}; choose with spillway.dev/port", ports.join(", "))
    };
    match only {
        Some(only) => format!("container {only} has no port {wanted}: {there}"),
        None => format!("no port {wanted}: {there}"),
    }
}

/// Everything about the pod itself, whatever port it may have.
pub fn obstacles(spec: &Value, wishes: &Wishes<'_>, mode: Mode) -> Vec<Refusal> {
    let mut found = wishes.faults();
    let mut refuse = |reason, detail: String| found.push(Refusal::new(reason, detail));
    if wishes.inject() == Some("disabled") {
        refuse(Reason::Disabled, format!("{INJECT} is disabled"));
    }
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        let why = "the ports of a pod on the host's network are the node's";
        refuse(Reason::HostNetwork, why.to_owned());
    }
    let of = |path: &str| spec.pointer(path).and_then(Value::as_str);
    if [of("/os/name"), of("/nodeSelector/kubernetes.io~1os")].contains(&Some("windows")) {
        refuse(Reason::Windows, "the sidecar is a program for Linux".to_owned());
    }
    if mode == Mode::Container && !matches!(of("/restartPolicy"), None | Some("Always")) {
        let why = "an ordinary container would keep the pod from completing: use native mode";
        refuse(Reason::NeverEnds, why.to_owned());
    }
    let all = || list(spec, "containers").iter().chain(list(spec, "initContainers"));
    if all().any(|container| text(container, "name") == SIDECAR) {
        let why = format!("there is a container {SIDECAR} that was not injected");
        refuse(Reason::ContainerExists, why);
    }
    for volume in list(spec, "volumes") {
        let name = text(volume, "name");
        if VOLUMES.contains(&name) {
            refuse(Reason::VolumeExists, format!("there is a volume {name} already: rename it"));
        }
    }
    for container in all() {
        for port in list(container, "ports") {
            if [u64::from(PROXY_PORT), u64::from(ADMIN_PORT)].contains(&number(port)) {
                let name = text(container, "name");
                let why = format!("container {name} has port {}, the sidecar's", number(port));
                refuse(Reason::PortInUse, why);
            }
        }
    }
    found
}

/// Names that would hide the sidecar's port, or be hidden by the application's new one.
pub fn name_taken(spec: &Value, target: &Target<'_>) -> Option<Refusal> {
    let outward = target.outward_name();
    let named = |container: &Value, name: &str| {
        list(container, "ports").iter().filter(|port| text(port, "name") == name).count()
    };
    let others: usize =
        list(spec, "containers").iter().map(|container| named(container, outward)).sum();
    let refused = |name: &str| {
        let why = format!("the name {name} is used for another port: rename that one");
        Some(Refusal::new(Reason::NameTaken, why))
    };
    if others > usize::from(target.port_name().is_some()) {
        return refused(outward);
    }
    let new = renamed(target.port_name()?);
    let is_pointed_at = crate::handlers::ports(target.container).any(|(_, port)| port == new);
    if named(target.container, &new) > 0 || is_pointed_at { refused(&new) } else { None }
}
