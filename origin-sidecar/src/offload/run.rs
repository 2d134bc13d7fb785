//! Executing a job: the request is replayed to the unchanged app, its answer is judged.

use super::envelope::Job;
use super::progress;
use super::record::Terminal;
use super::replay::{self, NotSent};
use crate::body::Body;
use crate::fields::{Map, View};
use crate::proxy::Worker;
use crate::proxy::destination::direct;
use crate::proxy::forward::{self, Failure, Outgoing};
use crate::queue::Received;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use rules::document::{self, Retry, Route, UNMATCHED};
use rules::hygiene::remove_hop_by_hop;
use rules::shard::{Resolved, Step};
use rules::sidecar::{self, Action};
use rules::{Head, Problem, Rules};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Longest delay before another attempt, in seconds.
const BACKOFF_MAX_SECONDS: u64 = 900;

/// How an execution ended.
pub(super) struct Ended {
    pub status: Terminal,
    pub reason: Option<String>,
    pub answer: Option<Response<Body>>,
}

impl Ended {
    fn answered(status: Terminal, reason: Option<String>, answer: Response<Body>) -> Self {
        Self { status, reason, answer: Some(answer) }
    }

    /// What the application's code says of an execution that is not repeated.
    pub(super) fn by_code(answer: Response<Body>) -> Self {
        let code = answer.status().as_u16();
        match code {
            200..=299 => Self::answered(Terminal::Succeeded, None, answer),
            // A login page is not a report.
            300..=399 => Self::answered(Terminal::Failed, Some("redirected".to_owned()), answer),
            _ => Self::answered(Terminal::Failed, Some(format!("http-{code}")), answer),
        }
    }

    pub(super) fn failed(reason: &str) -> Self {
        Self { status: Terminal::Failed, reason: Some(reason.to_owned()), answer: None }
    }

