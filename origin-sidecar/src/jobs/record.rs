//! The records of a job in the store: accept record, lease and outcome, one JSON object each.

use super::lines::Value;
use bytes::Bytes;
use http_body_util::BodyExt;
use net::boxed::ObjectBody;
use rules::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stores::results::{Condition, PutError, Results, StoreError};

/// The largest record in bytes; a larger one is not ours. The largest is the copy of a failed job's
/// message: 1 MiB, and up to twice that as JSON.
const RECORD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// `outcome/{id}`: the end of the job, created once. Only an operator's retry replaces it
/// (`If-Match`), and then the next end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub id: String,
    pub status: Terminal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// What is known of a plain producer's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bare: Option<Box<Bare>>,
    /// Why it failed: a stable name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The application's answer, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<StoredAnswer>>,
    /// Whether the client that started it got this very answer at once. Without an answer, it was
    /// too large to be stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answered: bool,
    /// The number of executions.
    pub attempt: u64,
    /// When it ended.
    pub finished: UnixMillis,
}

impl Outcome {
    /// An end without an answer of the application.
    pub fn without_answer(id: &str, status: Terminal, reason: &str, now: UnixMillis) -> Self {
        Self {
            id: id.to_owned(),
            status,
            queue: None,
            route: None,
            bare: None,
            reason: Some(reason.to_owned()),
            answer: None,
            answered: false,
            attempt: 0,
            finished: now,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Terminal {
    Succeeded,
    Failed,
    Cancelled,
    /// An operator has withdrawn the earlier end: the job is to run again.
    Requeued,
}

impl Terminal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Requeued => "requeued",
        }
    }
}

/// Status and headers of the application's answer; its body is an object of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    pub code: u16,
    pub headers: Vec<(String, Value)>,
    pub length: u64,
    /// The target, if the answer is a successful redirect: a path, or the URL of another site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_to: Option<String>,
    /// Cookies for the page that ends the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flash: Vec<Flash>,
    /// The key of the object with the body. Overlapping attempts have one each.
    pub object: String,
}

/// The end of a job, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// The job has not ended. Contains the condition for writing an outcome, and the number of
    /// executions before an operator's retry.
    Open {
        condition: Condition,
        attempts: u64,
    },
    Is(Outcome),
}

/// Reads the job's end.
///
/// # Errors
/// The store fails or the record is damaged.
pub async fn end(results: &dyn Results, id: &str) -> Result<JobEnd, StoreError> {
    Ok(match read::<Outcome>(results, &outcome_key(id)).await? {
        None => JobEnd::Open { condition: Condition::IfAbsent, attempts: 0 },
        Some((outcome, etag)) if outcome.status == Terminal::Requeued => {
            JobEnd::Open { condition: Condition::IfMatch(etag), attempts: outcome.attempt }
        }
        Some((outcome, _)) => JobEnd::Is(outcome),
    })
}

/// `leases/{id}`: somebody is executing the job, or was; it counts the attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub holder: String,
    /// Until when it is held; renewed while the job runs, in the past when it was given up.
    pub until: UnixMillis,
    pub attempt: u64,
    /// Since when the job has been waiting for its application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<UnixMillis>,
    /// `None` for a plain producer's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Set when the lease is released for another attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
}

/// Why a job is tried again, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// The reason: a stable name.
    pub reason: String,
    /// When it is tried again.
    pub at: UnixMillis,
}

/// `adopted/{id}`: the original execution goes on in the proxy that received the request. There is
/// no message from which to retry: a crash ends the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Until when it is held; renewed while the request runs.
    pub until: UnixMillis,
    pub route: String,
    pub queue: String,
    /// The user, for the notification.
    pub user: Option<String>,
}

/// `progress/{id}`: what the application reports of a running job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobProgress {
    /// The progress, 0 to 100.
    pub percent: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `failed/{id}`: the message of a failed job, from which it can be retried. Empty where the
/// failure was reported from outside: only a message has a body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedMessage {
    pub body: String,
    pub attributes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// `notified/{id}`: the notification has ended, with these results.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    pub log: Vec<NotificationAttempt>,
}

