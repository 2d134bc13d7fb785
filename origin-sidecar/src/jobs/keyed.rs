//! Requests with an `Idempotency-Key`: the same request becomes the same job, whichever process
//! crashed and when.

use super::caller::Caller;
use super::context::JobWorker;
use super::intake::SPOOL_FAILED;
use super::offered::{NotQueued, OffloadCandidate, Opened, store_failed};
use super::record::{self, Accepted, accepted_key};
use super::sending::send;
use crate::message::body::Body;
use crate::message::refused::Refused;
use http::{HeaderValue, Response};
use rules::hex::hex;
use rules::{Millis, Problem};
use sha2::{Digest, Sha256};
use std::io;
use stores::results::{Condition, PutError};

/// The longest `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header sets no limit).
const KEY_CHARS_MAX: usize = 255;

/// How often a record is read again that others change meanwhile.
const TRIES: usize = 3;

/// How a request with a key is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handling {
    Queue,
    /// It is executed at once, in this process.
    Execute,
}

/// An accept record as it is in the store.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub accepted: Accepted,
    pub etag: String,
}

/// What an earlier request with the key has left to do.
pub(super) enum KeyClaim {
    /// There was none, or nothing came of it: this request is the first.
    Ours(Record),
    /// A process died between record and message, or is about to send the message.
    Unsent(Record),
    /// There is a job, or an answer.
    Known(Record),
}

/// Writes the accept record, unless there is one.
pub(super) async fn claim(
    offered: &OffloadCandidate<'_>,
    tools: &Opened<'_>,
    id: &str,
    own: Accepted,
) -> Result<KeyClaim, NotQueued> {
    let (results, key) = (tools.results.as_ref(), accepted_key(id));
    let mut condition = Condition::IfAbsent;
    for _ in 0..TRIES {
        match record::write(results, &key, &own, condition).await {
            Ok(etag) => return Ok(KeyClaim::Ours(Record { accepted: own, etag })),
            Err(PutError::Failed(error)) => return Err(store_failed(error)),
            Err(PutError::Precondition) => {}
        }
        let found = record::read::<Accepted>(results, &key).await.map_err(store_failed)?;
        let Some((accepted, etag)) = found else {
            condition = Condition::IfAbsent;
            continue;
        };
        if accepted.released {
            condition = Condition::IfMatch(etag);
            continue;
        }
        return known(offered, &own, Record { accepted, etag });
    }
    Err(NotQueued::Unavailable("store-race", "try again".to_owned()))
}

/// The accept record of a request.
pub(super) async fn record(
    worker: &JobWorker,
    offered: &OffloadCandidate<'_>,
    tools: &Opened<'_>,
    way: Handling,
) -> Result<Accepted, NotQueued> {
    let executed = way == Handling::Execute;
    let holder =
        if executed { crate::secrets::random_hex(HOLDER_BYTES) } else { Ok(String::new()) };
    let no_random = |error: io::Error| NotQueued::Unavailable("no-random", error.to_string());
    Ok(Accepted {
        route: offered.route.name.clone(),
        owner: offered.allowed.caller.owner(tools.secrets),
        own_id: None,
        fingerprint: fingerprint(offered).await?,
        at: worker.context.clock.now(),
        // A process without support for executions with a key must not queue it in addition.
        queued: executed,
        executed,
        holder: holder.map_err(no_random)?,
        promised: false,
        released: false,
    })
}

/// Random bytes that distinguish two requests with one key.
const HOLDER_BYTES: usize = 8;

fn known(
    offered: &OffloadCandidate<'_>,
    own: &Accepted,
    found: Record,
) -> Result<KeyClaim, NotQueued> {
    let queue = offered.clean.rules.document.queues.get(&offered.rule.queue);
    let ttl = queue.map_or(Millis::MAX, |queue| queue.result_ttl);
    let accepted = &found.accepted;
    if accepted.fingerprint != own.fingerprint {
        let problem = Problem::IdempotencyMismatch;
        return Err(NotQueued::Refused(Refused::from(problem)));
    }
    // Its job may have run and been removed: neither its end nor another execution is right.
    if accepted.at + ttl < own.at {
        let detail = "the job of this Idempotency-Key has expired: send another key";
        return Err(NotQueued::Refused(Refused::new(Problem::JobExpired, detail.to_owned())));
    }
    Ok(if accepted.queued { KeyClaim::Known(found) } else { KeyClaim::Unsent(found) })
}

/// Writes the accept record, sends the message and marks the record: a retry after a crash at any
/// point becomes the same job. Returns the existing record where nothing is to be sent.
pub(super) async fn put(
    worker: &JobWorker,
    offered: &OffloadCandidate<'_>,
    tools: &Opened<'_>,
    id: &str,
) -> Result<Option<Record>, NotQueued> {
    let own = record(worker, offered, tools, Handling::Queue).await?;
    let Record { accepted, etag } = match claim(offered, tools, id, own).await? {
        KeyClaim::Known(found) => return Ok(Some(found)),
        KeyClaim::Ours(record) | KeyClaim::Unsent(record) => record,
    };
    send(worker, offered, tools, id).await?;
    let queued = Accepted { queued: true, ..accepted };
    let (results, key) = (tools.results.as_ref(), accepted_key(id));
    // The message is durable; the mark only saves a retry from sending it again.
    if let Err(error) = record::write(results, &key, &queued, Condition::IfMatch(etag)).await {
        tracing::debug!(job = id, ?error, "accept record not updated");
    }
    Ok(None)
}

/// Adds the key to the answer, to show that it was used.
pub(super) fn marked(mut response: Response<Body>, key: Option<&HeaderValue>) -> Response<Body> {
    if let Some(key) = key {
        response.headers_mut().insert(IDEMPOTENCY_KEY, key.clone());
    }
    response
}

/// The key's text, which was checked before.
pub(super) fn text(key: &HeaderValue) -> String {
    key.to_str().unwrap_or_default().to_owned()
}

pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The valid `Idempotency-Key`. It requires a caller: otherwise two strangers could share one job.
pub(super) fn of(offered: &OffloadCandidate<'_>) -> Result<Option<HeaderValue>, Refused> {
    if offered.allowed.caller == Caller::Anyone {
        return Ok(None);
    }
    let mut keys = offered.clean.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(Refused::new(Problem::BadRequest, "there are several Idempotency-Keys"));
    }
    match key.to_str() {
        Ok(text) if !text.is_empty() && text.len() <= KEY_CHARS_MAX => Ok(Some(key.clone())),
        _ => Err(Refused::new(
            Problem::BadRequest,
            format!("Idempotency-Key is not text of up to {KEY_CHARS_MAX} characters"),
        )),
    }
}

async fn fingerprint(offered: &OffloadCandidate<'_>) -> Result<String, NotQueued> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(offered.clean.method.as_str().as_bytes());
    part(offered.target.as_bytes());
    let unreadable = |error: io::Error| NotQueued::Unavailable(SPOOL_FAILED, error.to_string());
    part(&offered.body.sha256().await.map_err(unreadable)?);
    Ok(hex(&hash.finalize()))
}
