//! What an injection is to be like: the same for all front ends; a pod's annotations change it.

use crate::form::Form;
use crate::names::AUTO;

/// How the sidecar runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// An init container that is always restarted: Kubernetes 1.29 and later.
    #[default]
    Native,
    /// An ordinary container, for clusters before 1.29.
    Container,
}

/// What every sidecar gets unless its pod's annotations say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub image: String,
    /// The ConfigMap with `routes.toml`.
    pub rules: String,
    /// A ConfigMap and a Secret whose entries are the sidecar's environment.
    pub env_config: Option<String>,
    pub env_secret: Option<String>,
    /// More arguments for `spillway proxy`.
    pub args: Vec<String>,
    pub cpu_request: String,
    /// An amount; `none`; or `auto`, where the pod's other containers decide ([`crate::resources`]).
    pub cpu_limit: String,
    pub memory_request: String,
    pub memory_limit: String,
    /// Size of the folder in which large results wait.
    pub spool: String,
    /// Who is believed in what it says of clients: blocks of addresses, `private`, or `none`.
    pub trusted_proxy: String,
    /// A user's number; `none`; or `auto`: a user is written only where the pod names one, which the
    /// sidecar would have otherwise.
    pub run_as_user: String,
    /// Secrets of a private registry, with commas.
    pub pull_secrets: String,
    /// Whether pods are seen as an API server admits them, with what their accounts give them.
    pub is_admission: bool,
    /// Whether only pods are injected that say `enabled`: in namespaces that say `opt-in`.
    pub is_opt_in: bool,
    pub mode: Mode,
}

impl Options {
    /// Every value that does not have its form, by the name that flag and annotation share.
    pub fn faults(&self) -> Vec<String> {
        let given = [
            ("image", Form::Image, Some(&self.image)),
            ("rules", Form::Name, Some(&self.rules)),
            ("env-config", Form::Name, self.env_config.as_ref()),
            ("env-secret", Form::Name, self.env_secret.as_ref()),
            ("cpu-request", Form::Quantity, Some(&self.cpu_request)),
            ("cpu-limit", Form::Limit, Some(&self.cpu_limit)),
            ("memory-request", Form::Quantity, Some(&self.memory_request)),
            ("memory-limit", Form::Quantity, Some(&self.memory_limit)),
            ("spool", Form::Quantity, Some(&self.spool)),
            ("trusted-proxy", Form::Proxies, Some(&self.trusted_proxy)),
            ("run-as-user", Form::User, Some(&self.run_as_user)),
            ("pull-secrets", Form::Names, Some(&self.pull_secrets)),
        ];
        let fault = |(name, form, value): (&str, Form, Option<&String>)| {
            let value = value.filter(|value| !form.fits(value))?;
            Some(format!("--{name}: \"{value}\" is not {}", form.described()))
        };
        given.into_iter().filter_map(fault).collect()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            image: "spillway".to_owned(),
            rules: "spillway-routes".to_owned(),
            env_config: None,
            env_secret: None,
            args: Vec::new(),
            cpu_request: "50m".to_owned(),
            cpu_limit: AUTO.to_owned(),
            memory_request: "64Mi".to_owned(),
            memory_limit: "256Mi".to_owned(),
            spool: "1Gi".to_owned(),
            // Most pods stand behind an ingress that ends TLS: docs/security.md, "Behind another proxy".
            trusted_proxy: "private".to_owned(),
            run_as_user: AUTO.to_owned(),
            pull_secrets: String::new(),
            is_admission: false,
            is_opt_in: false,
            mode: Mode::Native,
        }
    }
}

/// The words of an `args` text: separated by spaces or line breaks.
pub fn words(text: &str) -> Vec<String> {
    text.split([' ', '\n']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