/// One attempt to notify one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationAttempt {
    /// When.
    pub at: UnixMillis,
    pub to: String,
    /// The result: `delivered`, `gone`, or the error.
    pub result: String,
}

/// `jobs/{id}`: the use of an `Idempotency-Key`, or the owner of a plain producer's job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The route. Empty for a plain producer, like the fingerprint.
    pub route: String,
    pub owner: String,
    /// The id that a plain producer gave the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_id: Option<String>,
    /// A hash of method, target and body.
    pub fingerprint: String,
    pub at: UnixMillis,
    /// Set once the queue has the message, and where there never is one.
    pub queued: bool,
    /// Whether the process that wrote this executes the request at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executed: bool,
    /// Identifies the request in that process. Empty for a queued one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub holder: String,
    /// Whether somebody got 202 while it was executed: then its end is notified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promised: bool,
    /// Nothing was done: the key can be used again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

/// Reads a JSON record with its etag.
///
/// # Errors
/// The store fails or the record is damaged.
pub async fn read<T: for<'de> Deserialize<'de>>(
    results: &dyn Results,
    key: &str,
) -> Result<Option<(T, String)>, StoreError> {
    let Some(object) = results.get(key, None).await? else { return Ok(None) };
    let damaged =
        |detail: String| StoreError { name: "damaged", detail: format!("{key}: {detail}") };
    if object.length > RECORD_BYTES_MAX {
        return Err(damaged(format!("{} bytes", object.length)));
    }
    let bytes = whole(object.body).await.map_err(|error| damaged(error.to_string()))?;
    let record = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    Ok(Some((record, object.etag)))
}

/// Writes a JSON record.
///
/// # Errors
/// The condition is not met, or the store fails.
pub async fn write<T: Serialize>(
    results: &dyn Results,
    key: &str,
    record: &T,
    condition: Condition,
) -> Result<String, PutError> {
    let json = serde_json::to_vec(record).map_err(|error| {
        PutError::Failed(StoreError { name: "damaged", detail: error.to_string() })
    })?;
    results.put(key, Bytes::from(json), condition).await
}

pub async fn whole(body: ObjectBody) -> std::io::Result<Bytes> {
    Ok(body.collect().await?.to_bytes())
}

pub fn outcome_key(id: &str) -> String {
    format!("outcome/{id}")
}

pub fn lease_key(id: &str) -> String {
    format!("leases/{id}")
}

pub fn adopted_key(id: &str) -> String {
    format!("{ADOPTED}{id}")
}

pub fn result_key(id: &str) -> String {
    format!("results/{id}")
}

pub fn accepted_key(id: &str) -> String {
    format!("jobs/{id}")
}

pub fn payload_key(id: &str) -> String {
    format!("{PAYLOAD}{id}")
}

pub fn sealed_key(id: &str) -> String {
    format!("sealed/{id}")
}

pub fn flash_key(id: &str) -> String {
    format!("flash/{id}")
}

pub fn progress_key(id: &str) -> String {
    format!("progress/{id}")
}

pub fn failed_key(id: &str) -> String {
    format!("{FAILED}{id}")
}

pub fn notified_key(id: &str) -> String {
    format!("notified/{id}")
}

/// The prefix of bodies that did not fit into their messages.
pub const PAYLOAD: &str = "payload/";

/// The prefix of failed jobs' messages.
pub const FAILED: &str = "failed/";

/// The prefix of leases of adopted executions.
pub const ADOPTED: &str = "adopted/";

/// The prefixes of everything else that expires. A payload comes before the outcome that says
/// whether it is still needed.
pub const EXPIRING: [&str; 10] = [
    PAYLOAD,
    "outcome/",
    "results/",
    "jobs/",
    "progress/",
    FAILED,
    "notified/",
    "leases/",
    "sealed/",
    "flash/",
];

/// What is known of a plain producer's message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bare {
    /// The id by which its producer knows it, if the job has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_id: Option<String>,
    /// The user for whom it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// One flash cookie that waits for its page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flash {
    pub(super) name: String,
    /// The application's `Set-Cookie`.
    pub(super) line: String,
    /// A MAC of the value that was sent with the job; none where none was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<String>,
}
