//! The lease of a running job: conditional writes ensure one attempt at a time. It counts attempts:
//! a delivery that finds the lease taken is no attempt, nor is one whose job was not executed.

use super::record::{self, Again, Lease, lease_key};
use crate::clock::Clock;
use rules::{Millis, UnixMillis};
use std::sync::Arc;
use std::time::Duration;
use stores::results::{Condition, PutError, Results, StoreError};

/// The lease that an attempt holds.
pub(super) struct HeldLease {
    results: Arc<dyn Results>,
    clock: Arc<dyn Clock>,
    key: String,
    holder: String,
    route: Option<String>,
    again: Option<Again>,
    etag: String,
    pub attempt: u64,
    /// Since when the job has been waiting for its application.
    pub waiting: Option<UnixMillis>,
}

/// The result of trying to take a lease.
pub(super) enum Taken {
    Ours(HeldLease),
    /// Another attempt holds it, for this long.
    Others(Duration),
    /// The store did not answer.
    Unknown(StoreError),
}

/// Another attempt has taken the lease: this one must not do anything more.
pub(super) struct LeaseLost;

/// Takes the lease of the job with this id and route. `holder` identifies one attempt: a duplicate
/// delivery to the same process is another holder.
pub(super) async fn take(
    results: &Arc<dyn Results>,
    clock: &Arc<dyn Clock>,
    (id, route): (&str, Option<&str>),
    holder: String,
    time: Duration,
) -> Taken {
    let key = lease_key(id);
    let now = clock.now();
    let (condition, attempt, waiting) = match record::read::<Lease>(results.as_ref(), &key).await {
        Ok(None) => (Condition::IfAbsent, 1, None),
        Ok(Some((other, _))) if other.until > now && other.holder != holder => {
            return Taken::Others(Duration::from(other.until - now));
        }
        // This is an earlier write of ours, whose answer was lost.
        Ok(Some((own, etag))) if own.until > now => {
            let (results, clock) = (Arc::clone(results), Arc::clone(clock));
            let Lease { attempt, waiting, route, again, .. } = own;
            return Taken::Ours(HeldLease {
                results,
                clock,
                key,
                holder,
                route,
                again,
                etag,
                attempt,
                waiting,
            });
        }
        Ok(Some((last, etag))) => (Condition::IfMatch(etag), last.attempt + 1, last.waiting),
        Err(error) => return Taken::Unknown(error),
    };
    let until = until(clock.as_ref(), time);
    let route = route.map(str::to_owned);
    let lease = Lease { holder, until, attempt, waiting, route, again: None };
    match record::write(results.as_ref(), &key, &lease, condition).await {
        Ok(etag) => {
            let (results, clock) = (Arc::clone(results), Arc::clone(clock));
            let Lease { holder, route, again, .. } = lease;
            Taken::Ours(HeldLease {
                results,
                clock,
                key,
                holder,
                route,
                again,
                etag,
                attempt,
                waiting,
            })
        }
        Err(PutError::Precondition) => Taken::Others(time),
        Err(PutError::Failed(error)) => Taken::Unknown(error),
    }
}

fn until(clock: &dyn Clock, time: Duration) -> UnixMillis {
    clock.now() + Millis::from(time)
}

impl HeldLease {
    /// Extends the lease to `time` from now. False when the store does not answer: the next try may
    /// succeed before the lease expires.
    ///
    /// # Errors
    /// Another attempt holds it.
    pub(super) async fn renew(&mut self, time: Duration) -> Result<bool, LeaseLost> {
        self.set(until(self.clock.as_ref(), time)).await
    }

    async fn set(&mut self, until: UnixMillis) -> Result<bool, LeaseLost> {
        match self.write(until).await {
            Ok(()) => Ok(true),
            Err(PutError::Failed(error)) => {
                tracing::warn!(lease = self.key, %error, "could not renew the lease");
                Ok(false)
            }
            Err(PutError::Precondition) => self.again(until).await,
        }
    }

