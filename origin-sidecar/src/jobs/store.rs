//! Stores a job's end: the application's answer first, then one outcome.

use super::context::JobContext;
use super::flash::Flashes;
use super::lines::Value;
use super::record::{self, Bare, JobEnd, Outcome, StoredAnswer, Terminal, outcome_key, result_key};
use super::spool::Spooled;
use super::verdict::{ExecutionEnd, Led, UNKNOWN};
use crate::clock::Clock;
use crate::message::body::{Body, Collected, collect};
use bytes::Bytes;
use http::header;
use http::response::Parts;
use rules::Millis;
use std::sync::Arc;
use std::time::Duration;
use stores::results::{Condition, PutError, Results};

/// Results up to this size are kept in memory until they are stored; larger ones are spooled.
const MEMORY_BYTES_MAX: usize = 1024 * 1024;
/// How often storing is tried, for about ten minutes, before the message is returned: an execution
/// without a record is repeated.
const STORE_ATTEMPTS: u32 = 66;
const STORE_PAUSE_MAX: Millis = Millis(10_000);

/// The job whose outcome is written.
pub(super) struct OutcomeTarget<'a> {
    pub id: &'a str,
    pub queue: &'a str,
    pub route: Option<&'a str>,
    /// For a plain producer's message.
    pub bare: Option<&'a Bare>,
    pub attempt: u64,
    pub condition: Condition,
    /// Whether the client that started it got this very answer.
    pub answered: bool,
}

/// An end with its complete answer.
pub(super) struct CompleteEnd {
    pub status: Terminal,
    pub reason: Option<String>,
    answer: Option<(Parts, Content)>,
}

impl CompleteEnd {
    pub(super) fn failed(reason: &str) -> Self {
        Self { status: Terminal::Failed, reason: Some(reason.to_owned()), answer: None }
    }

    /// The end with this head and body.
    pub(super) fn of(ended: ExecutionEnd, body: Bytes) -> Self {
        Self::with(ended, Content::Memory(body))
    }

    /// The end with a body that is in the store already.
    pub(super) fn stored(ended: ExecutionEnd, length: u64, object: String) -> Self {
        Self::with(ended, Content::Stored { length, object })
    }

    fn with(ended: ExecutionEnd, content: Content) -> Self {
        let ExecutionEnd { status, reason, answer } = ended;
        let answer = answer.map(|answer| (answer.into_parts().0, content));
        Self { status, reason, answer }
    }

    /// An end whose answer broke off in its body: whether the application has finished is as
    /// unknown as without a head.
    pub(super) fn broken_off(_: BrokenOff) -> Self {
        Self::failed(UNKNOWN)
    }
}

/// An answer that was no failure broke off in its body, or took too long.
#[derive(Debug)]
pub(super) struct BrokenOff;

/// Reads the answer's body within the time.
///
/// # Errors
/// An answer breaks off that would have been a success.
pub(super) async fn whole(
    context: &JobContext,
    ended: ExecutionEnd,
    in_time: Duration,
) -> Result<CompleteEnd, BrokenOff> {
    let ExecutionEnd { status, reason, answer } = ended;
    let Some(answer) = answer else { return Ok(CompleteEnd { status, reason, answer: None }) };
    let (parts, body) = answer.into_parts();
    match content(context, body, in_time).await {
        Ok(content) => Ok(CompleteEnd { status, reason, answer: Some((parts, content)) }),
        Err(Unread::Lost) if status == Terminal::Succeeded => Err(BrokenOff),
        // The head says that it has failed, whatever the body is.
        Err(Unread::Lost) => Ok(CompleteEnd { status, reason, answer: None }),
        Err(Unread::Unkept(reason)) => Ok(CompleteEnd::failed(reason)),
    }
}

/// Stores the answer, then the outcome, and returns the valid outcome: one that already exists
/// wins. `None` when the store could not be reached and the job must be retried later.
pub(super) async fn outcome(
    clock: &dyn Clock,
    results: &Arc<dyn Results>,
    ending: &OutcomeTarget<'_>,
    whole: CompleteEnd,
) -> Option<Outcome> {
    let CompleteEnd { status, reason, answer } = whole;
    let id = ending.id;
    let answer = match answer {
        None => None,
        Some((parts, content)) => {
            Some(Box::new(store_answer(results.as_ref(), id, parts, content).await?))
        }
    };
    let outcome = Outcome {
        id: id.to_owned(),
        status,
        queue: Some(ending.queue.to_owned()),
        route: ending.route.map(str::to_owned),
        bare: ending.bare.cloned().map(Box::new),
        reason,
        answer,
        answered: ending.answered,
        attempt: ending.attempt,
        finished: clock.now(),
    };
    write_outcome(results.as_ref(), outcome, ending.condition.clone()).await
}

