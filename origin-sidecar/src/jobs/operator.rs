//! `spillway jobs`: shows jobs, ends them, retries failed ones, and redrives dead letters. It works
//! on queue and store directly: no process needs to run.

mod done;
mod known;
mod list;
pub mod opened;

pub use done::EndArguments;
pub use list::JobFilter;
use rules::Millis;

use super::bare::{self, Of};
use super::job::DEADLINE;
use super::operator::opened::{CommandResult, Stores, line, text};
use super::record::{
    self, Accepted, Adopted, Deliveries, FailedMessage, JobProgress, Lease, Outcome, Terminal,
    accepted_key, adopted_key, failed_key, lease_key, notified_key, outcome_key, progress_key,
};
use super::{envelope, job};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use stores::queue::{Message, Queue, Received};
use stores::results::{Condition, PutError};

/// How long a redrive waits for another dead letter before it ends.
const REDRIVE_WAIT: Duration = Duration::from_secs(2);
/// How long a dead letter is invisible while it is moved.
const REDRIVE_VISIBILITY: Duration = Duration::from_secs(60);

impl Stores {
    /// Prints everything that is stored of a job, as JSON.
    ///
    /// # Errors
    /// Nothing is stored, or the store fails.
    pub async fn show(&self, out: &mut dyn Write, id: &str) -> CommandResult {
        let results = self.results.as_ref();
        let mut found = serde_json::Map::new();
        macro_rules! add {
            ($name:literal, $kind:ty, $key:expr) => {
                if let Some((record, _)) =
                    record::read::<$kind>(results, &$key).await.map_err(text)?
                {
                    found.insert($name.to_owned(), serde_json::json!(record));
                }
            };
        }
        add!("outcome", Outcome, outcome_key(id));
        add!("lease", Lease, lease_key(id));
        add!("adopted", Adopted, adopted_key(id));
        add!("accepted", Accepted, accepted_key(id));
        add!("progress", JobProgress, progress_key(id));
        add!("deliveries", Deliveries, notified_key(id));
        add!("message", FailedMessage, failed_key(id));
        // The token is hidden: terminal output gets copied into chats.
        let token = format!("/attributes/{}", job::TOKEN);
        for (record, at) in [
            ("message", "/attributes/sealed"),
            ("message", token.as_str()),
            ("outcome", "/answer/flash"),
        ] {
            if let Some(secret) = found.get_mut(record).and_then(|it| it.pointer_mut(at)) {
                *secret = "concealed".into();
            }
        }
        if found.is_empty() {
            return Err(format!(
                "nothing is kept of {id}: it waits in its queue, it has expired, or there is no such job"
            ));
        }
        let json = serde_json::to_string_pretty(&found).map_err(text)?;
        line(out, &json)
    }

    /// Retries a failed job, from the copy of its message.
    ///
    /// # Errors
    /// The job has not failed, there is no copy, or queue or store fail.
    pub async fn retry(&self, out: &mut dyn Write, id: &str) -> CommandResult {
        let results = self.results.as_ref();
        let copy = record::read::<FailedMessage>(results, &failed_key(id)).await.map_err(text)?;
        let Some((copy, _)) = copy.filter(|(copy, _)| !copy.body.is_empty()) else {
            return Err(format!(
                "{id}: there is no copy of its message. Only a queued job that failed can be retried, until it expires"
            ));
        };
        let FailedMessage { body, mut attributes, group } = copy;
        if job::is_claim_check(&attributes) {
            let key = envelope::claimed_key(&body, results).map_err(text)?;
            if results.head(&key).await.map_err(text)?.is_none() {
                return Err(format!("{id}: its request's body ({key}) is gone from the store"));
            }
        }
        // The message is sent before the end is withdrawn: a job without an end and without a
        // message is lost.
        let found = record::read::<Outcome>(results, &outcome_key(id)).await.map_err(text)?;
        let name = found.and_then(|(outcome, _)| outcome.queue).unwrap_or_default();
        let queue = self.queue(&name)?;
        self.requeue(id).await?;
        // The operator wants it now, whatever its deadline was.
        attributes.remove(DEADLINE);
        envelope::keep_id(&mut attributes, id);
        queue.send(Message { body, attributes, group }).await.map_err(|error| {
            format!("{error}; the job has no message now: call `spillway jobs retry {id}` again")
        })?;
        line(out, &format!("{id} is queued again in {name}"))
    }

    fn queue(&self, name: &str) -> Result<&Arc<dyn Queue>, String> {
        self.queues
            .get(name)
            .ok_or_else(|| format!("queue `{name}` is not bound: add --queue {name}=…"))
    }