    /// An earlier write may have succeeded without our knowing its etag.
    async fn again(&mut self, until: UnixMillis) -> Result<bool, LeaseLost> {
        match record::read::<Lease>(self.results.as_ref(), &self.key).await {
            Ok(Some((lease, etag))) if lease.holder == self.holder => {
                self.etag = etag;
                match self.write(until).await {
                    Err(PutError::Precondition) => Err(LeaseLost),
                    written => Ok(written.is_ok()),
                }
            }
            Ok(_) => Err(LeaseLost),
            Err(_) => Ok(false),
        }
    }

    async fn write(&mut self, until: UnixMillis) -> Result<(), PutError> {
        let lease = Lease {
            holder: self.holder.clone(),
            until,
            attempt: self.attempt,
            waiting: self.waiting,
            route: self.route.clone(),
            again: self.again.clone(),
        };
        let condition = Condition::IfMatch(self.etag.clone());
        self.etag = record::write(self.results.as_ref(), &self.key, &lease, condition).await?;
        Ok(())
    }

    /// Removes the lease of an ended job. A removal can't be conditional: it is only tried while
    /// the lease is valid for longer than the removal may take, because nobody retries the job
    /// until then. Otherwise the lease expires with the other objects.
    pub(super) async fn remove(self) {
        const REMOVAL: Millis = Millis(15_000);
        let found = record::read::<Lease>(self.results.as_ref(), &self.key).await;
        let Ok(Some((lease, _))) = found else { return };
        if lease.holder != self.holder || lease.until < self.clock.now() + REMOVAL {
            return self.release().await;
        }
        if let Err(error) = self.results.delete(&self.key).await {
            tracing::debug!(lease = self.key, %error, "lease not removed; it expires");
        }
    }

    /// Records why and when the job is retried, for the operator.
    pub(super) fn note_again(&mut self, reason: &str, after: Duration) {
        let at = until(self.clock.as_ref(), after);
        self.again = Some(Again { reason: reason.to_owned(), at });
    }

    /// The job was not executed: the next attempt has the same number.
    pub(super) fn take_back_attempt(&mut self) {
        self.attempt = self.attempt.saturating_sub(1);
    }

    /// Releases the lease, with what is known of the job. False when the store does not answer.
    ///
    /// # Errors
    /// Another attempt holds it.
    pub(super) async fn lay_down(&mut self) -> Result<bool, LeaseLost> {
        self.set(UnixMillis::default()).await
    }

    /// Releases the lease after an attempt that did not end the job: the next attempt may begin,
    /// and is counted.
    pub(super) async fn release(mut self) {
        // The job was executed: waiting for the application begins anew.
        self.waiting = None;
        if let Err(error) = self.write(UnixMillis::default()).await {
            tracing::debug!(lease = self.key, ?error, "lease not released; it runs out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use stores::results::dir::DirResults;

    const TIME: Duration = Duration::from_secs(60);

    async fn taken(results: &Arc<dyn Results>, holder: &str) -> HeldLease {
        let clock: Arc<dyn Clock> = Arc::new(System);
        match take(results, &clock, ("job", None), holder.to_owned(), TIME).await {
            Taken::Ours(held) => held,
            Taken::Others(_) | Taken::Unknown(_) => panic!("{holder} does not get the lease"),
        }
    }

    #[tokio::test]
    async fn an_attempt_that_nobody_executed_is_none_and_its_wait_is_known_to_the_next() {
        let dir = std::env::temp_dir().join(format!("spillway-lease-{}", std::process::id()));
        let results: Arc<dyn Results> = Arc::new(DirResults::open(&dir).expect("a store"));
        let mut first = taken(&results, "first").await;
        assert_eq!((first.attempt, first.waiting), (1, None));
        first.waiting = Some(UnixMillis(7));
        first.take_back_attempt();
        assert!(first.lay_down().await.is_ok_and(|is_written| is_written));
        let second = taken(&results, "second").await;
        assert_eq!((second.attempt, second.waiting), (1, Some(UnixMillis(7))));
        second.release().await;
        let third = taken(&results, "third").await;
        assert_eq!((third.attempt, third.waiting), (2, None), "the second was executed");
        drop(results);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