    pub(super) fn is_failure(&self) -> bool {
        self.status == Terminal::Failed
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

/// Which execution of a job this is.
pub(super) struct Turn<'a> {
    pub received: &'a Received,
    pub queue_name: &'a str,
    /// Counted over everything the job has been through.
    pub attempt: u64,
}

/// Replays the job and judges the answer.
pub(super) async fn execute(
    worker: &Worker,
    rules: &Rules,
    job: &Job,
    queue: &document::Queue,
    turn: &Turn<'_>,
) -> Verdict {
    let mut headers = match replay::fields(worker, rules, job, turn.queue_name).await {
        Ok(fields) => with_attempt(fields, job, turn.attempt),
        Err(NotSent::Failed(reason)) => return Verdict::Ended(Ended::failed(reason)),
        Err(NotSent::Later(failure)) => return judge_failure(&failure, true, turn.received),
    };
    let found = resolve(worker, rules, job, &headers).await;
    let (route, resolved) = match found {
        Ok(found) => found,
        Err(Problem::NoRoom) => return no_room(turn.received),
        Err(problem) => return Verdict::Ended(Ended::failed(problem.name())),
    };
    let Ok(method) = Method::from_bytes(job.method.as_bytes()) else {
        return Verdict::Ended(Ended::failed("bad-method"));
    };
    let telemetry = &worker.app.telemetry;
    let span = telemetry.enter(&headers, &method, worker.app.clock.now());
    span.pass_on(&mut headers);
    progress::invite(worker, rules, &job.id, &mut headers);
    let upstream = match direct(worker, &mut headers, route, resolved.as_ref(), false) {
        Ok(upstream) => upstream,
        Err((problem, _)) => return Verdict::Ended(Ended::failed(problem.name())),
    };
    let Ok(body) = job.body.body() else { return no_room(turn.received) };
    let is_repeatable = method.is_idempotent() || is_safe_to_retry(route);
    let timeout = Duration::from_millis(queue.job_timeout);
    let mut outgoing = Outgoing {
        upstream: Arc::clone(upstream),
        method,
        target: job.target.clone(),
        headers,
        came: http1::received::Received::default(),
        added: String::new(),
        body,
        timeout,
        exchange: None,
        may_pass: false,
        lane: None,
        slow: None,
    };
    let sent = forward::send(worker, &mut outgoing).await;
    telemetry.executed(&span, route.map_or(UNMATCHED, |route| &route.name), &sent);
    match sent {
        Ok(response) => judge(response, turn.received, worker.app.clock.now()),
        Err(failure) => judge_failure(&failure, is_repeatable, turn.received),
    }
}

/// The body can't be read here and now.
fn no_room(received: &Received) -> Verdict {
    let last = Ended::failed(Problem::NoRoom.name());
    Verdict::Retry { delay: backoff(received), last }
}

fn is_safe_to_retry(route: Option<&Route>) -> bool {
    route
        .and_then(|route| route.offload.as_ref())
        .is_some_and(|offload| offload.retry == Retry::Safe)
}

/// The shard is looked up again: the map may have changed while the job waited.
async fn resolve<'r>(
    worker: &Worker,
    rules: &'r Rules,
    job: &Job,
    headers: &HeaderMap,
) -> Result<(Option<&'r Route>, Option<Resolved>), Problem> {
    let decision = {
        let view = View::of(headers);
        let head = Head {
            method: &job.method,
            scheme: "http",
            host: &job.host,
            target: &job.target,
            fields: &view,
        };
        sidecar::decide(rules, &head)
    };
    let proceed = match decision.action {
        Action::Refuse(problem) => return Err(problem),
        Action::Reserved { .. } | Action::Preflight { .. } => return Err(Problem::NoRoute),
        Action::Proceed(proceed) => proceed,
    };
    let resolved = match proceed.shard {
        Step::None => None,
        Step::Resolved(resolved) => Some(*resolved),
        Step::NeedsBody { .. } => {
            let rule = decision.route.and_then(|route| route.shard.as_ref());
            let map = rule.and_then(|rule| rules.shard_maps.get(&rule.map));
            match (rule, map) {
                (Some(rule), Some(map)) => {
                    let opened = worker.app.intake.open(&job.body).await;
                    let (bytes, _room) = opened.map_err(|_| Problem::NoRoom)?;
                    Some(rules::shard::in_body(rule, map, &bytes)?)
                }
                _ => return Err(Problem::Internal),
            }
        }
    };
    Ok((decision.route, resolved))
}

/// With what belongs to this attempt. The application knows a repetition by the key: the client's own, or
/// the job's id.
fn with_attempt(mut headers: HeaderMap, job: &Job, attempt: u64) -> HeaderMap {
    let is_keyed = headers.contains_key("idempotency-key");
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if !is_keyed {
        set("idempotency-key", &job.id);
    }
    set("x-job-id", &job.id);
    set("x-job-attempt", &attempt.to_string());
    set("content-length", &job.body.length().to_string());
    remove_hop_by_hop(&mut Map(&mut headers));
    headers
}

fn judge(response: Response<Body>, received: &Received, now: u64) -> Verdict {
    match response.status().as_u16() {
        408 | 425 | 429 | 500..=599 => {
            let after = retry_after(response.headers(), now);
            let last = Ended::by_code(response);
            Verdict::Retry { delay: after.unwrap_or_else(|| backoff(received)), last }
        }
        _ => Verdict::Ended(Ended::by_code(response)),
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
        let lost =
            Failure { problem: Problem::UpstreamTimeout, detail: String::new(), is_unsent: false };
        assert!(matches!(judge_failure(&lost, false, &first), Verdict::Ended(_)));
        assert!(matches!(judge_failure(&lost, true, &first), Verdict::Retry { .. }));
        let unsent = Failure { is_unsent: true, ..lost };
        assert!(matches!(judge_failure(&unsent, false, &first), Verdict::Retry { .. }));
    }
}