    /// Withdraws the end of a failed job. The next end replaces this mark.
    async fn requeue(&self, id: &str) -> CommandResult {
        let results = self.results.as_ref();
        let found = record::read::<Outcome>(results, &outcome_key(id)).await.map_err(text)?;
        let Some((outcome, etag)) = found else { return Err(format!("{id} has not ended")) };
        match outcome.status {
            // An earlier call may have got only this far.
            Terminal::Requeued => return self.renew(id).await,
            Terminal::Failed => {}
            status => return Err(format!("{id} has {}, not failed", status.as_str())),
        }
        if let Some(seconds) = self.held(id).await? {
            return Err(format!(
                "{id}: its consumer is still telling of its end; call this again in {seconds} s"
            ));
        }
        let marked = Outcome {
            status: Terminal::Requeued,
            answer: None,
            answered: false,
            finished: self.now,
            ..outcome
        };
        let condition = Condition::IfMatch(etag);
        match record::write(results, &outcome_key(id), &marked, condition).await {
            Ok(_) => {}
            Err(PutError::Precondition) => {
                return Err(format!("{id} changed meanwhile; look again"));
            }
            Err(PutError::Failed(error)) => return Err(error.to_string()),
        }
        self.renew(id).await
    }

    /// Resets the attempts, and makes the new end notify the receivers.
    async fn renew(&self, id: &str) -> CommandResult {
        self.forget_attempts(id).await?;
        self.results.delete(&notified_key(id)).await.map_err(text)
    }

    /// For how many seconds somebody holds the job's lease.
    async fn held(&self, id: &str) -> Result<Option<u64>, String> {
        let found = record::read::<Lease>(self.results.as_ref(), &lease_key(id)).await;
        let rest = found.map_err(text)?.map(|(lease, _)| lease.until - self.now);
        Ok(rest.filter(|rest| *rest > Millis::ZERO).map(|rest| rest.0.div_ceil(1_000)))
    }

    /// Resets the attempts, unless one is in progress: a duplicate of the message may be executed
    /// as soon as the end is withdrawn.
    async fn forget_attempts(&self, id: &str) -> Result<(), String> {
        let (results, key) = (self.results.as_ref(), lease_key(id));
        let found = record::read::<Lease>(results, &key).await.map_err(text)?;
        let Some((_, etag)) = found.filter(|(lease, _)| lease.until <= self.now) else {
            return Ok(());
        };
        let anew = Lease { holder: "retry".to_owned(), ..Lease::default() };
        match record::write(results, &key, &anew, Condition::IfMatch(etag)).await {
            Ok(_) | Err(PutError::Precondition) => Ok(()),
            Err(PutError::Failed(error)) => Err(error.to_string()),
        }
    }

    /// Moves dead letters back into their queue, by receive, send and delete, so that each is in at
    /// least one of the two at any time.
    ///
    /// # Errors
    /// The queue has no dead letters, or queue or store fail.
    pub async fn redrive(&self, out: &mut dyn Write, name: &str, limit: usize) -> CommandResult {
        let queue = self.queue(name)?;
        let dead = queue.dead_letters().await.map_err(text)?;
        let Some(dead) = dead else {
            return Err(format!("queue {name} has no redrive policy, so no dead letters"));
        };
        let (mut back, mut ended) = (0, 0);
        while back + ended < limit {
            let max = (limit - back - ended).min(10);
            let received =
                dead.receive(max, REDRIVE_WAIT, REDRIVE_VISIBILITY).await.map_err(text)?;
            if received.is_empty() {
                break;
            }
            for letter in received {
                let is_open = self.reopen(name, &letter).await?;
                if is_open {
                    queue.send(again(&letter)).await.map_err(text)?;
                    back += 1;
                } else {
                    ended += 1;
                }
                dead.delete(&letter.receipt).await.map_err(text)?;
            }
        }
        line(out, &format!("{back} brought back into {name}, {ended} removed that had ended"))
    }

    /// Whether the dead letter's job is to be executed; one that failed may be.
    async fn reopen(&self, name: &str, letter: &Received) -> Result<bool, String> {
        let Some(id) = self.job_id(name, letter)? else { return Ok(true) };
        let id = id.as_str();
        let results = self.results.as_ref();
        let found = record::read::<Outcome>(results, &outcome_key(id)).await.map_err(text)?;
        match found.map(|(outcome, _)| outcome.status) {
            Some(Terminal::Succeeded | Terminal::Cancelled) => return Ok(false),
            Some(Terminal::Failed | Terminal::Requeued) => self.requeue(id).await?,
            None => self.forget_attempts(id).await?,
        }
        Ok(true)
    }

    /// The id of the dead letter's job; `None` if it is no job.
    fn job_id(&self, name: &str, letter: &Received) -> Result<Option<String>, String> {
        if !bare::is_bare(letter).is_ok_and(|is_bare| is_bare) {
            let id = letter.attributes.get("job-id").cloned();
            return Ok(id.filter(|id| super::id::is_plausible(id)));
        }
        let Some(queue) = self.rules.document.queues.get(name) else { return Ok(None) };
        let of = Of { name, queue, secrets: self.secrets.as_deref() };
        let id = bare::job_id(letter, of).map_err(|why| {
            format!("message {}: {why}: add --secret-file FILE or SPILLWAY_SECRET", letter.id)
        });
        id.map(|(id, _)| Some(id).filter(|id| super::id::is_plausible(id)))
    }
}

/// The dead letter as a new message; a bare one keeps the id of its job.
fn again(letter: &Received) -> Message {
    let mut attributes = letter.attributes.clone();
    attributes.remove(DEADLINE);
    envelope::keep_id(&mut attributes, &letter.id);
    Message { body: letter.body.clone(), attributes, group: letter.group.clone() }
}

#[cfg(test)]
mod tests;
