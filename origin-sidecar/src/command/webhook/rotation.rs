//! Keeps the served certificate, the Secret and the configuration's `caBundle` consistent. All
//! replicas do this; the Secret's `resourceVersion` decides between two that want the same change.

use super::api::Api;
use super::certificates::{Found, Issued, Plan, SharedCertificates, Step};
use super::events::{self, EventSender};
use crate::telemetry::metrics::Injections;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use net::tls::{Certificates, Validity};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often everything is checked; more often where certificates live for minutes.
const LOOK_MAX: Duration = Duration::from_secs(60);
const LOOK_MIN: Duration = Duration::from_millis(200);
/// Files are checked more often, because that costs no call.
const LOOK_AT_FILES: Duration = Duration::from_secs(10);
/// The pause after a failure, or while there is no Secret: another replica was faster, or the API
/// server is not available yet.
const RETRY: Duration = Duration::from_secs(1);

/// Where the certificate comes from.
pub enum Source {
    /// Our own CA, in a Secret that all replicas share.
    Own(SelfIssued),
    /// Files that another controller renews (cert-manager), `caBundle` included.
    Folder(PathBuf),
}

pub struct SelfIssued {
    pub api: Arc<Api>,
    /// Paths in the API.
    pub secret: String,
    pub configuration: String,
    pub plan: Plan,
    pub events: EventSender,
    pub metrics: Injections,
}

impl Source {
    /// Keeps the certificate current until the process ends.
    pub async fn keep(self, certificates: Arc<Certificates>) {
        let look = match &self {
            Self::Own(own) => (own.plan.settle() / 2).clamp(LOOK_MIN, LOOK_MAX),
            Self::Folder(_) => LOOK_AT_FILES,
        };
        let mut failures = Failures::default();
        loop {
            let looked = match &self {
                Self::Folder(folder) => certificates.serve_folder(folder).map(|_| ()),
                Self::Own(own) => own.look(&certificates).await,
            };
            failures.note(looked.as_ref().err());
            tokio::time::sleep(if looked.is_ok() { look } else { look.min(RETRY) }).await;
        }
    }
}

/// Counts consecutive failures. Each kind is logged when it begins and, with its count, when it
/// ends.
#[derive(Default)]
struct Failures {
    last: Option<String>,
    count: u64,
}

impl Failures {
    fn note(&mut self, error: Option<&String>) {
        self.count += 1;
        if self.last.as_ref() == error {
            return;
        }
        if let Some(last) = self.last.take() {
            tracing::info!(
                error = last,
                times = self.count,
                "the webhook's certificates are in order again"
            );
        }
        if let Some(error) = error {
            tracing::warn!(error, "the webhook's certificates are not in order");
        }
        (self.last, self.count) = (error.cloned(), 0);
    }
}

impl SelfIssued {
    async fn look(&self, certificates: &Certificates) -> Result<(), String> {
        let Self { api, secret, configuration, plan, .. } = self;
        let found = read(api, secret).await?;
        let is_missing = found.is_none();
        if self.metrics.secret_missing(is_missing) {
            self.events.send(self.secret_is_missing());
        }
        let now = api.now().map_err(|error| error.to_string())?;
        let data = found.as_ref().map_or(&Value::Null, |secret| &secret["data"]);
        let kept = kept(data);
        if let Some(kept) = &kept {
            // Published before any step: the next certificate to be served must be trusted by then.
            publish(api, configuration, &kept.bundle()).await?;
        }
        let state = match &kept {
            Some(kept) => Found::Kept(kept),
            None if data.as_object().is_some_and(|data| data.contains_key("tls.crt")) => {
                Found::Broken
            }
            None => Found::Nothing,
        };
        let replaced_at = text(data, "replaced-at").and_then(|at| at.parse().ok());
        let step = plan.step(state, replaced_at, now).map_err(|error| error.to_string())?;
        if let Some(step) = &step {
            let replaced_at = if step.is_replacement { Some(now) } else { replaced_at };
            write(api, secret, found.clone(), (&step.kept, replaced_at)).await?;
            self.metrics.secret_missing(false);
            publish(api, configuration, &step.kept.bundle()).await?;
            let Step { kept, is_replacement } = step;
            tracing::info!(made_at = kept.serving.made_at, is_replacement, "certificates changed");
        }
        let Some(kept) = step.as_ref().map(|step| &step.kept).or(kept.as_ref()) else {
            return Err(format!("{secret}: what it has can't be used, and was replaced just now"));
        };
        certificates.serve(&kept.serving.certificate, &kept.serving.key).map(|_| ())
    }

