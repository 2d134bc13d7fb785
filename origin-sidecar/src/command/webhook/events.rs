//! Events on the owner of a pod: `kubectl describe` then says why there is no sidecar.

use super::api::Api;
use super::review::ReviewResult;
use crate::clock::{Clock, System};
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Events that wait; an API server that is slow must not hold up reviews. More are dropped.
const WAITING_MAX: usize = 100;
/// Hexadecimal digits that tell one event of an owner from another.
const NAME_DIGITS: usize = 12;

/// Where events are put; one task sends them.
#[derive(Clone)]
pub struct EventSender(mpsc::Sender<Value>);

impl EventSender {
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

    /// A full channel drops the event: the metric still counts it.
    pub fn send(&self, event: Value) {
        let _ = self.0.try_send(event);
    }

    /// The verdict about the pod of this review, if its owner should know. Not for a dry run.
    pub fn tell(&self, request: &Value, verdict: &ReviewResult, now: &str) {
        if verdict.message.is_empty() || request["dryRun"] == true {
            return;
        }
        self.send(event(request, verdict, now));
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

fn event(request: &Value, verdict: &ReviewResult, now: &str) -> Value {
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
            involved["kind"] = request["kind"]["kind"].clone();
            involved["name"] = pod["name"].clone();
        }
    }
    let told = match verdict.result {
        "injected" => ("Normal", "Injected"),
        "warned" => ("Warning", "AroundSidecar"),
        _ => ("Warning", "NotInjected"),
    };
    of(&involved, told, &verdict.message, now)
}

/// What somebody has to do about an object of the cluster.
pub fn warning(involved: &Value, reason: &str, message: &str) -> Value {
    of(involved, ("Warning", reason), message, &now())
}

fn of(involved: &Value, (kind, reason): (&str, &str), message: &str, now: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name(involved, message), "namespace": involved["namespace"] },
        "involvedObject": involved,
        "type": kind,
        "reason": reason,
        "message": message,
        "source": { "component": "spillway-webhook" },
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    })
}

/// `2026-11-24T13:28:17Z`
pub fn now() -> String {
    let at = time::OffsetDateTime::from(UNIX_EPOCH + Duration::from_millis(System.now().0));
    let (date, clock) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (clock.hour(), clock.minute(), clock.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The same for the same news about the same owner: a ReplicaSet of a hundred pods is told once.
fn name(involved: &Value, message: &str) -> String {
    let digest = Sha256::digest(format!("{involved}{message}"));
    let digest = rules::hex::hex(&digest);
    let owner = involved["name"].as_str().unwrap_or("pod");
    format!("{owner}.spillway-{}", digest.get(..NAME_DIGITS).unwrap_or(&digest))
}
