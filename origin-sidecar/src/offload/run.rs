//! Executing a job: the request is replayed to the unchanged app, its answer is stored once.

use super::envelope::Job;
use super::record::{self, Answer, Outcome, Terminal, outcome_key, result_key};
use crate::app::App;
use crate::body::{Body, Collected, collect};
use crate::fields;
use crate::proxy::Worker;
use crate::proxy::forward::{self, Failure, Outgoing};
use crate::proxy::handle::direct;
use crate::queue::Received;
use crate::results::{Condition, PutError, Results};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header};
use http_body_util::BodyExt;
use rules::document::{self, Retry, Route};
use rules::shard::{Resolved, Step};
use rules::sidecar::{self, Action};
use rules::{Head, Rules};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::AsyncWriteExt;

/// Results up to this are kept in memory until they are stored; larger ones are spooled.
const MEMORY_BYTES_MAX: usize = 1024 * 1024;
/// A result larger than this fails the job.
const RESULT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How often storing is tried, some ten minutes in all, before the message is given back: an
/// execution that is not recorded is an execution that is repeated.
const STORE_ATTEMPTS: u32 = 66;
const STORE_PAUSE_MAX_MS: u64 = 10_000;
/// Longest delay before another attempt, in seconds.
const BACKOFF_MAX_SECONDS: u64 = 900;

/// How an execution ended.
pub(super) struct Ended {
    status: Terminal,
    reason: Option<String>,
    answer: Option<Response<Body>>,
}

impl Ended {
    pub(super) fn answered(
        status: Terminal,
        reason: Option<String>,
        answer: Response<Body>,
    ) -> Self {
        Self { status, reason, answer: Some(answer) }
    }

    pub(super) fn failed(reason: &str) -> Self {
        Self { status: Terminal::Failed, reason: Some(reason.to_owned()), answer: None }
    }

    pub(super) fn label(&self) -> &'static str {
        self.status.as_str()
    }
}

/// What becomes of a job after an execution.
pub(super) enum Verdict {
    Ended(Ended),
    /// Try again after this delay; `last` is what to store when no attempt is left.
    Retry {
        delay: Duration,
        last: Ended,
    },
}

/// Replays the job and judges the answer.
pub(super) async fn execute(
    worker: &Worker,
    rules: &Rules,
    job: &Job,
    queue: &document::Queue,
    received: &Received,
) -> Verdict {
    let (route, resolved) = match resolve(rules, job) {
        Ok(found) => found,
        Err(problem) => return Verdict::Ended(Ended::failed(problem.name())),
    };
    let mut headers = headers(job, received.receives);
    let upstream = match direct(worker, &mut headers, route, resolved.as_ref(), false) {
        Ok(upstream) => upstream,
        Err((problem, _)) => return Verdict::Ended(Ended::failed(problem.name())),
    };
    let Ok(method) = Method::from_bytes(job.method.as_bytes()) else {
        return Verdict::Ended(Ended::failed("bad-method"));
    };
    let body = if job.body.is_empty() { Body::Empty } else { Body::full(job.body.clone()) };
    let is_repeatable = method.is_idempotent() || is_safe_to_retry(route);
    let timeout = Duration::from_millis(queue.job_timeout);
    let outgoing =
        Outgoing { upstream, method, target: job.target.clone(), headers, body, timeout };
    match forward::send(worker, outgoing).await {
        Ok(response) => judge(response, received, worker.app.clock.now()),
        Err(failure) => judge_failure(&failure, is_repeatable, received),
    }
}

fn is_safe_to_retry(route: Option<&Route>) -> bool {
    route
        .and_then(|route| route.offload.as_ref())
        .is_some_and(|offload| offload.retry == Retry::Safe)
}

/// The shard is looked up again: the map may have changed while the job waited.
fn resolve<'r>(
    rules: &'r Rules,
    job: &Job,
) -> Result<(Option<&'r Route>, Option<Resolved>), rules::Problem> {
    let head = Head {
        method: &job.method,
        scheme: "http",
        host: &job.host,
        target: &job.target,
        fields: &job.headers,
    };
    let decision = sidecar::decide(rules, &head);
    let proceed = match decision.action {
        Action::Refuse(problem) => return Err(problem),
        Action::Reserved { .. } => return Err(rules::Problem::NoRoute),
        Action::Proceed(proceed) => proceed,
    };
    let resolved = match proceed.shard {
        Step::None => None,
        Step::Resolved(resolved) => Some(resolved),
        Step::NeedsBody { .. } => {
            let rule = decision.route.and_then(|route| route.shard.as_ref());
            let map = rule.and_then(|rule| rules.shard_maps.get(&rule.map));
            match (rule, map) {
                (Some(rule), Some(map)) => Some(rules::shard::in_body(rule, map, &job.body)?),
                _ => return Err(rules::Problem::Internal),
            }
        }
    };
    Ok((decision.route, resolved))
}

fn headers(job: &Job, attempt: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    };
    set("idempotency-key", &job.id);
    for (name, value) in &job.headers {
        set(name, value);
    }
    set("host", &job.host);
    set("x-job-id", &job.id);
    set("x-job-attempt", &attempt.to_string());
    set("content-length", &job.body.len().to_string());
    fields::remove_hop_by_hop(&mut headers);
    headers
}

