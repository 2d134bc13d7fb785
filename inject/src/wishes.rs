//! What a pod's labels and annotations ask for.

use crate::form::Form;
use crate::names::{ANNOTATIONS, INJECT, PORT_NAME, PREFIX};
use crate::options::{Options, words};
use crate::refusal::{Caution, Reason, Refusal, Warning};
use serde_json::Value;

/// Settings that a pod's annotation of the same name overrides, and what the value must be.
pub const OVERRIDES: [(&str, Form); 12] = [
    ("image", Form::Image),
    ("rules", Form::Name),
    ("env-config", Form::Name),
    ("env-secret", Form::Name),
    ("cpu-request", Form::Quantity),
    ("cpu-limit", Form::Limit),
    ("memory-request", Form::Quantity),
    ("memory-limit", Form::Quantity),
    ("spool", Form::Quantity),
    ("trusted-proxy", Form::Proxies),
    ("run-as-user", Form::User),
    ("pull-secrets", Form::Names),
];

/// Annotations that choose what is taken over.
pub const SELECTORS: [(&str, Form); 2] = [("port", Form::Port), ("container", Form::Name)];

pub struct Wishes<'p> {
    pod: &'p Value,
}

impl<'p> Wishes<'p> {
    pub fn new(pod: &'p Value) -> Self {
        Self { pod }
    }

    fn text(&self, of: &str, key: &str) -> Option<&'p str> {
        self.pod.get("metadata")?.get(of)?.get(key)?.as_str()
    }

    /// The annotation of ours, without its prefix.
    pub fn get(&self, name: &str) -> Option<&'p str> {
        self.text("annotations", &format!("{PREFIX}{name}"))
    }

    /// `enabled` or `disabled`, if the pod says it: its label before its annotation.
    pub fn inject(&self) -> Option<&'p str> {
        self.text("labels", INJECT).or_else(|| self.text("annotations", INJECT))
    }

    /// Whether the pod itself wants the sidecar: it says so, or how it should be.
    pub fn is_asked_for(&self) -> bool {
        let own = ANNOTATIONS.iter().filter(|name| !["inject", "injected"].contains(name));
        match self.inject() {
            Some(word) => word == "enabled",
            None => own.into_iter().any(|name| self.get(name).is_some()),
        }
    }

    pub fn port(&self) -> &'p str {
        self.get("port").unwrap_or(PORT_NAME)
    }

    /// The options, with what the annotations change.
    pub fn over(&self, options: &Options) -> Options {
        let mut own = options.clone();
        for (name, _) in OVERRIDES {
            let Some(value) = self.get(name) else { continue };
            let value = value.to_owned();
            match name {
                "image" => own.image = value,
                "rules" => own.rules = value,
                "env-config" => own.env_config = Some(value),
                "env-secret" => own.env_secret = Some(value),
                "cpu-request" => own.cpu_request = value,
                "cpu-limit" => own.cpu_limit = value,
                "memory-request" => own.memory_request = value,
                "memory-limit" => own.memory_limit = value,
                "spool" => own.spool = value,
                "trusted-proxy" => own.trusted_proxy = value,
                "run-as-user" => own.run_as_user = value,
                _ => own.pull_secrets = value,
            }
        }
        if let Some(args) = self.get("args") {
            own.args = words(args);
        }
        own
    }

    /// Every value that does not have its form.
    pub fn faults(&self) -> Vec<Refusal> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, value: &str, wanted: &str| {
            let detail = format!("{key}: \"{value}\" is not {wanted}");
            faults.push(Refusal::new(Reason::BadValue, detail));
        };
        if let Some(value) = self.inject().filter(|value| !["enabled", "disabled"].contains(value))
        {
            fault(INJECT, value, "enabled or disabled");
        }
        for (name, form) in OVERRIDES.into_iter().chain(SELECTORS) {
            if let Some(value) = self.get(name).filter(|value| !form.fits(value)) {
                fault(&format!("{PREFIX}{name}"), value, form.described());
            }
        }
        for (key, value) in self.own("annotations").chain(self.own("labels")) {
            if !value.is_string() {
                fault(key, &value.to_string(), "a text: put it in quotes");
            }
        }
        faults
    }

    /// Labels or annotations with our prefix.
    fn own(&self, of: &str) -> impl Iterator<Item = (&'p String, &'p Value)> + use<'p> {
        let all = self.pod.get("metadata").and_then(|metadata| metadata.get(of)?.as_object());
        all.into_iter().flatten().filter(|(key, _)| key.starts_with(PREFIX))
    }

    /// What nobody reads: a misspelt annotation, or a label that should be an annotation.
    pub fn unknown(&self) -> Vec<Warning> {
        let known = |key: &str, names: &[&str]| {
            key.strip_prefix(PREFIX).is_some_and(|name| names.contains(&name))
        };
        let annotations = self.own("annotations").filter(|(key, _)| !known(key, &ANNOTATIONS));
        let labels = self.own("labels").filter(|(key, _)| !known(key, &["inject"]));
        let mut found: Vec<Warning> = annotations.map(|(key, _)| unknown(key)).collect();
        found.extend(labels.map(|(key, _)| {
            let detail = format!("the label {key} is not read: make it an annotation");
            Warning::new(Caution::UnknownAnnotation, detail)
        }));
        found
    }
}

fn unknown(key: &str) -> Warning {
    let name = key.strip_prefix(PREFIX).unwrap_or(key);
    let remedy = match rules::nearest(name, &ANNOTATIONS) {
        Some(nearest) => format!("did you mean {PREFIX}{nearest}?"),
        None => format!("known are {PREFIX} and {}", ANNOTATIONS.join(", ")),
    };
    Warning::new(Caution::UnknownAnnotation, format!("there is no {key}: {remedy}"))
}
