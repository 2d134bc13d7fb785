//! Converts a request to a queue message, and back.
//!
//! Where SQS allows it, the message body **is** the request's body, so that a plain consumer can do
//! `json.loads(message['Body'])`; everything else is in attributes. What does not fit goes to the
//! result store, in the format of the SQS Extended Client.

use super::bare;
use super::context::JobContext;
use super::intake::NotRead;
use super::job::{DEADLINE, EXTENDED_SIZE, FIRST_ID, Job, SEALED, TOKEN, is_claim_check};
use super::lines::Lines;
use super::malformed::Malformed;
use super::payload::Payload;
use super::record::{payload_key, sealed_key, whole};
use crate::message::body::Body;
use bytes::Bytes;
use rules::UnixMillis;
use rules::document;
use std::collections::BTreeMap;
use stores::queue::{Message, Received, is_legal_body};
use stores::results::{Condition, PutError, Results, StoreError};

/// Represents an empty body: SQS requires at least one character.
const EMPTY: &str = "empty";
const POINTER: &str = "software.amazon.payloadoffloading.PayloadS3Pointer";
/// Represents a seal that is in the store.
const IN_STORE: &str = "store";
/// The largest seal in bytes that is put into the message, so that large cookies leave room for the
/// body.
const SEALED_BYTES_MAX: usize = 16 * 1024;
/// The largest seal in the store in bytes: a request's head has 1 MiB at most, and half as much
/// again as base64.
const STORED_SEAL_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Bytes of an attribute's type name, `String`, which SQS counts with name and value.
const ATTRIBUTE_TYPE_BYTES: usize = 6;

/// Why a message is no job, or not yet.
#[derive(Debug)]
pub enum NotAJob {
    /// It stays in the queue, unchanged, until it goes to the dead letters.
    Undecodable(Malformed),
    /// Its body was in the store, and is gone.
    Gone,
    /// The store can't be read at the moment.
    Store(StoreError),
}

use NotAJob::Undecodable;

/// Builds the message. A body that does not fit is stored under `payload/{id}` first.
///
/// # Errors
/// The store fails.
pub async fn pack(job: &Job, results: &dyn Results, bytes_max: usize) -> Result<Message, PutError> {
    let mut attributes = BTreeMap::from([
        ("job-id".to_owned(), job.id.clone()),
        ("method".to_owned(), job.method.clone()),
        ("path".to_owned(), job.target.clone()),
        ("host".to_owned(), job.host.clone()),
        ("headers".to_owned(), job.headers.to_json()),
    ]);
    if let Some(route) = &job.route {
        attributes.insert("route".to_owned(), route.clone());
    }
    if let Some(deadline) = job.deadline {
        attributes.insert(DEADLINE.to_owned(), deadline.0.to_string());
    }
    if let Some(token) = &job.token {
        attributes.insert(TOKEN.to_owned(), token.clone());
    }
    if let Some(sealed) = &job.sealed {
        let attribute = if sealed.len() > SEALED_BYTES_MAX {
            let bytes = Bytes::from(sealed.clone());
            results.put(&sealed_key(&job.id), bytes, Condition::Always).await?;
            IN_STORE
        } else {
            sealed
        };
        attributes.insert(SEALED.to_owned(), attribute.to_owned());
    }
    let group = job.group.clone();
    if job.body.is_empty() {
        attributes.insert("body".to_owned(), EMPTY.to_owned());
        return Ok(Message { body: " ".to_owned(), attributes, group });
    }
    let around: usize = attributes
        .iter()
        .map(|(name, value)| name.len() + ATTRIBUTE_TYPE_BYTES + value.len())
        .sum();
    if let Some(body) = text(&job.body, bytes_max.saturating_sub(around)).await? {
        return Ok(Message { body, attributes, group });
    }
    let key = payload_key(&job.id);
    match &job.body {
        Payload::Memory(bytes) => results.put(&key, bytes.clone(), Condition::Always).await?,
        Payload::Spooled(file) => results.put_file(&key, &file.path, Condition::Always).await?,
    };
    attributes.insert(EXTENDED_SIZE.to_owned(), job.body.length().to_string());
    let pointer = serde_json::json!([POINTER, { "s3BucketName": results.bucket(), "s3Key": format!("{}{key}", results.prefix()) }]);
    Ok(Message { body: pointer.to_string(), attributes, group })
}

/// The body as text, if SQS accepts it in a message.
async fn text(body: &Payload, bytes_max: usize) -> Result<Option<String>, PutError> {
    if body.length() > bytes_max as u64 {
        return Ok(None);
    }
    let bytes = body.bytes().await.map_err(|error| {
        PutError::Failed(StoreError { name: "spool-failed", detail: error.to_string() })
    })?;
    let text = std::str::from_utf8(&bytes).ok().filter(|text| is_legal_body(text));
    Ok(text.map(str::to_owned))
}

