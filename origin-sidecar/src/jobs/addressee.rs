//! Records for whom a plain producer's message is, before the consumer executes it.

use super::delivery::Delivery;
use super::job::Job;
use super::record::{self, Accepted, Bare};
use super::{bare, job};
use stores::results::{Condition, PutError};

impl Delivery<'_> {
    /// Records the owner of a plain producer's job, before anybody can learn of the job. `None`
    /// when the drain began while the store failed.
    pub(super) async fn note_owner(&self, job: &Job) -> Option<()> {
        let context = &self.consumer.worker.context;
        let owner = job.bare.as_ref().and_then(|bare| Some((bare, bare::owner(bare, self.queue)?)));
        let (Some((bare, owner)), Some(secrets)) = (owner, &context.secrets) else {
            return Some(());
        };
        let (own_id, owner, at) = (bare.own_id.clone(), owner.owner(secrets), context.clock.now());
        let accepted = Accepted { own_id, owner, at, queued: true, ..Accepted::default() };
        let (results, key) = (self.consumer.results.as_ref(), record::accepted_key(&job.id));
        loop {
            match record::write(results, &key, &accepted, Condition::IfAbsent).await {
                // An earlier delivery, or the same message sent twice, wrote it: the first one
                // counts.
                Ok(_) | Err(PutError::Precondition) => return Some(()),
                Err(PutError::Failed(error)) => {
                    tracing::warn!(job = job.id, %error, "could not store the job's owner; the job waits");
                    self.consumer.pause().await?;
                }
            }
        }
    }

    /// Whether a plain producer's message has the `job-id` of another user's job. Then it is no
    /// duplicate, and must not reveal that user's result. `None` when the drain began.
    pub(super) async fn is_anothers(&self, job: &Job) -> Option<bool> {
        let consumer = self.consumer;
        let Some(secrets) = &consumer.worker.context.secrets else { return Some(false) };
        // The user of a claim check is known only once its body is loaded.
        let is_told =
            |bare: &Bare| bare.user.is_some() || !job::is_claim_check(&self.received.attributes);
        let bare = job.bare.as_ref().filter(|bare| is_told(bare));
        let Some(bare) = bare.filter(|_| self.queue.owner.is_some()) else { return Some(false) };
        let owner = bare::owner(bare, self.queue);
        loop {
            let key = record::accepted_key(&job.id);
            match record::read::<Accepted>(consumer.results.as_ref(), &key).await {
                Ok(None) => return Some(false),
                Ok(Some((accepted, _))) => {
                    return Some(!owner.is_some_and(|own| own.is(secrets, &accepted.owner)));
                }
                Err(error) => {
                    tracing::warn!(job = job.id, %error, "could not read the job's owner; the job waits");
                    consumer.pause().await?;
                }
            }
        }
    }
}
