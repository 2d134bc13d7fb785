//! Ends of jobs that a foreign consumer or an operator reports. They are stored under a lease of
//! their own, so that none is stored while an attempt runs.

use super::lease::{self, HeldLease, Taken};
use super::record::{
    self, Adopted, FailedMessage, JobEnd, Lease, Outcome, Terminal, adopted_key, failed_key,
    lease_key, result_key,
};
use super::state::JobState;
use super::store::{self, CompleteEnd, OutcomeTarget};
use super::verdict::ExecutionEnd;
use super::{id, leases, state};
use crate::clock::Clock;
use crate::message::body::Body;
use crate::secrets::random_hex;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use rules::UnixMillis;
use std::sync::Arc;
use std::time::Duration;
use stores::results::{Condition, Results, StoreError};

/// The largest result that is accepted in a request, in bytes. A larger one is put into the store
/// by its producer.
pub(super) const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long the lease keeps others from running or ending the job: longer than storing the result
/// takes.
const LEASE: Duration = Duration::from_secs(60);
/// How long storing may take before the caller is told to retry.
const STORE_TIMEOUT: Duration = Duration::from_secs(20);
const HOLDER_BYTES: usize = 8;

/// A reported end of a job.
pub(super) struct ReportedEnd {
    /// The status that the application would have answered with; it determines the job's status in
    /// the same way.
    pub code: StatusCode,
    pub media_type: Option<HeaderValue>,
    /// The result; `None` where it already is at `results/{id}`.
    pub body: Option<Bytes>,
}

/// A job whose end is reported.
pub(super) struct ForeignJob<'a> {
    pub id: &'a str,
    pub queue: &'a str,
    pub route: Option<&'a str>,
}

/// Why the end was not stored.
#[derive(Debug)]
pub(super) enum NotStored {
    /// The job has another end.
    Ended(Terminal),
    /// An attempt is running, or somebody else reports an end.
    Running,
    /// There is no object at `results/{id}`.
    NoResult,
    Store(StoreError),
}

