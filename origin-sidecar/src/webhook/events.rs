//! Events on the owner of a pod: `kubectl describe` then says why there is no sidecar.

use super::api::Api;
use super::review::Verdict;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events that wait; an API server that is slow must not hold up reviews. More are dropped.
const WAITING_MAX: usize = 100;
/// Hexadecimal digits that tell one event of an owner from another.
const NAME_DIGITS: usize = 12;

/// Where events are put; one task sends them.
#[derive(Clone)]
pub struct Events(mpsc::Sender<Value>);

impl Events {
    /// Without an API they go nowhere.
    pub fn start(api: Option<Arc<Api>>) -> Self {
        let (sender, mut waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(event) = waiting.recv().await {
                let Some(api) = &api else { continue };
                send(api, &event).await;
            }
        });
        Self(sender)
    }

    /// The verdict about the pod of this review, if its owner should know. Not for a dry run.
    pub fn tell(&self, request: &Value, verdict: &Verdict, now: &str) {
        if verdict.message.is_empty() || request["dryRun"] == true {
            return;
        }
        // A full channel drops the event: the metric still counts it.
        let _ = self.0.try_send(event(request, verdict, now));
    }
}

async fn send(api: &Api, event: &Value) {
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{namespace}/events");
    match api.call(Method::POST, &path, Some(event)).await {
        // 409: the owner was told the same within the hour that Kubernetes keeps events.
        Ok((200 | 201 | 409, _)) => {}
        Ok((status, answer)) => {
            tracing::warn!(status, message = %answer["message"], "an event was refused");
        }
        Err(error) => tracing::warn!(error, "an event could not be sent"),
    }
}

fn event(request: &Value, verdict: &Verdict, now: &str) -> Value {
    let pod = &request["object"]["metadata"];
    let owners = pod["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    let owner = owners.iter().find(|owner| owner["controller"] == true);
    let namespace = request["namespace"].as_str().unwrap_or("default");
    let mut involved = json!({ "namespace": namespace });
    match owner {
        Some(owner) => {
            for key in ["apiVersion", "kind", "name", "uid"] {
                involved[key] = owner[key].clone();
            }
        }
        None => {
            involved["apiVersion"] = "v1".into();
            involved["kind"] = "Pod".into();
            involved["name"] = pod["name"].clone();
        }
    }
    let is_injected = verdict.result == "injected";
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name(&involved, &verdict.message), "namespace": namespace },
        "involvedObject": involved,
        "type": if is_injected { "Normal" } else { "Warning" },
        "reason": if is_injected { "Injected" } else { "NotInjected" },
        "message": verdict.message,
        "source": { "component": "spillway-webhook" },
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    })
}

/// The same for the same news about the same owner: a ReplicaSet of a hundred pods is told once.
fn name(involved: &Value, message: &str) -> String {
    let digest = Sha256::digest(format!("{involved}{message}"));
    let digest = rules::document::hex(&digest);
    let owner = involved["name"].as_str().unwrap_or("pod");
    format!("{owner}.spillway-{}", digest.get(..NAME_DIGITS).unwrap_or(&digest))
}
