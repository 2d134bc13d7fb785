//! What is added to a pod: the container and its three volumes.

use crate::names::{
    ADMIN_PORT, ADMIN_PORT_NAME, AUTO, NO_TOKEN_VOLUME, NONE, PROXY_PORT, ROUTES_PATH,
    ROUTES_VOLUME, SIDECAR, SPOOL_PATH, SPOOL_VOLUME, TOKEN_PATH,
};
use crate::options::{Mode, Options};
use crate::resources::Resources;
use serde_json::{Value, json};

/// Everything of the sidecar that differs from pod to pod. For the admission policy the texts are
/// expressions instead of values, see `cel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    pub options: Options,
    /// The name that the port had, under which Services now find the sidecar.
    pub port_name: String,
    /// The number on which the application listens.
    pub app_port: String,
    pub resources: Option<Resources>,
    /// Written down where the pod's or the image's must not count.
    pub user: Option<u64>,
}

/// The image's own user, for whom everything is made.
pub const USER: u64 = 65532;

/// The user that is written down in a pod's sidecar. What a pod says for all of its containers would count
/// for the sidecar, too: root would not start, and the application's user could read the sidecar's
/// environment. Where it says nothing the image's user counts, or what OpenShift puts in.
pub fn user(options: &Options, spec: &Value) -> Option<u64> {
    let own = spec.get("securityContext");
    let is_named = |key: &str| own.and_then(|own| own.get(key)).is_some_and(|id| !id.is_null());
    match options.run_as_user.as_str() {
        AUTO => (is_named("runAsUser") || is_named("runAsGroup")).then_some(USER),
        NONE => None,
        number => number.parse().ok(),
    }
}

/// The same for a pod of which nothing is known: right in all but those that may not choose.
pub fn user_unseen(options: &Options) -> Option<u64> {
    match options.run_as_user.as_str() {
        NONE => None,
        number => Some(number.parse().unwrap_or(USER)),
    }
}

impl Sidecar {
    pub fn container(&self) -> Value {
        let options = &self.options;
        let mut container = json!({
            "name": SIDECAR,
            "image": options.image,
            "args": self.arguments(),
            "ports": [
                { "name": self.port_name, "containerPort": PROXY_PORT },
                { "name": ADMIN_PORT_NAME, "containerPort": ADMIN_PORT },
            ],
            "startupProbe": probe("/startup", 1, Some(60)),
            "readinessProbe": probe("/ready", 5, None),
            "livenessProbe": probe("/live", 10, None),
            // SIGTERM reaches a native sidecar only after the application is gone: it drains before that.
            "lifecycle": { "preStop": own_hook() },
            "securityContext": security_context(),
            "volumeMounts": [
                { "name": ROUTES_VOLUME, "mountPath": ROUTES_PATH, "readOnly": true },
                { "name": SPOOL_VOLUME, "mountPath": SPOOL_PATH },
                { "name": NO_TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": true },
            ],
        });
        if let Some(user) = self.user {
            container["securityContext"]["runAsUser"] = user.into();
            container["securityContext"]["runAsGroup"] = user.into();
        }
        if let Some(fields) = container.as_object_mut() {
            if let Some(resources) = &self.resources {
                fields.insert("resources".to_owned(), resources.to_json());
            }
            if options.mode == Mode::Native {
                fields.insert("restartPolicy".to_owned(), "Always".into());
            }
            let env_from = self.env_from();
            if !env_from.is_empty() {
                fields.insert("envFrom".to_owned(), env_from.into());
            }
        }
        container
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "proxy".to_owned(),
            format!("--routes={ROUTES_PATH}/routes.toml"),
            format!("--listen=0.0.0.0:{PROXY_PORT}"),
            format!("--admin=0.0.0.0:{ADMIN_PORT}"),
            format!("--app=http://127.0.0.1:{}", self.app_port),
            format!("--trusted-proxy={}", self.options.trusted_proxy),
            // Rules that can't be read must not stop the application; its own arguments may say otherwise.
            "--fallback=auto".to_owned(),
        ];
        arguments.extend(self.options.args.iter().cloned());
        arguments.push(format!("--spool={SPOOL_PATH}/spool"));
        arguments.push(format!("--spool-size={}", self.options.spool));
        arguments
    }

    pub fn env_from(&self) -> Vec<Value> {
        let config = self.options.env_config.as_ref().map(env_config);
        let secret = self.options.env_secret.as_ref().map(env_secret);
        config.into_iter().chain(secret).collect()
    }

    pub fn volumes(&self) -> [Value; 3] {
        // Where there is no such ConfigMap yet the pod starts all the same: see `--fallback`.
        let rules = json!({ "name": self.options.rules, "optional": true });
        [
            json!({ "name": ROUTES_VOLUME, "configMap": rules }),
            json!({ "name": SPOOL_VOLUME, "emptyDir": { "sizeLimit": self.options.spool } }),
            json!({ "name": NO_TOKEN_VOLUME, "emptyDir": {} }),
        ]
    }
}

pub fn env_config(name: &String) -> Value {
    json!({ "configMapRef": { "name": name } })
}

pub fn env_secret(name: &String) -> Value {
    json!({ "secretRef": { "name": name } })
}

/// Begins the drain. Over loopback, where nobody but the pod can; the image has no shell, and what is
/// executed sees no arguments of the container, so the port stands in it.
fn own_hook() -> Value {
    let admin = format!("--admin=127.0.0.1:{ADMIN_PORT}");
    json!({ "exec": { "command": ["/spillway", "drain", admin] } })
}

/// The application's: holds back its SIGTERM until no request is in flight any more. It begins nothing,
/// because it runs too when the application's container alone is restarted.
pub fn apps_hook() -> Value {
    json!({ "httpGet": { "path": "/drained", "port": ADMIN_PORT } })
}

fn probe(path: &str, period: u32, failures: Option<u32>) -> Value {
    let mut probe = json!({
        "httpGet": { "path": path, "port": ADMIN_PORT_NAME },
        "periodSeconds": period,
    });
    if let (Some(failures), Some(fields)) = (failures, probe.as_object_mut()) {
        fields.insert("failureThreshold".to_owned(), failures.into());
    }
    probe
}

/// What PodSecurity's `restricted` asks for, whatever the pod itself says.
fn security_context() -> Value {
    json!({
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}
