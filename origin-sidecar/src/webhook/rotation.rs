//! Keeps the certificate served, the Secret and the configuration's `caBundle` in step. All
//! replicas do so; the Secret's `resourceVersion` decides between two who want the same change.

use super::api::Api;
use super::certificates::{Issued, Kept, Plan};
use crate::clock::{Clock, System};
use crate::tls::Certificates;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often everything is looked at again; a lifetime of minutes is looked at more often.
const LOOK_MAX: Duration = Duration::from_secs(10);
const LOOK_MIN: Duration = Duration::from_millis(200);
/// After a failure: another replica was quicker, or the API server is not there yet.
const RETRY: Duration = Duration::from_secs(1);

/// Where the certificate comes from.
pub enum Source {
    /// Our own CA, in a Secret that all replicas share.
    Own { api: Arc<Api>, secret: String, configuration: String, plan: Plan },
    /// Files that somebody else renews (cert-manager), `caBundle` included.
    Folder(PathBuf),
}

impl Source {
    /// Until the process ends.
    pub async fn keep(self, certificates: Arc<Certificates>) {
        let look = match &self {
            Self::Own { plan, .. } => (plan.lifetime / 60).clamp(LOOK_MIN, LOOK_MAX),
            Self::Folder(_) => LOOK_MAX,
        };
        loop {
            let pause = match self.look(&certificates).await {
                Ok(()) => look,
                Err(error) => {
                    tracing::warn!(error, "certificates are not as they should be");
                    look.min(RETRY)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&self, certificates: &Certificates) -> Result<(), String> {
        match self {
            Self::Folder(folder) => certificates.serve_folder(folder).map(|_| ()),
            Self::Own { api, secret, configuration, plan } => {
                let found = read(api, secret).await?;
                let kept = found.as_ref().and_then(|secret| kept(&secret["data"]));
                if let Some(kept) = &kept {
                    // Before any step: what is next to be served must be known by then.
                    publish(api, configuration, &kept.bundle()).await?;
                }
                let now = System.now() / 1000;
                let changed = plan.step(kept.as_ref(), now).map_err(|error| error.to_string())?;
                let Some(kept) = changed.as_ref().or(kept.as_ref()) else { return Ok(()) };
                if changed.is_some() {
                    write(api, secret, found, kept).await?;
                    publish(api, configuration, &kept.bundle()).await?;
                    tracing::info!(made_at = kept.serving.made_at, "certificates changed");
                }
                certificates.serve(&kept.serving.certificate, &kept.serving.key).map(|_| ())
            }
        }
    }
}

/// The Secret, if there is one; whoever made it may have left it empty.
async fn read(api: &Api, path: &str) -> Result<Option<Value>, String> {
    match api.call(Method::GET, path, None).await? {
        (200, secret) => Ok(Some(secret)),
        (404, _) => Ok(None),
        (status, answer) => Err(format!("GET {path}: {status} {}", answer["message"])),
    }
}

/// Creates or changes it, unless another replica was quicker; then the next look finds its work.
async fn write(api: &Api, path: &str, found: Option<Value>, kept: &Kept) -> Result<(), String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (method, path) = if found.is_some() { (Method::PUT, path) } else { (Method::POST, folder) };
    // Its labels and its version stay: Helm knows its own by the former, and a change in between
    // shows by the latter.
    let mut secret = found.unwrap_or_else(|| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name },
            "type": "Opaque",
        })
    });
    secret["data"] = data(kept);
    match api.call(method, path, Some(&secret)).await? {
        (200 | 201, _) => Ok(()),
        (409, _) => Err("another replica changed the Secret at the same time".to_owned()),
        (status, answer) => Err(format!("{path}: {status} {}", answer["message"])),
    }
}

/// Puts the bundle into every webhook of the configuration that has another.
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

/// The Secret's fields. `tls.crt` and `tls.key` have the names that everybody knows.
fn data(kept: &Kept) -> Value {
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

fn kept(data: &Value) -> Option<Kept> {
    let get = |name: String| {
        let bytes = STANDARD.decode(data[name].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let issued = |prefix: &str| {
        Some(Issued {
            ca: get(format!("{prefix}ca.crt"))?,
            certificate: get(format!("{prefix}tls.crt"))?,
            key: get(format!("{prefix}tls.key"))?,
            made_at: get(format!("{prefix}made-at"))?.parse().ok()?,
        })
    };
    let previous_ca = get("previous-ca.crt".to_owned());
    Some(Kept { serving: issued("")?, next: issued("next-"), previous_ca })
}
