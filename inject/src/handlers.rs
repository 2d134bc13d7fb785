//! Where a container's probes and hooks name a port.

use serde_json::Value;

pub const PROBES: [&str; 3] = ["startupProbe", "readinessProbe", "livenessProbe"];
pub const HOOKS: [&str; 2] = ["postStart", "preStop"];
/// gRPC probes take numbers only.
pub const ACTIONS: [&str; 2] = ["httpGet", "tcpSocket"];

/// Pointers, below the container, to everything that may name a port.
pub fn pointers() -> impl Iterator<Item = String> {
    let probes = PROBES.iter().map(|probe| format!("/{probe}"));
    let holders = probes.chain(HOOKS.iter().map(|hook| format!("/lifecycle/{hook}")));
    holders.flat_map(|holder| ACTIONS.iter().map(move |action| format!("{holder}/{action}/port")))
}

/// The named ports, each with its pointer.
pub fn ports(container: &Value) -> impl Iterator<Item = (String, &str)> {
    pointers().filter_map(|pointer| {
        let port = container.pointer(&pointer)?.as_str()?;
        Some((pointer, port))
    })
}
