//! Events on the owner of a pod, so that `kubectl describe` says why there is no sidecar.

use super::api::Api;
use super::review::ReviewResult;
use crate::clock::{Clock, System};
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Events in the queue. A slow API server must not delay reviews; further events are dropped.
const WAITING_MAX: usize = 100;
/// Hexadecimal digits that make an event's name unique for its owner.
const NAME_DIGITS: usize = 12;

/// The sender of events; one task delivers them.
#[derive(Clone)]
pub struct EventSender(mpsc::Sender<Value>);

impl EventSender {
    /// Starts the task. Without an API the events are dropped.
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

    /// Queues an event. A full queue drops it; the metric still counts it.
    pub fn send(&self, event: Value) {
        let _ = self.0.try_send(event);
    }

    /// Reports the result of a review to the pod's owner, if it should know. Not for a dry run.
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
        // 409: the owner got the same event within the hour for which Kubernetes keeps events.
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

/// A warning about an object of the cluster that somebody has to fix.
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

/// The current time as `2026-11-24T13:28:17Z`.
pub fn now() -> String {
    let at = time::OffsetDateTime::from(UNIX_EPOCH + Duration::from_millis(System.now().0));
    let (date, clock) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (clock.hour(), clock.minute(), clock.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The event's name. It is the same for the same message about the same owner, so that a ReplicaSet
/// of a hundred pods gets one event.
fn name(involved: &Value, message: &str) -> String {
    let digest = Sha256::digest(format!("{involved}{message}"));
    let digest = rules::hex::hex(&digest);
    let owner = involved["name"].as_str().unwrap_or("pod");
    format!("{owner}.spillway-{}", digest.get(..NAME_DIGITS).unwrap_or(&digest))
}
