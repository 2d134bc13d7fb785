//! Notifies receivers that a job has ended: with a CloudEvent, signed according to Standard
//! Webhooks.

use super::context::JobWorker;
use super::record::{
    self, Adopted, Deliveries, NotificationAttempt, Outcome, Terminal, notified_key,
};
use crate::message::body::Body;
use crate::secrets::{Purpose, Secrets, hmac};
use crate::upstream::forward;
use crate::upstream::outgoing::{Failure, Outgoing};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use net::https::{self, NotPublic, Public};
use rules::Rules;
use rules::document;
use std::fmt;
use std::time::Duration;
use stores::results::{Condition, Results};

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// After this many attempts, about two minutes, the notification is given up; the outcome stays.
const ATTEMPTS: u32 = 9;
/// The pause before the second attempt; it doubles for each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// The contents of a notification, and its receivers.
pub(super) struct Notice<'a> {
    pub queue_name: &'a str,
    pub queue: &'a document::Queue,
    pub outcome: &'a Outcome,
    pub user: Option<String>,
    /// Whether anybody may request status and result.
    pub is_readable: bool,
    /// The prefix of job paths.
    pub base: &'a str,
}

/// Sends the notification to all receivers concurrently. A log in the store keeps a redelivered
/// message from repeating it, and records the result.
pub(super) async fn send(worker: &JobWorker, results: &dyn Results, notice: &Notice<'_>) {
    let (queue, id) = (notice.queue, &notice.outcome.id);
    if queue.notify_app.is_none() && queue.notify_urls.is_empty() {
        return;
    }
    let key = notified_key(id);
    if matches!(results.head(&key).await, Ok(Some(_))) {
        return;
    }
    let body = Bytes::from(event(notice).to_string());
    let app = async {
        let Some(path) = &queue.notify_app else { return Vec::new() };
        let call = || to_app(worker, path, headers(worker, id, &body), &body);
        until_taken(notice, worker, path, call).await
    };
    let urls = async {
        if queue.notify_urls.is_empty() {
            return Vec::new();
        }
        let client = https::public(queue.notify_private);
        let calls = queue.notify_urls.iter().map(|url| {
            let call = || to_url(&client, url, headers(worker, id, &body), &body);
            until_taken(notice, worker, url, call)
        });
        join_all(calls).await.concat()
    };
    // A slow receiver does not delay the others.
    let (app, urls) = tokio::join!(app, urls);
    let deliveries = Deliveries { log: [app, urls].concat() };
    if let Err(error) = record::write(results, &key, &deliveries, Condition::Always).await {
        tracing::debug!(job = id, ?error, "log of the notification not stored");
    }
}

/// The event in the JSON format of CloudEvents 1.0.
fn event(notice: &Notice<'_>) -> serde_json::Value {
    let Outcome { id, status, reason, finished, bare, .. } = notice.outcome;
    let micros = i64::try_from(finished.0).unwrap_or(i64::MAX).saturating_mul(1000);
    let location = notice.is_readable.then(|| format!("{}/jobs/{id}", notice.base));
    let result = location.as_ref().map(|location| format!("{location}/result"));
    let mut data = serde_json::json!({
        "job": id, "status": status.as_str(), "reason": reason, "user": notice.user,
        "location": location, "result": result,
    });
    if let Some(own_id) = bare.as_ref().and_then(|bare| bare.own_id.as_ref()) {
        data["own_id"] = own_id.clone().into();
    }
    serde_json::json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("/spillway/queues/{}", notice.queue_name),
        "type": "dev.spillway.job.finished",
        "time": rules::shard::ShardKey::Timestamp(micros).to_string(),
        "datacontenttype": "application/json",
        "data": data,
    })
}

fn headers(worker: &JobWorker, id: &str, body: &[u8]) -> HeaderMap {
    let timestamp = worker.context.clock.now().as_secs().to_string();
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("content-type", "application/cloudevents+json");
    set("webhook-id", id);
    set("webhook-timestamp", &timestamp);
    if let Some(secrets) = &worker.context.secrets {
        set("webhook-signature", &signature(secrets, id, &timestamp, body));
    }
    headers
}

/// The signature: `v1,<base64 of HMAC-SHA-256 over id.timestamp.body>`.
fn signature(secrets: &Secrets, id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut message = format!("{id}.{timestamp}.").into_bytes();
    message.extend_from_slice(body);
    format!("v1,{}", STANDARD.encode(hmac(&secrets.derived(Purpose::Webhook), &message)))
}

/// Why a receiver was not told; tried again.
#[derive(Debug)]
enum Undelivered {
    /// The application did not answer.
    Failed(Failure),
    /// What the rules file gives as a URL, without its path, is none.
    NoAddress(String, http::uri::InvalidUri),
    NotPublic(NotPublic),
    Unanswered(hyper_util::client::legacy::Error),
    /// No answer within [`TIMEOUT`].
    TooLate,
}

