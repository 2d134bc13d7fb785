//! Requests with an `Idempotency-Key` that are executed at once: an accept record is written before, so
//! that a retry never executes them again.

use super::keyed::Record;
use super::record::{self, Accepted, accepted_key};
use http::HeaderValue;
use std::time::Duration;
use stores::results::{Condition, PutError, Results};
use tokio::time::{sleep, timeout};

/// How often it is asked what became of a release, some minutes in all.
const SETTLE_TRIES: usize = 60;
const SETTLE_PAUSE: Duration = Duration::from_secs(5);

/// A request that nobody else executes.
pub(super) struct Once {
    pub id: String,
    pub key: HeaderValue,
    pub(super) record: Record,
}

/// Whether a key is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyRelease {
    Yes,
    /// Somebody was promised the job meanwhile.
    No,
    /// The store did not say. What was written may still arrive.
    Unknown,
}

/// Gives the key free: nothing was done.
pub(super) async fn release(results: &dyn Results, id: &str, record: Record) -> KeyRelease {
    let Record { accepted, etag } = record;
    let released = Accepted { released: true, ..accepted };
    let key = accepted_key(id);
    match record::write(results, &key, &released, Condition::IfMatch(etag)).await {
        Ok(_) => KeyRelease::Yes,
        Err(PutError::Precondition) => KeyRelease::No,
        Err(PutError::Failed(_)) => KeyRelease::Unknown,
    }
}

impl Once {
    /// The same, for an execution that the application did not begin, or says it did not.
    pub(super) async fn release(&self, results: &dyn Results) -> KeyRelease {
        let releasing = release(results, &self.id, self.record.clone());
        timeout(RECORD_BUDGET, releasing).await.unwrap_or(KeyRelease::Unknown)
    }

    /// Finds out whether a release got through, and sees to it that it does not from now on: the job's
    /// end is stored next. `Unknown` while the store is away for long.
    pub(super) async fn settle(&self, results: &dyn Results) -> KeyRelease {
        let key = accepted_key(&self.id);
        for _ in 0..SETTLE_TRIES {
            let Record { accepted, etag } = self.record.clone();
            // Another etag is all that it needs.
            let settled = Accepted { holder: format!("{}-", accepted.holder), ..accepted };
            match record::write(results, &key, &settled, Condition::IfMatch(etag)).await {
                Ok(_) => return KeyRelease::No,
                Err(PutError::Precondition) => {
                    if let Ok(found) = record::read::<Accepted>(results, &key).await {
                        let is_free = found.is_none_or(|(found, _)| found.released);
                        return if is_free { KeyRelease::Yes } else { KeyRelease::No };
                    }
                }
                Err(PutError::Failed(_)) => {}
            }
            sleep(SETTLE_PAUSE).await;
        }
        KeyRelease::Unknown
    }
}

/// Writing the accept record, which the execution waits for.
pub(super) const RECORD_BUDGET: Duration = Duration::from_secs(3);
