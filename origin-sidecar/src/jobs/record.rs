//! What is written about a job: accept record, lease and outcome. One JSON object each.

use super::lines::Value;
use bytes::Bytes;
use http_body_util::BodyExt;
use net::boxed::ObjectBody;
use rules::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stores::results::{Condition, PutError, Results, StoreError};

/// A record larger than this is not one of ours. The largest is the copy of a failed job's message:
/// 1 MiB, and up to twice that as JSON.
const RECORD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// `outcome/{id}`: created once, the end of the job. Only an operator's retry replaces it
/// (`If-Match`), and then the end of that.
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
    /// Why it failed; a stable name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The app's own answer, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<StoredAnswer>>,
    /// The client that started it was given this very answer at once. Without an answer, it was too
    /// large to be kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answered: bool,
    /// Executions so far.
    pub attempt: u64,
    /// When it ended.
    pub finished: UnixMillis,
}

impl Outcome {
    /// An end without an answer of the app.
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
    /// The end before was taken back by an operator: the job is to run again.
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

/// Status and headers of the app's answer; its body is an object of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    pub code: u16,
    pub headers: Vec<(String, Value)>,
    pub length: u64,
    /// Where it leads, if it redirects and has succeeded: a path, or the URL of another site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_to: Option<String>,
    /// Cookies for the page that ends the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flash: Vec<Flash>,
    /// The object with the body: attempts that overlap have one each.
    pub object: String,
}

/// What is known of a job's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// Not yet; how an outcome is to be written, and how many executions there were before an
    /// operator's retry.
    Open {
        condition: Condition,
        attempts: u64,
    },
    Is(Outcome),
}

/// Reads the job's end.
///
/// # Errors
/// When the store fails or the record is damaged.
pub async fn end(results: &dyn Results, id: &str) -> Result<JobEnd, StoreError> {
    Ok(match read::<Outcome>(results, &outcome_key(id)).await? {
        None => JobEnd::Open { condition: Condition::IfAbsent, attempts: 0 },
        Some((outcome, etag)) if outcome.status == Terminal::Requeued => {
            JobEnd::Open { condition: Condition::IfMatch(etag), attempts: outcome.attempt }
        }
        Some((outcome, _)) => JobEnd::Is(outcome),
    })
}

/// `leases/{id}`: somebody is executing the job, or was: it counts the attempts.
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
    /// Set when it is given up for another attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
}

/// Why a job is tried again, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// A stable name.
    pub reason: String,
    /// When it is tried again.
    pub at: UnixMillis,
}

/// `adopted/{id}`: the original execution goes on in the proxy that took it. There is no message to
/// try again from: a crash is an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Until when it is held; renewed while the request runs.
    pub until: UnixMillis,
    pub route: String,
    pub queue: String,
    /// For the notification.
    pub user: Option<String>,
}

/// `progress/{id}`: what the app says of a job that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobProgress {
    /// 0 to 100.
    pub percent: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `failed/{id}`: the message of a job that failed, so that it can be run again. Empty of one that failed by
/// another's word: only a message has a body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedMessage {
    pub body: String,
    pub attributes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// `notified/{id}`: the notification has come to an end, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    pub log: Vec<NotificationAttempt>,
}

/// One attempt to tell one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationAttempt {
    /// When.
    pub at: UnixMillis,
    pub to: String,
    /// `delivered`, `gone`, or what went wrong.
    pub result: String,
}

/// `jobs/{id}`: what an `Idempotency-Key` was used for, or whose the job of a plain producer is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Empty of a plain producer's, like the fingerprint.
    pub route: String,
    pub owner: String,
    /// The id that a plain producer gave the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_id: Option<String>,
    /// Hash of method, target and body.
    pub fingerprint: String,
    pub at: UnixMillis,
    /// Set once the queue has the message; also where there never is one.
    pub queued: bool,
    /// The request is executed at once, by the process that wrote this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executed: bool,
    /// Which request of that process. Empty of one that is queued.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub holder: String,
    /// Somebody was answered 202 while it was executed: its end is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promised: bool,
    /// Nothing was done: the key is free again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

/// Reads a JSON record with its etag.
///
/// # Errors
/// When the store fails or the record is damaged.
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

/// # Errors
/// When the condition is not met or the store fails.
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

/// Where bodies lie that did not fit into their message.
pub const PAYLOAD: &str = "payload/";

/// Where messages of failed jobs lie.
pub const FAILED: &str = "failed/";

/// Where leases of adopted executions lie.
pub const ADOPTED: &str = "adopted/";

/// Where everything else of jobs lies that is removed when it has expired. A payload comes before
/// the outcome that says whether it is still needed.
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
    /// The id that its producer knows it by, if the job has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_id: Option<String>,
    /// For whom it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// One cookie as it waits for its page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flash {
    pub(super) name: String,
    /// The application's `Set-Cookie`.
    pub(super) line: String,
    /// A MAC of the value that was sent with the job; none where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<String>,
}
