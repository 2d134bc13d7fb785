//! The lease of a running job: one attempt at a time, by conditional writes.

use super::consume::Consumer;
use super::envelope::Job;
use super::record::{self, Lease, lease_key};
use crate::queue::Received;
use crate::results::{Condition, PutError};
use std::time::Duration;

/// Whose the lease is.
pub(super) enum Taken {
    Ours,
    /// For so long.
    Others(Duration),
    Draining,
}

impl Consumer {
    /// One attempt's name in the lease: a duplicate delivery to this process is another's too.
    pub(super) fn holder_of(&self, received: &Received) -> String {
        format!("{}.{}.{}", self.holder, received.id, received.receives)
    }

    pub(super) async fn beat(&self, job: &Job, received: &Received, visibility: Duration) {
        self.give_back(received, visibility).await;
        let lease = self.lease(self.holder_of(received), received.receives, visibility);
        let key = lease_key(&job.id);
        let written = record::write(self.results.as_ref(), &key, &lease, Condition::Always).await;
        if let Err(error) = written {
            tracing::warn!(job = job.id, ?error, "lease not renewed");
        }
    }

    fn lease(&self, holder: String, attempt: u64, visibility: Duration) -> Lease {
        let for_ms = u64::try_from(visibility.as_millis()).unwrap_or(u64::MAX);
        let until = self.worker.app.clock.now().saturating_add(for_ms);
        Lease { holder, until, attempt, adopted: false }
    }

    pub(super) async fn take_lease(
        &self,
        job: &Job,
        received: &Received,
        holder: &str,
        visibility: Duration,
    ) -> Taken {
        let key = lease_key(&job.id);
        let results = self.results.as_ref();
        loop {
            let now = self.worker.app.clock.now();
            let condition = match record::read::<Lease>(results, &key).await {
                Ok(None) => Some(Condition::IfAbsent),
                Ok(Some((other, _))) if other.until > now => {
                    return Taken::Others(Duration::from_millis(other.until - now));
                }
                Ok(Some((_, etag))) => Some(Condition::IfMatch(etag)),
                Err(_) => None,
            };
            if let Some(condition) = condition {
                let lease = self.lease(holder.to_owned(), received.receives, visibility);
                match record::write(results, &key, &lease, condition).await {
                    Ok(_) => return Taken::Ours,
                    Err(PutError::Precondition) => return Taken::Others(visibility),
                    Err(PutError::Failed(_)) => {}
                }
            }
            if self.hold(received, visibility).await.is_none() {
                return Taken::Draining;
            }
        }
    }

    /// Only our own: another attempt may have taken over.
    pub(super) async fn drop_lease(&self, id: &str, holder: &str) {
        let key = lease_key(id);
        let found = record::read::<Lease>(self.results.as_ref(), &key).await;
        if !matches!(found, Ok(Some((lease, _))) if lease.holder == holder) {
            return;
        }
        if let Err(error) = self.results.delete(&key).await {
            tracing::debug!(job = id, %error, "lease not removed");
        }
    }
}