impl fmt::Display for Undelivered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => out.write_str(&failure.detail),
            Self::NoAddress(url, error) => write!(out, "{url}: {error}"),
            Self::NotPublic(address) => address.fmt(out),
            Self::Unanswered(error) => out.write_str(&https::chain(error)),
            Self::TooLate => write!(out, "no answer within {TIMEOUT:?}"),
        }
    }
}

async fn to_app(
    worker: &JobWorker,
    path: &str,
    mut headers: HeaderMap,
    body: &Bytes,
) -> Result<u16, Undelivered> {
    headers.insert("content-length", HeaderValue::from(body.len()));
    let mut outgoing = Outgoing {
        headers,
        body: Body::full(body.clone()),
        timeout: TIMEOUT,
        ..Outgoing::to(
            worker.context.destinations.servers.app.clone(),
            Method::POST,
            path.to_owned(),
        )
    };
    let answered = forward::send(&worker.client, &mut outgoing).await;
    answered.map(|response| response.status().as_u16()).map_err(Undelivered::Failed)
}

/// Calls a URL of the rules file. No other addresses are ever called, only public ones unless the
/// rules say otherwise, and redirects are not followed.
async fn to_url(
    client: &Public,
    url: &str,
    headers: HeaderMap,
    body: &Bytes,
) -> Result<u16, Undelivered> {
    let body = Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync();
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().map_err(|error| Undelivered::NoAddress(shown(url), error))?;
    client.check(request.uri()).map_err(Undelivered::NotPublic)?;
    *request.headers_mut() = headers;
    match tokio::time::timeout(TIMEOUT, client.client.request(request)).await {
        Ok(Ok(response)) => Ok(response.status().as_u16()),
        Ok(Err(error)) => Err(Undelivered::Unanswered(error)),
        Err(_) => Err(Undelivered::TooLate),
    }
}

/// A URL without its path: that of a chat's webhook is a password.
fn shown(to: &str) -> String {
    match to.parse::<http::Uri>() {
        Ok(uri) if uri.scheme().is_some() => {
            let host = uri.host().unwrap_or_default();
            let port = uri.port().map_or(String::new(), |port| format!(":{port}"));
            format!("{}://{host}{port}/…", uri.scheme_str().unwrap_or_default())
        }
        // A path of the application.
        _ => to.to_owned(),
    }
}

/// Tries until the receiver accepts it (2xx), refuses it for good (410), or attempts run out.
async fn until_taken<F>(
    notice: &Notice<'_>,
    worker: &JobWorker,
    to: &str,
    mut attempt: impl FnMut() -> F,
) -> Vec<NotificationAttempt>
where
    F: Future<Output = Result<u16, Undelivered>>,
{
    let notifications = &worker.context.metrics.jobs.notifications;
    let count = |result: &str| {
        notifications.with_label_values(&[notice.queue_name, result]).inc();
    };
    let to = &shown(to);
    let mut log = Vec::new();
    for number in 0..ATTEMPTS {
        if number > 0 {
            tokio::time::sleep(PAUSE * 2_u32.pow(number - 1)).await;
        }
        let answered = attempt().await;
        let mut note = |result: String| {
            log.push(NotificationAttempt {
                at: worker.context.clock.now(),
                to: to.clone(),
                result,
            });
        };
        match answered {
            Ok(200..=299) => {
                note("delivered".to_owned());
                count("delivered");
                return log;
            }
            Ok(410) => {
                note("gone".to_owned());
                count("gone");
                return log;
            }
            Ok(code) => note(format!("answered {code}")),
            Err(why) => note(why.to_string()),
        }
        let problem = log.last().map(|delivery| delivery.result.as_str());
        tracing::warn!(job = notice.outcome.id, to, number, problem, "notification not accepted");
    }
    count("given-up");
    log
}

/// Notifies the receivers of the end of an adopted request.
pub(super) async fn tell(
    worker: &JobWorker,
    results: &dyn Results,
    rules: &Rules,
    about: &Adopted,
    outcome: &Outcome,
) {
    let document = &rules.document;
    let Some(queue) = document.queues.get(&about.queue) else { return };
    if outcome.status == Terminal::Cancelled {
        return;
    }
    let (user, base) = (about.user.clone(), &document.jobs.base);
    let name = &about.queue;
    let notice = Notice { queue_name: name, queue, outcome, user, is_readable: true, base };
    send(worker, results, &notice).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_of_an_address_can_not_be_used() {
        assert_eq!(
            shown("https://me:pw@hooks.example:8443/T0/s3cret?k=v"),
            "https://hooks.example:8443/…"
        );
        assert_eq!(shown("/internal/finished"), "/internal/finished");
    }

    #[test]
    fn the_signature_covers_id_time_and_body() {
        let secrets = Secrets::parse(&"s".repeat(32)).expect("long enough");
        let signed = signature(&secrets, "id", "1", b"{}");
        assert!(signed.starts_with("v1,") && signed.len() == 3 + 44);
        assert_ne!(signed, signature(&secrets, "id", "2", b"{}"));
        assert_ne!(signed, signature(&secrets, "id", "1", b"[]"));
    }
}