    /// An event for the namespace: nothing else can be reported on a Secret that is missing.
    fn secret_is_missing(&self) -> Value {
        let mut path = self.secret.rsplit('/');
        let (name, namespace) = (path.next().unwrap_or_default(), path.nth(1).unwrap_or_default());
        let involved =
            json!({ "apiVersion": "v1", "kind": "Secret", "namespace": namespace, "name": name });
        let message = format!(
            "the Secret {name} with the webhook's certificates is gone: `helm upgrade` makes it again"
        );
        events::warning(&involved, "SecretMissing", &message)
    }
}

/// Reads the Secret, if there is one; its creator may have left it empty.
async fn read(api: &Api, path: &str) -> Result<Option<Value>, String> {
    match api.call(Method::GET, path, None).await? {
        (200, secret) => Ok(Some(secret)),
        (404, _) => Ok(None),
        (status, answer) => Err(format!("GET {path}: {status} {}", answer["message"])),
    }
}

/// Creates or changes the Secret, unless another replica was faster; then the next check finds its
/// result.
async fn write(
    api: &Api,
    path: &str,
    found: Option<Value>,
    (kept, replaced_at): (&SharedCertificates, Option<u64>),
) -> Result<(), String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (method, path) = if found.is_some() { (Method::PUT, path) } else { (Method::POST, folder) };
    // Labels and version are kept: Helm recognises its objects by the former, and the latter
    // reveals a change in between.
    let mut secret = found.unwrap_or_else(|| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name },
            "type": "Opaque",
        })
    });
    secret["data"] = data(kept);
    if let Some(at) = replaced_at {
        secret["data"]["replaced-at"] = STANDARD.encode(at.to_string()).into();
    }
    match api.call(method, path, Some(&secret)).await? {
        (200 | 201, _) => Ok(()),
        (409, _) => Err("another replica changed the Secret at the same time".to_owned()),
        (status, answer) => Err(format!("{path}: {status} {}", answer["message"])),
    }
}

/// Writes the bundle into every webhook of the configuration that has another one.
async fn publish(api: &Api, path: &str, bundle: &str) -> Result<(), String> {
    let (status, found) = api.call(Method::GET, path, None).await?;
    if status != 200 {
        return Err(format!("GET {path}: {status} {}", found["message"]));
    }
    let bundle = STANDARD.encode(bundle);
    let hooks = found["webhooks"].as_array().map_or(&[][..], Vec::as_slice);
    let is_old = |(_, hook): &(usize, &Value)| hook["clientConfig"]["caBundle"] != bundle.as_str();
    // The indexes are those of this version only.
    let version = &found["metadata"]["resourceVersion"];
    let mut patch =
        vec![json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version })];
    patch.extend(hooks.iter().enumerate().filter(is_old).map(|(index, _)| {
        json!({ "op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle })
    }));
    if patch.len() == 1 {
        return Ok(());
    }
    match api.call(Method::PATCH, path, Some(&patch.into())).await? {
        (200, _) => Ok(()),
        (status, answer) => Err(format!("PATCH {path}: {status} {}", answer["message"])),
    }
}

/// The Secret's fields. `tls.crt` and `tls.key` have their usual names.
fn data(kept: &SharedCertificates) -> Value {
    let mut data = json!({});
    let mut put = |name: String, value: &str| data[name] = STANDARD.encode(value).into();
    for (prefix, issued) in [("", Some(&kept.serving)), ("next-", kept.next.as_ref())] {
        if let Some(issued) = issued {
            put(format!("{prefix}ca.crt"), &issued.ca);
            put(format!("{prefix}tls.crt"), &issued.certificate);
            put(format!("{prefix}tls.key"), &issued.key);
            put(format!("{prefix}made-at"), &issued.made_at.to_string());
        }
    }
    if let Some(previous) = &kept.previous_ca {
        put("previous-ca.crt".to_owned(), previous);
    }
    data
}

fn text(data: &Value, name: &str) -> Option<String> {
    let bytes = STANDARD.decode(data[name].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

/// The usable content of the Secret: certificates that can be parsed, each with its key.
fn kept(data: &Value) -> Option<SharedCertificates> {
    let get = |name: String| text(data, &name);
    let issued = |prefix: &str| {
        let certificate = get(format!("{prefix}tls.crt"))?;
        let key = get(format!("{prefix}tls.key"))?;
        Certificates::default().serve(&certificate, &key).ok()?;
        Some(Issued {
            ca: get(format!("{prefix}ca.crt"))?,
            validity: Validity::of(&certificate).ok()?,
            made_at: get(format!("{prefix}made-at"))?.parse().ok()?,
            certificate,
            key,
        })
    };
    let previous_ca = get("previous-ca.crt".to_owned());
    Some(SharedCertificates { serving: issued("")?, next: issued("next-"), previous_ca })
}