async fn write_outcome(
    results: &dyn Results,
    outcome: Outcome,
    mut condition: Condition,
) -> Option<Outcome> {
    let id = &outcome.id;
    for attempt in 0..STORE_ATTEMPTS {
        match record::write(results, &outcome_key(id), &outcome, condition.clone()).await {
            Ok(_) => return Some(outcome),
            // The outcome is another writer's, or our own, whose answer was lost.
            Err(PutError::Precondition) => match record::end(results, id).await {
                Ok(JobEnd::Is(other)) => return Some(other),
                Ok(JobEnd::Open { condition: now, .. }) => condition = now,
                Err(error) => tracing::warn!(job = id, %error, "could not read the outcome"),
            },
            Err(PutError::Failed(error)) => {
                tracing::warn!(job = id, %error, "could not store the outcome");
            }
        }
        tokio::time::sleep(pause(attempt)).await;
    }
    None
}

/// A complete body.
enum Content {
    Memory(Bytes),
    Spooled(Spooled),
    /// The body is in the store already.
    Stored {
        length: u64,
        object: String,
    },
}

/// Why there is no body.
enum Unread {
    Lost,
    /// It can't be kept; contains the reason for which the job fails.
    Unkept(&'static str),
}

/// Reads the body. A stalled one must not hold a consumer for longer than the job may take.
async fn content(context: &JobContext, body: Body, in_time: Duration) -> Result<Content, Unread> {
    let read = async {
        match collect(body, MEMORY_BYTES_MAX).await.map_err(|_| Unread::Lost)? {
            Collected::Whole(bytes) => Ok(Content::Memory(bytes)),
            Collected::TooLarge(body) => {
                context.spool.write(body).await.map(Content::Spooled).map_err(|reason| match reason
                {
                    "upstream-invalid" => Unread::Lost,
                    reason => Unread::Unkept(reason),
                })
            }
        }
    };
    tokio::time::timeout(in_time, read).await.unwrap_or(Err(Unread::Lost))
}

/// Stores the body; `None` when the store could not be reached.
async fn store_answer(
    results: &dyn Results,
    id: &str,
    mut parts: Parts,
    content: Content,
) -> Option<StoredAnswer> {
    for name in [header::SET_COOKIE, header::CONTENT_LENGTH, header::DATE] {
        parts.headers.remove(name);
    }
    let headers =
        parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.into()));
    let headers: Vec<(String, Value)> = headers.collect();
    let (length, object) = match content {
        Content::Memory(bytes) => (bytes.len() as u64, put_bytes(results, id, bytes).await?),
        Content::Stored { length, object } => (length, object),
        Content::Spooled(spooled) => (spooled.length, put_spooled(results, id, &spooled).await?),
    };
    let leads_to = parts.extensions.remove::<Led>().map(|Led(led)| led);
    let flash = parts.extensions.remove::<Flashes>().map_or(Vec::new(), |Flashes(found)| found);
    Some(StoredAnswer { code: parts.status.as_u16(), headers, length, leads_to, flash, object })
}

/// Stores a spooled body, with as many tries as a small one, because an execution without a record
/// is repeated. A free name is determined first: a write moves the file away even when it fails.
async fn put_spooled(results: &dyn Results, id: &str, spooled: &Spooled) -> Option<String> {
    for attempt in 0..STORE_ATTEMPTS {
        let stored = match results.head(&result_key(id)).await {
            Ok(None) => put_file(results, result_key(id), spooled, Condition::IfAbsent).await,
            Ok(Some(_)) => put_file(results, other_key(id)?, spooled, Condition::Always).await,
            Err(error) => Err(PutError::Failed(error)),
        };
        match stored {
            Ok(object) => return Some(object),
            Err(error) => tracing::warn!(job = id, ?error, "could not store the result"),
        }
        // A directory store that failed late has moved it away.
        if !tokio::fs::try_exists(&spooled.path).await.unwrap_or(false) {
            break;
        }
        tokio::time::sleep(pause(attempt)).await;
    }
    None
}

async fn put_file(
    results: &dyn Results,
    object: String,
    spooled: &Spooled,
    condition: Condition,
) -> Result<String, PutError> {
    results.put_file(&object, &spooled.path, condition).await?;
    Ok(object)
}

/// Stores at `results/{id}`, or at a name beside it when another attempt has that one.
async fn put_bytes(results: &dyn Results, id: &str, bytes: Bytes) -> Option<String> {
    let mut key = result_key(id);
    for attempt in 0..STORE_ATTEMPTS {
        match results.put(&key, bytes.clone(), Condition::IfAbsent).await {
            Ok(_) => return Some(key),
            Err(PutError::Precondition) => key = other_key(id)?,
            Err(PutError::Failed(error)) => {
                tracing::warn!(job = id, %error, "could not store the result");
                tokio::time::sleep(pause(attempt)).await;
            }
        }
    }
    None
}

fn other_key(id: &str) -> Option<String> {
    let random = crate::secrets::random_hex(4).ok()?;
    Some(format!("{}.{random}", result_key(id)))
}

/// The pause before the next try.
fn pause(attempt: u32) -> Duration {
    Duration::from(Millis(200 << attempt.min(6)).min(STORE_PAUSE_MAX))
}
