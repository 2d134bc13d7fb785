//! Where a container's probes and hooks name a port.

use serde_json::Value;

pub const HOLDERS: [&str; 5] =
    ["startupProbe", "readinessProbe", "livenessProbe", "lifecycle/postStart", "lifecycle/preStop"];
/// gRPC probes take numbers only.
pub const ACTIONS: [&str; 2] = ["httpGet", "tcpSocket"];

/// Pointers, below the container, to everything that may name a port.
pub fn pointers() -> impl Iterator<Item = String> {
    HOLDERS
        .iter()
        .flat_map(|holder| ACTIONS.iter().map(move |action| format!("/{holder}/{action}/port")))
}

/// The named ports, each with its pointer.
pub fn ports(container: &Value) -> impl Iterator<Item = (String, &str)> {
    pointers().filter_map(|pointer| {
        let port = container.pointer(&pointer)?.as_str()?;
        Some((pointer, port))
    })
}
