//! How a job's end is stored: the app's answer first, then one outcome.

use super::record::{self, Answer, End, Outcome, Terminal, outcome_key, result_key};
use super::run::Ended;
use crate::app::App;
use crate::body::{Body, Collected, collect};
use crate::results::{Condition, PutError, Results};
use bytes::Bytes;
use http::{Response, header};
use http_body_util::BodyExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Results up to this are kept in memory until they are stored; larger ones are spooled.
const MEMORY_BYTES_MAX: usize = 1024 * 1024;
/// A result larger than this fails the job.
const RESULT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How often storing is tried, some ten minutes in all, before the message is given back: an
/// execution that is not recorded is an execution that is repeated.
const STORE_ATTEMPTS: u32 = 66;
const STORE_PAUSE_MAX_MS: u64 = 10_000;
/// Where an outcome is written, and of what.
pub(super) struct Ending<'a> {
    pub id: &'a str,
    pub queue: &'a str,
    pub route: Option<&'a str>,
    pub attempt: u64,
    pub condition: Condition,
    /// What the body of the answer may take.
    pub in_time: Duration,
}

/// Stores the body, then the outcome, and gives the one that counts: an outcome that is already
/// there wins. `None` when the store could not be reached and the job must be tried again later.
pub(super) async fn outcome(
    app: &App,
    results: &Arc<dyn Results>,
    ending: &Ending<'_>,
    ended: Ended,
) -> Option<Outcome> {
    let Ended { status, reason, answer } = ended;
    let (id, in_time) = (ending.id, ending.in_time);
    let (status, reason, answer) = match answer {
        None => (status, reason, None),
        Some(answer) => match store_in_time(app, results.as_ref(), id, answer, in_time).await {
            Ok(answer) => (status, reason, Some(answer)),
            Err(BodyError::Store) => return None,
            Err(BodyError::App(reason)) => (Terminal::Failed, Some(reason.to_owned()), None),
        },
    };
    let outcome = Outcome {
        id: id.to_owned(),
        status,
        queue: Some(ending.queue.to_owned()),
        route: ending.route.map(str::to_owned),
        reason,
        answer,
        attempt: ending.attempt,
        finished: app.clock.now(),
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
            // Somebody's, or our own whose answer was lost.
            Err(PutError::Precondition) => match record::end(results, id).await {
                Ok(End::Is(other)) => return Some(other),
                Ok(End::Open { condition: now, .. }) => condition = now,
                Err(error) => tracing::warn!(job = id, %error, "outcome not read"),
            },
            Err(PutError::Failed(error)) => {
                tracing::warn!(job = id, %error, "outcome not stored");
            }
        }
        tokio::time::sleep(pause(attempt)).await;
    }
    None
}

/// A body that stalls must not hold a worker for longer than the job may take.
async fn store_in_time(
    app: &App,
    results: &dyn Results,
    id: &str,
    answer: Response<Body>,
    in_time: Duration,
) -> Result<Answer, BodyError> {
    let stored = tokio::time::timeout(in_time, store_body(app, results, id, answer)).await;
    stored.unwrap_or(Err(BodyError::App("upstream-timeout")))
}

enum BodyError {
    Store,
    /// The app's answer broke off or is too large.
    App(&'static str),
}

async fn store_body(
    app: &App,
    results: &dyn Results,
    id: &str,
    answer: Response<Body>,
) -> Result<Answer, BodyError> {
    let (mut parts, body) = answer.into_parts();
    for name in [header::SET_COOKIE, header::CONTENT_LENGTH, header::DATE] {
        parts.headers.remove(name);
    }
    let headers = parts.headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let headers: Vec<(String, String)> = headers.collect();
    let code = parts.status.as_u16();
    let collected =
        collect(body, MEMORY_BYTES_MAX).await.map_err(|_| BodyError::App("upstream-invalid"))?;
    match collected {
        Collected::Whole(bytes) => {
            let length = bytes.len() as u64;
            let object = put_bytes(results, id, bytes).await?;
            Ok(Answer { code, headers, length, object })
        }
        Collected::TooLarge(body) => {
            let object = other_key(id)?;
            let path = app.spool.join(format!("spillway-{}", object.replace('/', "-")));
            let length = spool(&path, body).await;
            let length = match length {
                Ok(length) => length,
                Err(error) => {
                    let _ = tokio::fs::remove_file(&path).await;
                    return Err(error);
                }
            };
            let stored = put_spooled(results, id, &object, &path).await;
            // The store may have moved it away.
            let _ = tokio::fs::remove_file(&path).await;
            stored?;
            Ok(Answer { code, headers, length, object })
        }
    }
}

/// Tried as long as a small result is: an execution that is not recorded is repeated.
async fn put_spooled(
    results: &dyn Results,
    id: &str,
    object: &str,
    path: &Path,
) -> Result<(), BodyError> {
    for attempt in 0..STORE_ATTEMPTS {
        match results.put_file(object, path, Condition::Always).await {
            Ok(_) => return Ok(()),
            Err(error) => tracing::warn!(job = id, ?error, "result not stored"),
        }
        // A directory that failed late has moved it away.
        if !tokio::fs::try_exists(path).await.unwrap_or(false) {
            break;
        }
        tokio::time::sleep(pause(attempt)).await;
    }
    Err(BodyError::Store)
}

/// `results/{id}`, or a name beside it when another attempt has that one.
async fn put_bytes(results: &dyn Results, id: &str, bytes: Bytes) -> Result<String, BodyError> {
    let mut key = result_key(id);
    for attempt in 0..STORE_ATTEMPTS {
        match results.put(&key, bytes.clone(), Condition::IfAbsent).await {
            Ok(_) => return Ok(key),
            Err(PutError::Precondition) => key = other_key(id)?,
            Err(PutError::Failed(error)) => {
                tracing::warn!(job = id, %error, "result not stored");
                tokio::time::sleep(pause(attempt)).await;
            }
        }
    }
    Err(BodyError::Store)
}

fn other_key(id: &str) -> Result<String, BodyError> {
    let random = crate::secrets::random_hex(4).map_err(|_| BodyError::Store)?;
    Ok(format!("{}.{random}", result_key(id)))
}

/// Between two tries of the store.
fn pause(attempt: u32) -> Duration {
    Duration::from_millis((200_u64 << attempt.min(6)).min(STORE_PAUSE_MAX_MS))
}

async fn spool(path: &PathBuf, mut body: Body) -> Result<u64, BodyError> {
    let full = |error: std::io::Error| {
        tracing::warn!(%error, path = %path.display(), "result not spooled");
        BodyError::Store
    };
    let mut file = tokio::fs::File::create(path).await.map_err(full)?;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::App("upstream-invalid"))?.into_data() else {
            continue;
        };
        length += data.len() as u64;
        if length > RESULT_BYTES_MAX {
            return Err(BodyError::App("result-too-large"));
        }
        file.write_all(&data).await.map_err(full)?;
    }
    file.flush().await.map_err(full)?;
    Ok(length)
}