/// Reads a message, ours or a plain producer's, without its body.
///
/// # Errors
/// Why it can't be a job: it is left for the dead letters.
pub fn unpack(received: &Received, of: bare::Of<'_>) -> Result<Job, Malformed> {
    let attribute = |name: &str| received.attributes.get(name).cloned();
    if attribute(FIRST_ID).is_some_and(|id| !super::id::is_plausible(&id)) {
        return Err(Malformed::FirstId);
    }
    if bare::is_bare(received)? {
        return bare::unpack(received, of);
    }
    let id = attribute("job-id").unwrap_or_default();
    if !super::id::is_plausible(&id) {
        return Err(Malformed::JobId);
    }
    let need = |name| attribute(name).ok_or(Malformed::Lacks(name));
    let headers = Lines::from_json(&need("headers")?).map_err(Malformed::Headers)?;
    Ok(Job {
        id,
        route: attribute("route"),
        bare: None,
        method: need("method")?,
        // The target in a legal form: another producer may have written characters that no URI has.
        target: rules::path::legal(&need("path")?).into_owned(),
        host: attribute("host").unwrap_or_else(|| "localhost".to_owned()),
        headers,
        body: Bytes::new().into(),
        group: received.group.clone(),
        deadline: attribute(DEADLINE).and_then(|deadline| deadline.parse().ok().map(UnixMillis)),
        sealed: attribute(SEALED),
        token: attribute(TOKEN),
    })
}

/// Loads the job's body, and finds the user in that of a bare message.
///
/// # Errors
/// A claim check refers to nothing, or the store can't be read at the moment.
pub async fn load(
    context: &JobContext,
    mut job: Job,
    received: &Received,
    queue: &document::Queue,
    results: &dyn Results,
) -> Result<Job, NotAJob> {
    job.body = body(context, received, results).await?;
    if job.sealed.as_deref() == Some(IN_STORE) {
        job.sealed = Some(stored_seal(&job.id, results).await?);
    }
    if job.bare.is_some() && is_claim_check(&received.attributes) {
        let (bytes, _room) = context.intake.open(&job.body).await.map_err(not_read)?;
        bare::name_user(&mut job, queue.user.as_ref(), &bytes);
    }
    Ok(job)
}

/// A plain producer's message that is sent again gets another message id: this keeps the id of its
/// job.
pub(super) fn keep_id(attributes: &mut BTreeMap<String, String>, message: &str) {
    if !attributes.contains_key("job-id") {
        attributes.entry(FIRST_ID.to_owned()).or_insert_with(|| message.to_owned());
    }
}

async fn body(
    context: &JobContext,
    received: &Received,
    results: &dyn Results,
) -> Result<Payload, NotAJob> {
    if received.attributes.get("body").is_some_and(|body| body == EMPTY) {
        return Ok(Bytes::new().into());
    }
    if !is_claim_check(&received.attributes) {
        return Ok(Bytes::copy_from_slice(received.body.as_bytes()).into());
    }
    let key = claimed_key(&received.body, results).map_err(Undecodable)?;
    // A repeated read would not make the key legal.
    let failed = |error: StoreError| match error.name {
        "key-illegal" => Undecodable(Malformed::ClaimedKey(error)),
        _ => NotAJob::Store(error),
    };
    let object = results.get(&key, None).await.map_err(failed)?.ok_or(NotAJob::Gone)?;
    // No limit applies: it was checked on acceptance, or another producer put the body there.
    context.intake.read(&context.spool, Body::boxed(object.body), u64::MAX).await.map_err(not_read)
}

async fn stored_seal(id: &str, results: &dyn Results) -> Result<String, NotAJob> {
    let object = results.get(&sealed_key(id), None).await.map_err(NotAJob::Store)?;
    let object = object.ok_or(NotAJob::Gone)?;
    // Our seals fit one request's head. Anything larger is not ours, and is not read.
    if object.length > STORED_SEAL_BYTES_MAX {
        return Ok(String::new());
    }
    let bytes = whole(object.body).await.map_err(|error| not_read(NotRead::Broken(error)))?;
    Ok(String::from_utf8(bytes.into()).unwrap_or_default())
}

/// The keys of the store that nobody needs without this message.
pub(super) fn parts_in_store(attributes: &BTreeMap<String, String>, id: &str) -> Vec<String> {
    let payload = is_claim_check(attributes).then(|| payload_key(id));
    let is_sealed = attributes.get(SEALED).is_some_and(|sealed| sealed == IN_STORE);
    payload.into_iter().chain(is_sealed.then(|| sealed_key(id))).collect()
}

/// The body is read again later: others may release memory, and the store may recover.
fn not_read(why: NotRead) -> NotAJob {
    let (name, detail) = match why {
        NotRead::NoRoom(name) => (name, "no room for the body".to_owned()),
        NotRead::Broken(error) => ("broken", error.to_string()),
        NotRead::TooLarge => ("broken", "longer than any body".to_owned()),
    };
    NotAJob::Store(StoreError { name, detail })
}

/// The store key of a claim check's body.
///
/// # Errors
/// Why the message's body is no pointer to it.
pub(super) fn claimed_key(body: &str, results: &dyn Results) -> Result<String, Malformed> {
    let pointer: serde_json::Value = serde_json::from_str(body).map_err(Malformed::ClaimCheck)?;
    let text =
        |name: &str| pointer.get(1).and_then(|at| at.get(name)).and_then(|text| text.as_str());
    // Only our own bucket is allowed: the pointer is untrusted data.
    if pointer.get(0).and_then(|class| class.as_str()) != Some(POINTER)
        || text("s3BucketName") != Some(results.bucket())
    {
        return Err(Malformed::ClaimsElsewhere);
    }
    let key = text("s3Key").and_then(|key| key.strip_prefix(results.prefix()));
    key.map(str::to_owned).ok_or(Malformed::ClaimsElsewhere)
}
