//! What is written about a job: accept record, lease and outcome. One JSON object each.

use crate::results::{Condition, ObjectBody, PutError, Results, StoreError};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};

/// A record larger than this is not one of ours.
const RECORD_BYTES_MAX: u64 = 256 * 1024;

/// `outcome/{id}`: written once, the end of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub id: String,
    pub status: Terminal,
    /// Why it failed; a stable name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The app's own answer, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    pub attempt: u64,
    /// Milliseconds since 1970.
    pub finished: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Terminal {
    Succeeded,
    Failed,
    Cancelled,
}

impl Terminal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Status and headers of the app's answer; its body is an object of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub code: u16,
    pub headers: Vec<(String, String)>,
    pub length: u64,
    /// The object with the body: attempts that overlap have one each.
    pub object: String,
}

/// `leases/{id}`: somebody is executing the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub holder: String,
    /// Milliseconds since 1970; renewed while the job runs.
    pub until: u64,
    pub attempt: u64,
    /// The original execution goes on; there is no message to try again from.
    pub adopted: bool,
}

/// `jobs/{id}`: what an `Idempotency-Key` was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub route: String,
    pub owner: String,
    /// Hash of method, target and body.
    pub fingerprint: String,
    pub at: u64,
    /// Set once the queue has the message.
    pub queued: bool,
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

pub fn result_key(id: &str) -> String {
    format!("results/{id}")
}

pub fn accepted_key(id: &str) -> String {
    format!("jobs/{id}")
}

pub fn payload_key(id: &str) -> String {
    format!("payload/{id}")
}

pub fn notified_key(id: &str) -> String {
    format!("notified/{id}")
}
