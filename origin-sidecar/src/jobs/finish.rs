//! Finishes a delivery: stores the outcome, notifies the receivers and deletes the message, or
//! returns the message.

use super::attempt::{After, AttemptOutcome, DRAINED, PendingEnd};
use super::consumer::PAUSE;
use super::delivery::Delivery;
use super::job::Job;
use super::lease::HeldLease;
use super::malformed::Malformed;
use super::notify::{self, Notice};
use super::record::{self, FailedMessage, JobEnd, Outcome, Terminal, failed_key};
use super::store::{self, CompleteEnd};
use super::{envelope, run};
use crate::drain::DrainState;
use crate::telemetry::spans;
use std::time::Duration;
use stores::results::Condition;
use tokio::sync::OwnedSemaphorePermit;

impl Delivery<'_> {
    /// Stores the end of a job after its executions.
    pub(super) async fn store(
        &self,
        job: &Job,
        attempt: u64,
        (condition, before): PendingEnd,
        ended: CompleteEnd,
    ) -> AttemptOutcome {
        let worker = &self.consumer.worker;
        if ended.status == Terminal::Failed {
            self.keep_copy(job).await;
        }
        let ending = store::OutcomeTarget {
            id: &job.id,
            queue: &self.consumer.name,
            route: job.route.as_deref(),
            bare: job.bare.as_ref(),
            attempt: before + attempt,
            condition,
            answered: false,
        };
        match store::outcome(worker.context.clock.as_ref(), &self.consumer.results, &ending, ended)
            .await
        {
            Some(outcome) => AttemptOutcome::Stored(outcome),
            None => AttemptOutcome::NotStored,
        }
    }

    /// Stores the copy from which an operator can retry the job. Without it the job just can't be
    /// retried.
    async fn keep_copy(&self, job: &Job) {
        let mut attributes = self.received.attributes.clone();
        envelope::keep_id(&mut attributes, &self.received.id);
        let copy = FailedMessage {
            body: self.received.body.clone(),
            attributes,
            group: self.received.group.clone(),
        };
        let key = failed_key(&job.id);
        let results = self.consumer.results.as_ref();
        if let Err(error) = record::write(results, &key, &copy, Condition::Always).await {
            tracing::warn!(
                job = job.id,
                ?error,
                "could not store the copy of a failed job's message: the operator can't retry it"
            );
        }
    }

    pub(super) fn undecodable(&self, why: &Malformed) -> After {
        let (queue, message) = (&self.consumer.name, &self.received.id);
        self.consumer.count("undecodable", "undecodable");
        let why = why.to_string();
        tracing::warn!(queue, message, why, "message left to the dead-letter queue");
        After::Leave
    }

    pub(super) async fn finish(
        &self,
        job: &Job,
        mut held: HeldLease,
        done: AttemptOutcome,
        place: OwnedSemaphorePermit,
    ) -> After {
        let consumer = self.consumer;
        match done {
            AttemptOutcome::Stored(outcome) => {
                let reason = outcome.reason.as_deref().unwrap_or_default();
                consumer.count(outcome.status.as_str(), reason);
                self.close(job, held, &outcome, place).await
            }
            AttemptOutcome::Over(outcome) => self.close(job, held, &outcome, place).await,
            AttemptOutcome::Undecodable(why) => {
                held.release().await;
                self.undecodable(&why)
            }
            AttemptOutcome::Overtaken => match self.end(job).await {
                Some(JobEnd::Is(outcome)) => {
                    consumer.count(outcome.status.as_str(), "overtaken");
                    self.close(job, held, &outcome, place).await
                }
                _ => DRAINED,
            },
            AttemptOutcome::Retry(delay, reason) => {
                held.note_again(&reason, delay);
                held.release().await;
                consumer.count("retried", "retried");
                After::GiveBack(delay)
            }
            AttemptOutcome::NotStored => {
                held.note_again("not-stored", PAUSE);
                held.release().await;
                consumer.count("not-stored", "not-stored");
                After::GiveBack(PAUSE)
            }
            AttemptOutcome::GivenUp => {
                held.note_again("drain", Duration::ZERO);
                held.release().await;
                consumer.count("given-back", "drain");
                DRAINED
            }
            AttemptOutcome::NotBegun => {
                held.take_back_attempt();
                // Without an answer the lease expires, and the attempt is counted.
                let _ = held.lay_down().await;
                DRAINED
            }
            AttemptOutcome::Lost => self.lost(),
        }
    }

    /// Another attempt has the lease, and with it the message.
    pub(super) fn lost(&self) -> After {
        self.consumer.count("duplicate", "lease-lost");
        After::Leave
    }

    /// Closes an ended job: notifies the receivers, then removes what it needed.
    async fn close(
        &self,
        job: &Job,
        held: HeldLease,
        outcome: &Outcome,
        place: OwnedSemaphorePermit,
    ) -> After {
        let consumer = self.consumer;
        if outcome.status != Terminal::Cancelled && !self.tell(job, outcome, place).await {
            // The next delivery continues the notification.
            return DRAINED;
        }
        let (queue, job_id, end) = (&consumer.name, &job.id, outcome.status.as_str());
        let reason = outcome.reason.as_deref();
        let trace = spans::trace_of(&job.headers);
        tracing::info!(queue, job = job_id, outcome = end, reason, trace, "job finished");
        // A failed job keeps its parts, so that it can be retried.
        let is_needed = outcome.status == Terminal::Failed;
        let parts = envelope::parts_in_store(&self.received.attributes, &job.id);
        After::Close(held, if is_needed { Vec::new() } else { parts })
    }

    /// Notifies the receivers; `false` when the grace period ended first. Receivers that hang must
    /// not keep other jobs from being received: the place in hand is released as soon as notifying
    /// may begin.
    async fn tell(&self, job: &Job, outcome: &Outcome, place: OwnedSemaphorePermit) -> bool {
        let consumer = self.consumer;
        // For a message whose body is in the store, the outcome contains the user.
        let bare = outcome.bare.as_deref().or(job.bare.as_ref());
        let named = bare.and_then(|bare| bare.user.clone());
        let user = named.or_else(|| run::user(job, self.rules));
        let notice = Notice {
            queue_name: &consumer.name,
            queue: self.queue,
            outcome,
            is_readable: job.bare.is_none() || self.queue.owner.is_some() && user.is_some(),
            user,
            base: &self.rules.document.jobs.base,
        };
        let mut giving_up = consumer.giving_up.subscribe();
        tokio::select! {
            biased;
            () = async {
                let _telling = consumer.telling.acquire().await;
                drop(place);
                notify::send(&consumer.worker, consumer.results.as_ref(), &notice).await;
            } => true,
            () = DrainState::begun(&mut giving_up) => false,
        }
    }
}