fn judge(response: Response<Body>, received: &Received, now: u64) -> Verdict {
    let code = response.status().as_u16();
    let reason = Some(format!("http-{code}"));
    match code {
        200..=299 => Verdict::Ended(Ended::answered(Terminal::Succeeded, None, response)),
        // A login page is not a report.
        300..=399 => {
            Verdict::Ended(Ended::answered(Terminal::Failed, Some("redirected".into()), response))
        }
        408 | 425 | 429 | 500..=599 => {
            let after = retry_after(response.headers(), now);
            let last = Ended::answered(Terminal::Failed, reason, response);
            Verdict::Retry { delay: after.unwrap_or_else(|| backoff(received)), last }
        }
        _ => Verdict::Ended(Ended::answered(Terminal::Failed, reason, response)),
    }
}

/// A request that may have been executed is not sent again, unless that is harmless.
fn judge_failure(failure: &Failure, is_repeatable: bool, received: &Received) -> Verdict {
    if failure.is_unsent || is_repeatable {
        return Verdict::Retry {
            delay: backoff(received),
            last: Ended::failed(failure.problem.name()),
        };
    }
    Verdict::Ended(Ended::failed("unknown"))
}

/// Seconds or a date (RFC 9110 section 10.2.3), never longer than a backoff.
fn retry_after(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            since.saturating_sub(Duration::from_millis(now))
        }
    };
    Some(wait.min(Duration::from_secs(BACKOFF_MAX_SECONDS)))
}

/// 1 s, 2 s, 4 s …, with up to half as much again so that failures don't march in step. The message
/// and the attempt decide how much: the same schedule is the same when it is simulated again.
fn backoff(received: &Received) -> Duration {
    use std::hash::{DefaultHasher, Hash, Hasher};
    const JITTER_PARTS: u64 = 512;
    let attempt = received.receives;
    let base = 1_u64
        .checked_shl(u32::try_from(attempt.saturating_sub(1)).unwrap_or(63))
        .unwrap_or(u64::MAX);
    let base = Duration::from_secs(base.min(BACKOFF_MAX_SECONDS));
    let mut hasher = DefaultHasher::new();
    (&received.id, attempt).hash(&mut hasher);
    let jitter = hasher.finish() % JITTER_PARTS;
    base + base.mul_f64(jitter as f64 / JITTER_PARTS as f64 / 2.0)
}

/// Stores the body, then the outcome; `false` when the store could not be reached and the job
/// must be tried again later. An outcome that is already there wins.
pub(super) async fn store_outcome(
    app: &App,
    results: &Arc<dyn Results>,
    id: &str,
    attempt: u64,
    ended: Ended,
    in_time: Duration,
) -> bool {
    let Ended { status, reason, answer } = ended;
    let (status, reason, answer) = match answer {
        None => (status, reason, None),
        Some(answer) => match store_in_time(app, results.as_ref(), id, answer, in_time).await {
            Ok(answer) => (status, reason, Some(answer)),
            Err(BodyError::Store) => return false,
            Err(BodyError::App(reason)) => (Terminal::Failed, Some(reason.to_owned()), None),
        },
    };
    let finished = app.clock.now();
    let outcome = Outcome { id: id.to_owned(), status, reason, answer, attempt, finished };
    for attempt in 0..STORE_ATTEMPTS {
        match record::write(results.as_ref(), &outcome_key(id), &outcome, Condition::IfAbsent).await
        {
            Ok(_) | Err(PutError::Precondition) => return true,
            Err(PutError::Failed(error)) => {
                tracing::warn!(job = id, %error, "outcome not stored");
                tokio::time::sleep(pause(attempt)).await;
            }
        }
    }
    false
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
            let stored = results.put_file(&object, &path, Condition::Always).await;
            // The store may have moved it away.
            let _ = tokio::fs::remove_file(&path).await;
            stored.map_err(|_| BodyError::Store)?;
            Ok(Answer { code, headers, length, object })
        }
    }
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

/// The headers of a check that were kept with the job, for the notification.
pub(super) fn user(job: &Job, rules: &Rules) -> Option<String> {
    let route = rules.route_by_name(job.route.as_deref()?)?;
    let document::Auth::Caller { keep, .. } = &route.offload.as_ref()?.auth else { return None };
    let name = keep.first()?;
    rules::head::first(&job.headers, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receives: u64) -> Received {
        Received {
            id: "message".into(),
            receipt: String::new(),
            body: String::new(),
            attributes: Default::default(),
            group: None,
            receives,
            sent: 0,
        }
    }

    #[test]
    fn backoff_grows_and_is_bounded() {
        let backoff = |attempt| backoff(&received(attempt));
        assert!(backoff(1) >= Duration::from_secs(1) && backoff(1) <= Duration::from_millis(1500));
        assert!(backoff(4) >= Duration::from_secs(8));
        assert!(backoff(1000) <= Duration::from_secs(BACKOFF_MAX_SECONDS * 2));
    }

    #[test]
    fn the_app_says_when_to_come_back_in_seconds_or_by_date() {
        let wait = |value: &'static str| {
            let headers = [(header::RETRY_AFTER, HeaderValue::from_static(value))];
            retry_after(&headers.into_iter().collect(), 1_000).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Thu, 01 Jan 1970 00:01:01 GMT"), Some(60));
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT"), Some(BACKOFF_MAX_SECONDS));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn an_execution_that_may_have_happened_is_not_repeated() {
        let first = received(1);
        let lost = Failure {
            problem: rules::Problem::UpstreamTimeout,
            detail: String::new(),
            is_unsent: false,
        };
        assert!(matches!(judge_failure(&lost, false, &first), Verdict::Ended(_)));
        assert!(matches!(judge_failure(&lost, true, &first), Verdict::Retry { .. }));
        let unsent = Failure { is_unsent: true, ..lost };
        assert!(matches!(judge_failure(&unsent, false, &first), Verdict::Retry { .. }));
    }
}
