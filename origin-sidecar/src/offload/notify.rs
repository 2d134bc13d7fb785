//! Telling somebody that a job is finished: a CloudEvent, signed as Standard Webhooks says.

use super::record::{Outcome, notified_key};
use crate::body::Body;
use crate::https::{self, HttpsClient};
use crate::proxy::Worker;
use crate::proxy::forward::{self, Outgoing};
use crate::results::{Condition, Results};
use crate::secrets::{Purpose, Secrets, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use rules::document;
use std::time::Duration;

/// One attempt.
const TIMEOUT: Duration = Duration::from_secs(5);
/// After these the notification is given up; the outcome stays.
const ATTEMPTS: u32 = 5;

/// What is told, and to whom.
pub(super) struct Notice<'a> {
    pub queue_name: &'a str,
    pub queue: &'a document::Queue,
    pub outcome: &'a Outcome,
    pub user: Option<String>,
    /// Prefix of job paths.
    pub base: &'a str,
}

/// Sends the notification to each receiver once; a marker in the store keeps a redelivered
/// message from repeating it.
pub(super) async fn send(worker: &Worker, results: &dyn Results, notice: &Notice<'_>) {
    let (queue, id) = (notice.queue, &notice.outcome.id);
    if queue.notify_app.is_none() && queue.notify_urls.is_empty() {
        return;
    }
    let marker = notified_key(id);
    if matches!(results.head(&marker).await, Ok(Some(_))) {
        return;
    }
    let body = Bytes::from(event(notice).to_string());
    let mut is_told = true;
    if let Some(path) = &queue.notify_app {
        is_told &=
            until_taken(notice, worker, || to_app(worker, path, headers(worker, id, &body), &body))
                .await;
    }
    let client = https::client();
    for url in &queue.notify_urls {
        is_told &=
            until_taken(notice, worker, || to_url(&client, url, headers(worker, id, &body), &body))
                .await;
    }
    if is_told && let Err(error) = results.put(&marker, Bytes::new(), Condition::Always).await {
        tracing::debug!(job = id, ?error, "marker of the notification not stored");
    }
}

/// The CloudEvents 1.0 JSON form.
fn event(notice: &Notice<'_>) -> serde_json::Value {
    let Outcome { id, status, reason, finished, .. } = notice.outcome;
    let micros = i64::try_from(*finished).unwrap_or(i64::MAX).saturating_mul(1000);
    let location = format!("{}/jobs/{id}", notice.base);
    serde_json::json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("/spillway/queues/{}", notice.queue_name),
        "type": "dev.spillway.job.finished",
        "time": rules::shard::Key::Timestamp(micros).to_string(),
        "datacontenttype": "application/json",
        "data": {
            "job": id, "status": status.as_str(), "reason": reason, "user": notice.user,
            "location": location, "result": format!("{location}/result"),
        },
    })
}

fn headers(worker: &Worker, id: &str, body: &[u8]) -> HeaderMap {
    let timestamp = (worker.app.clock.now() / 1000).to_string();
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("content-type", "application/cloudevents+json");
    set("webhook-id", id);
    set("webhook-timestamp", &timestamp);
    if let Some(secrets) = &worker.app.secrets {
        set("webhook-signature", &signature(secrets, id, &timestamp, body));
    }
    headers
}

/// `v1,<base64 of HMAC-SHA-256 over id.timestamp.body>`
fn signature(secrets: &Secrets, id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut message = format!("{id}.{timestamp}.").into_bytes();
    message.extend_from_slice(body);
    format!("v1,{}", STANDARD.encode(hmac(&secrets.derived(Purpose::Webhook), &message)))
}

async fn to_app(
    worker: &Worker,
    path: &str,
    mut headers: HeaderMap,
    body: &Bytes,
) -> Result<u16, String> {
    headers.insert("content-length", HeaderValue::from(body.len()));
    let outgoing = Outgoing {
        upstream: worker.app.bindings.app.clone(),
        method: Method::POST,
        target: path.to_owned(),
        headers,
        body: Body::full(body.clone()),
        timeout: TIMEOUT,
    };
    let answered = forward::send(worker, outgoing).await;
    answered.map(|response| response.status().as_u16()).map_err(|failure| failure.detail)
}

/// Only addresses of the rules file are ever called; redirects are not followed.
async fn to_url(
    client: &HttpsClient,
    url: &str,
    headers: HeaderMap,
    body: &Bytes,
) -> Result<u16, String> {
    let body = Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync();
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().map_err(|error| format!("{url}: {error}"))?;
    *request.headers_mut() = headers;
    match tokio::time::timeout(TIMEOUT, client.request(request)).await {
        Ok(Ok(response)) => Ok(response.status().as_u16()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
    }
}

/// Tries until the receiver takes it (2xx), says it never will (410), or attempts run out.
async fn until_taken<F>(
    notice: &Notice<'_>,
    worker: &Worker,
    mut attempt: impl FnMut() -> F,
) -> bool
where
    F: Future<Output = Result<u16, String>>,
{
    let count = |result: &str| {
        worker.app.metrics.jobs.notifications.with_label_values(&[notice.queue_name, result]).inc();
    };
    for number in 0..ATTEMPTS {
        let problem = match attempt().await {
            Ok(200..=299) => {
                count("delivered");
                return true;
            }
            Ok(410) => {
                count("gone");
                return true;
            }
            Ok(code) => format!("answered {code}"),
            Err(error) => error,
        };
        tracing::warn!(job = notice.outcome.id, number, problem, "notification not taken");
        tokio::time::sleep(Duration::from_millis(500 << number)).await;
    }
    count("given-up");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_covers_id_time_and_body() {
        let secrets = Secrets::parse(&"s".repeat(32)).expect("long enough");
        let signed = signature(&secrets, "id", "1", b"{}");
        assert!(signed.starts_with("v1,") && signed.len() == 3 + 44);
        assert_ne!(signed, signature(&secrets, "id", "2", b"{}"));
        assert_ne!(signed, signature(&secrets, "id", "1", b"[]"));
    }
}
