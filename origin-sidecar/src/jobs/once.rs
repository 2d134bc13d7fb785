//! Executes requests with an `Idempotency-Key` at once: an accept record is written first, so that
//! a retry never executes them again.

use super::keyed::Record;
use super::record::{self, Accepted, accepted_key};
use http::HeaderValue;
use std::time::Duration;
use stores::results::{Condition, PutError, Results};
use tokio::time::{sleep, timeout};

/// How often it is checked whether a release was written, for some minutes in all.
const SETTLE_TRIES: usize = 60;
const SETTLE_PAUSE: Duration = Duration::from_secs(5);

/// A request that no other process executes.
pub(super) struct Once {
    pub id: String,
    pub key: HeaderValue,
    pub(super) record: Record,
}

/// Whether a key can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyRelease {
    Yes,
    /// A retry was promised the job meanwhile.
    No,
    /// The store did not answer. The write may still arrive.
    Unknown,
}

/// Releases the key, because nothing was done.
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
    /// Releases the key of an execution that the application did not begin, or says it did not.
    pub(super) async fn release(&self, results: &dyn Results) -> KeyRelease {
        let releasing = release(results, &self.id, self.record.clone());
        timeout(RECORD_BUDGET, releasing).await.unwrap_or(KeyRelease::Unknown)
    }

    /// Determines whether a release was written, and makes sure that it can't arrive later: the
    /// job's end is stored next. `Unknown` while the store is unavailable for long.
    pub(super) async fn settle(&self, results: &dyn Results) -> KeyRelease {
        let key = accepted_key(&self.id);
        for _ in 0..SETTLE_TRIES {
            let Record { accepted, etag } = self.record.clone();
            // It only needs another etag.
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

/// How long writing the accept record may take; the execution waits for it.
pub(super) const RECORD_BUDGET: Duration = Duration::from_secs(3);
