//! Every name and number that an injected pod shows.

/// Where our labels and annotations begin.
pub const PREFIX: &str = "spillway.dev/";
/// Label or annotation of a pod, label of a namespace: `enabled` or `disabled`.
pub const INJECT: &str = "spillway.dev/inject";
/// The annotation that says what an injection did, so that it can be undone exactly.
pub const RECORD: &str = "spillway.dev/injected";

/// What a pod's annotations may say, without the prefix.
pub const ANNOTATIONS: [&str; 17] = [
    "inject",
    "injected",
    "port",
    "container",
    "image",
    "rules",
    "env-config",
    "env-secret",
    "args",
    "cpu-request",
    "cpu-limit",
    "memory-request",
    "memory-limit",
    "spool",
    "trusted-proxy",
    "run-as-user",
    "pull-secrets",
];

/// Words instead of an amount or a user: what the pod asks for decides; left out.
pub const AUTO: &str = "auto";
pub const NONE: &str = "none";

pub const SIDECAR: &str = "spillway";
pub const ROUTES_VOLUME: &str = "spillway-routes";
pub const SPOOL_VOLUME: &str = "spillway";
/// Empty, at the place of the API token: a proxy needs none.
pub const NO_TOKEN_VOLUME: &str = "spillway-no-token";
pub const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// All volumes that are added.
pub const VOLUMES: [&str; 3] = [ROUTES_VOLUME, SPOOL_VOLUME, NO_TOKEN_VOLUME];
pub const ROUTES_PATH: &str = "/etc/spillway";
pub const SPOOL_PATH: &str = "/var/lib/spillway";

pub const PROXY_PORT: u16 = 15080;
pub const ADMIN_PORT: u16 = 15081;
pub const ADMIN_PORT_NAME: &str = "spillway-admin";
/// The name that a Service's `targetPort` usually has.
pub const PORT_NAME: &str = "http";
/// Put before the name of the port that the application gives up.
pub const RENAMED: &str = "app-";
/// Kubernetes' limit for the name of a port.
pub const PORT_NAME_CHARS_MAX: usize = 15;

/// Seconds that a hook may block (`DRAIN_MAX` of the sidecar), and what the application is left for its
/// own end, in which it says goodbye on its streams.
pub const DRAIN_SECONDS: u64 = 25;
pub const GRACE_SECONDS_MIN: u64 = DRAIN_SECONDS + 5;

/// What the port that is taken over is called from now on, at most 15 letters long.
pub fn renamed(name: &str) -> String {
    let room = PORT_NAME_CHARS_MAX - RENAMED.len();
    let kept: String = name.chars().take(room).collect();
    format!("{RENAMED}{}", kept.trim_end_matches('-'))
}

/// A key as one step of a JSON pointer.
pub fn step(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
