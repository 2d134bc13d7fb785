//! Requests with an `Idempotency-Key`: the same request becomes the same job, whoever crashed when.

use super::accept::{NotQueued, Offered, Tools, send, store_failed};
use super::caller::Caller;
use super::intake::SPOOL_FAILED;
use super::record::{self, Accepted, accepted_key};
use crate::proxy::Worker;
use crate::proxy::handle::Refused;
use crate::results::{Condition, PutError};
use rules::Problem;
use rules::document::hex;
use sha2::{Digest, Sha256};

/// Longest `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header sets none).
const KEY_CHARS_MAX: usize = 255;

/// Accept record, message, mark: a retry at any point between ends in the same job.
pub(super) async fn put(
    worker: &Worker,
    offered: &Offered<'_>,
    tools: &Tools<'_>,
    id: &str,
) -> Result<(), NotQueued> {
    let now = worker.app.clock.now();
    let caller = &offered.allowed.caller;
    let route = &offered.route.name;
    let record = Accepted {
        route: route.clone(),
        owner: caller.owner(tools.secrets),
        fingerprint: fingerprint(offered).await?,
        at: now,
        queued: false,
    };
    let record_key = accepted_key(id);
    let queue = offered.clean.rules.document.queues.get(&offered.rule.queue);
    let ttl = queue.map_or(u64::MAX, |queue| queue.result_ttl);
    let etag = match record::write(
        tools.results.as_ref(),
        &record_key,
        &record,
        Condition::IfAbsent,
    )
    .await
    {
        Ok(etag) => etag,
        Err(PutError::Precondition) => {
            let found = record::read::<Accepted>(tools.results.as_ref(), &record_key).await;
            match found.map_err(store_failed)? {
                Some((found, _)) if found.fingerprint != record.fingerprint => {
                    let problem = Problem::IdempotencyMismatch;
                    return Err(NotQueued::Refused((problem, problem.title().to_owned())));
                }
                // Its job may have run and be forgotten: neither its end nor another run is right.
                Some((found, _)) if found.at.saturating_add(ttl) < now => {
                    let detail = "the job of this Idempotency-Key has expired: send another key";
                    return Err(NotQueued::Refused((Problem::JobExpired, detail.to_owned())));
                }
                Some((found, _)) if found.queued => return Ok(()),
                // Somebody died, or is at it, between record and message: send again, same id.
                Some((_, etag)) => etag,
                None => return Err(NotQueued::Unavailable("store-race", "try again".to_owned())),
            }
        }
        Err(PutError::Failed(error)) => return Err(store_failed(error)),
    };
    send(worker, offered, tools, id).await?;
    let queued = Accepted { queued: true, ..record };
    // The message is durable; the record only saves a retry from sending it again.
    if let Err(error) =
        record::write(tools.results.as_ref(), &record_key, &queued, Condition::IfMatch(etag)).await
    {
        tracing::debug!(job = id, ?error, "accept record not updated");
    }
    Ok(())
}

/// The `Idempotency-Key` that counts. A key needs a caller: without one, two strangers could meet in one job.
pub(super) fn of(offered: &Offered<'_>) -> Result<Option<String>, Refused> {
    if offered.allowed.caller == Caller::Anyone {
        return Ok(None);
    }
    let Some(key) = offered.clean.headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= KEY_CHARS_MAX => Ok(Some(key.to_owned())),
        _ => Err((
            Problem::BadRequest,
            format!("Idempotency-Key is not text of up to {KEY_CHARS_MAX} characters"),
        )),
    }
}

async fn fingerprint(offered: &Offered<'_>) -> Result<String, NotQueued> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(offered.clean.method.as_str().as_bytes());
    part(offered.target.as_bytes());
    let unreadable =
        |error: std::io::Error| NotQueued::Unavailable(SPOOL_FAILED, error.to_string());
    part(&offered.body.sha256().await.map_err(unreadable)?);
    Ok(hex(&hash.finalize()))
}