impl From<StoreError> for NotStored {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Whether a status code can end a job: the answer has a body, and is no redirect.
pub(super) fn is_an_end(code: u16) -> bool {
    matches!(code, 200..=203 | 206..=299 | 400..=599)
}

/// Stores result and outcome.
///
/// # Errors
/// The job has ended, is running, or the store fails: then nothing is stored.
pub(super) async fn store(
    results: &Arc<dyn Results>,
    clock: &Arc<dyn Clock>,
    job: &ForeignJob<'_>,
    said: ReportedEnd,
) -> Result<Outcome, NotStored> {
    // Checked before a lease is written: a job that has ended needs none.
    if let JobEnd::Is(outcome) = record::end(results.as_ref(), job.id).await? {
        return Err(NotStored::Ended(outcome.status));
    }
    let no_random =
        |error: std::io::Error| StoreError { name: "no-random", detail: error.to_string() };
    let holder = format!("outside-{}", random_hex(HOLDER_BYTES).map_err(no_random)?);
    not_executed_elsewhere(results.as_ref(), job.id, clock.now()).await?;
    let mut held = match lease::take(results, clock, (job.id, job.route), holder, LEASE).await {
        Taken::Ours(held) => held,
        Taken::Others(_) => return Err(NotStored::Running),
        Taken::Unknown(error) => return Err(error.into()),
    };
    let is_put = said.body.is_none();
    let stored = tokio::time::timeout(STORE_TIMEOUT, under(&held, results, clock, job, said)).await;
    let late =
        || StoreError { name: "timeout", detail: format!("not stored in {STORE_TIMEOUT:?}") };
    match stored.unwrap_or_else(|_| Err(late().into())) {
        Ok(outcome) => {
            held.remove().await;
            Ok(outcome)
        }
        // We wrote nothing: the object at the key is theirs, and may still become an end.
        Err(why) if is_put && held.attempt == 1 => {
            held.remove().await;
            Err(why)
        }
        Err(why) => {
            // The job was not executed. Without an answer the lease expires, and an attempt is
            // counted.
            held.take_back_attempt();
            let _ = held.lay_down().await;
            Err(why)
        }
    }
}

/// Ends a job whose result a foreign consumer has put at `results/{id}` without reporting it.
/// Objects of a bucket are complete or absent.
///
/// This applies only to a job that none of our consumers has begun: an attempt has a lease before
/// it has a result, and keeps it until there is an outcome; after an operator's retry there is the
/// earlier outcome.
///
/// # Errors
/// The store fails.
pub(super) async fn by_result(
    results: &Arc<dyn Results>,
    clock: &Arc<dyn Clock>,
    job: &ForeignJob<'_>,
) -> Result<Option<Outcome>, StoreError> {
    let store_of = results.as_ref();
    let is_put = store_of.head(&result_key(job.id)).await?.is_some();
    if !is_put || record::read::<Lease>(store_of, &lease_key(job.id)).await?.is_some() {
        return Ok(None);
    }
    // Checked after taking the lease: an attempt that has just ended has released it, and stored an
    // outcome.
    let JobEnd::Open { condition: Condition::IfAbsent, .. } = record::end(store_of, job.id).await?
    else {
        return Ok(None);
    };
    let said = ReportedEnd { code: StatusCode::OK, media_type: None, body: None };
    match store(results, clock, job, said).await {
        Ok(outcome) => Ok(Some(outcome)),
        Err(NotStored::Store(error)) => Err(error),
        Err(NotStored::Ended(_) | NotStored::Running | NotStored::NoResult) => Ok(None),
    }
}

/// Checks that no proxy executes the job, adopted or for an `Idempotency-Key`: such executions have
/// other leases.
///
/// # Errors
/// A proxy does, or did until it died.
async fn not_executed_elsewhere(
    results: &dyn Results,
    id: &str,
    now: UnixMillis,
) -> Result<(), NotStored> {
    let adopted = record::read::<Adopted>(results, &adopted_key(id)).await?;
    if adopted.is_some_and(|(lease, _)| !leases::is_lost(&lease, now)) {
        return Err(NotStored::Running);
    }
    if !id::is_keyed(id) {
        return Ok(());
    }
    match state::running(results, id, now).await? {
        Some(JobState::Ended(outcome)) => Err(NotStored::Ended(outcome.status)),
        Some(_) => Err(NotStored::Running),
        None => Ok(()),
    }
}

/// Stores result and outcome while holding the lease.
async fn under(
    held: &HeldLease,
    results: &Arc<dyn Results>,
    clock: &Arc<dyn Clock>,
    job: &ForeignJob<'_>,
    said: ReportedEnd,
) -> Result<Outcome, NotStored> {
    let (condition, before) = match record::end(results.as_ref(), job.id).await? {
        JobEnd::Open { condition, attempts } => (condition, attempts),
        JobEnd::Is(outcome) => return Err(NotStored::Ended(outcome.status)),
    };
    let ended = ExecutionEnd::by_code(answer(&said), None, "");
    let whole = match said.body {
        Some(body) => CompleteEnd::of(ended, body),
        None => {
            let key = result_key(job.id);
            let (_, length) = results.head(&key).await?.ok_or(NotStored::NoResult)?;
            CompleteEnd::stored(ended, length, key)
        }
    };
    if whole.status == Terminal::Failed {
        note_failed(results.as_ref(), job.id).await;
    }
    let attempt = before + held.attempt;
    let ending = OutcomeTarget {
        id: job.id,
        queue: job.queue,
        route: job.route,
        bare: None,
        attempt,
        condition,
        answered: false,
    };
    let stored = store::outcome(clock.as_ref(), results, &ending, whole).await;
    let gave_up = || StoreError { name: "timeout", detail: "the outcome was not stored".into() };
    let outcome = stored.ok_or_else(gave_up)?;
    // A cancellation has no attempt, and only we can have this number while we hold the lease.
    if outcome.attempt == attempt && outcome.status != Terminal::Cancelled {
        Ok(outcome)
    } else {
        Err(NotStored::Ended(outcome.status))
    }
}

/// Marks the job as failed for `spillway jobs list`, which finds failed jobs by the copies of their
/// messages. This copy is empty, because the message is foreign, so the job can't be retried.
async fn note_failed(results: &dyn Results, id: &str) {
    let (key, copy) = (failed_key(id), FailedMessage::default());
    if let Err(error) = record::write(results, &key, &copy, Condition::IfAbsent).await {
        tracing::debug!(job = id, ?error, "could not add the job to the list of failed jobs");
    }
}

/// Whoever may report a result is not the application: its content must not run scripts in the
/// application's origin.
fn answer(said: &ReportedEnd) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = said.code;
    let headers = answer.headers_mut();
    let sandbox = HeaderValue::from_static("sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, sandbox);
    // Without a type a browser would guess one, or a bucket would set its own.
    let unknown = HeaderValue::from_static("application/octet-stream");
    let media_type = said.media_type.as_ref().unwrap_or(&unknown);
    headers.insert(header::CONTENT_TYPE, media_type.clone());
    if said.media_type.is_none() || may_hold_scripts(media_type) {
        let attachment = HeaderValue::from_static("attachment");
        headers.insert(header::CONTENT_DISPOSITION, attachment);
    }
    answer
}

/// Whether the type is HTML, SVG, XML, or one that may contain them.
fn may_hold_scripts(media_type: &HeaderValue) -> bool {
    let Ok(text) = media_type.to_str() else { return true };
    let text = text.to_ascii_lowercase();
    ["html", "xml", "svg", "xsl", "multipart"].iter().any(|kind| text.contains(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use stores::results::dir::DirResults;

    fn said(code: u16, body: Option<&'static str>) -> ReportedEnd {
        let media_type = Some(HeaderValue::from_static("text/csv"));
        let code = StatusCode::from_u16(code).expect("a code");
        ReportedEnd { code, media_type, body: body.map(|body| Bytes::from_static(body.as_bytes())) }
    }

    #[tokio::test]
    async fn an_end_is_stored_once_and_never_while_an_attempt_runs() {
        let dir = std::env::temp_dir().join(format!("spillway-outside-{}", std::process::id()));
        let results: Arc<dyn Results> = Arc::new(DirResults::open(&dir).expect("a store"));
        let clock: Arc<dyn Clock> = Arc::new(System);
        let job = ForeignJob { id: "v1.a", queue: "work", route: Some("reports") };
        let end = async |code, body| store(&results, &clock, &job, said(code, body)).await;
        let taken = lease::take(&results, &clock, ("v1.a", None), "c".to_owned(), LEASE).await;
        let Taken::Ours(running) = taken else { panic!("nobody has it") };
        assert!(matches!(end(200, Some("a")).await, Err(NotStored::Running)));
        running.release().await;
        let adopted = |until| Adopted { until, route: "r".into(), queue: "q".into(), user: None };
        for (until, is_running) in [(u64::MAX, true), (0, false)] {
            let (key, adopted) = (adopted_key("v1.a"), adopted(UnixMillis(until)));
            let put = record::write(results.as_ref(), &key, &adopted, Condition::Always).await;
            put.expect("room");
            let is_refused = matches!(end(200, None).await, Err(NotStored::Running));
            assert_eq!(is_refused, is_running, "until {until}");
        }
        assert!(matches!(end(200, None).await, Err(NotStored::NoResult)));
        results.put(&result_key("v1.a"), "theirs".into(), Condition::Always).await.expect("room");
        let outcome = end(200, None).await.expect("stored");
        let answer = outcome.answer.expect("an answer");
        assert_eq!((answer.length, answer.object.as_str()), (6, "results/v1.a"));
        assert_eq!(
            (outcome.status, outcome.attempt),
            (Terminal::Succeeded, 2),
            "refusals are none"
        );
        let again = end(500, Some("b")).await;
        assert!(matches!(again, Err(NotStored::Ended(Terminal::Succeeded))));
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn a_result_of_others_runs_no_script() {
        let scripts = |text| may_hold_scripts(&HeaderValue::from_static(text));
        for text in ["text/html; charset=utf-8", "image/svg+xml", "APPLICATION/XML", "text/xsl"] {
            assert!(scripts(text), "{text}");
        }
        for text in ["text/csv", "application/json", "image/png"] {
            assert!(!scripts(text), "{text}");
        }
    }

    #[test]
    fn an_end_has_a_body_and_leads_nowhere() {
        assert!([200, 201, 299, 400, 422, 500].into_iter().all(is_an_end));
        assert!(![100, 204, 205, 302, 304, 600].into_iter().any(is_an_end));
    }
}
