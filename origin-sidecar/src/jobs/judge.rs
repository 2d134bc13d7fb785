//! Decides from the application's answer, or its absence, whether a job has ended, is retried, or
//! was not executed.

use super::verdict::{APP_UNAVAILABLE, Execution, ExecutionEnd, ExecutionVerdict, Until};
use crate::message::body::Body;
use crate::upstream::outgoing::Failure;
use http::{HeaderMap, Response, header};
use rules::UnixMillis;
use rules::document::Offload;
use std::time::{Duration, UNIX_EPOCH};

/// The longest delay before another attempt, in seconds.
const BACKOFF_MAX_SECONDS: u64 = 900;

/// Judges an answer. `asked` is the rule and the target of the request.
pub(super) fn judge(
    response: Response<Body>,
    (rule, target): (Option<&Offload>, &str),
    execution: &Execution<'_>,
    now: UnixMillis,
) -> ExecutionVerdict {
    let by_code = |response| ExecutionEnd::by_code(response, rule, target);
    let after = retry_after(response.headers(), now);
    match (response.status().as_u16(), after) {
        // The application is in maintenance: it has done nothing, and says when it will be back.
        (503, Some(after)) => {
            let last =
                ExecutionEnd { reason: Some(APP_UNAVAILABLE.to_owned()), ..by_code(response) };
            ExecutionVerdict::Later { until: Until::After(after), last }
        }
        (408 | 425 | 429 | 500..=599, after) => {
            let last = by_code(response);
            ExecutionVerdict::Retry { delay: after.unwrap_or_else(|| backoff(execution)), last }
        }
        _ => ExecutionVerdict::Ended(by_code(response)),
    }
}

/// Judges a failure. A request that may have been executed is not repeated, unless that is
/// harmless.
pub(super) fn judge_failure(
    failure: &Failure,
    is_repeatable: bool,
    execution: &Execution<'_>,
) -> ExecutionVerdict {
    if failure.is_unsent || is_repeatable {
        let last = ExecutionEnd::failed(failure.problem.name());
        return ExecutionVerdict::Retry { delay: backoff(execution), last };
    }
    ExecutionVerdict::Ended(ExecutionEnd::lost(failure))
}

/// The value of `Retry-After`: seconds or a date (RFC 9110 section 10.2.3), at most the longest
/// backoff.
fn retry_after(headers: &HeaderMap, now: UnixMillis) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            since.saturating_sub(Duration::from_millis(now.0))
        }
    };
    Some(wait.min(Duration::from_secs(BACKOFF_MAX_SECONDS)))
}

/// The delay before the next attempt: 1 s, 2 s, 4 s …, with up to half as much again as jitter.
/// Message and attempt determine the jitter, so that a simulated schedule is reproducible.
/// Deliveries without an execution do not count.
pub(super) fn backoff(execution: &Execution<'_>) -> Duration {
    use std::hash::{DefaultHasher, Hash, Hasher};
    const JITTER_PARTS: u64 = 512;
    let attempt = execution.number;
    let base = 1_u64
        .checked_shl(u32::try_from(attempt.saturating_sub(1)).unwrap_or(63))
        .unwrap_or(u64::MAX);
    let base = Duration::from_secs(base.min(BACKOFF_MAX_SECONDS));
    let mut hasher = DefaultHasher::new();
    (&execution.received.id, attempt).hash(&mut hasher);
    let jitter = hasher.finish() % JITTER_PARTS;
    base + base.mul_f64(jitter as f64 / JITTER_PARTS as f64 / 2.0)
}

#[cfg(test)]
mod tests {
    use super::super::presence::Presence;
    use super::*;
    use http::HeaderValue;
    use rules::Problem;
    use std::sync::Arc;
    use stores::queue::Received;

    fn received() -> Received {
        Received {
            id: "message".into(),
            receipt: String::new(),
            body: String::new(),
            attributes: Default::default(),
            group: None,
            receives: 1,
            sent: UnixMillis(0),
        }
    }

    fn presence() -> Presence {
        Presence::new(Arc::new(crate::telemetry::metrics::Metrics::new().expect("one of each")))
    }

    #[test]
    fn backoff_grows_with_the_attempts_and_is_bounded() {
        let (received, presence) = (Received { receives: 90, ..received() }, presence());
        let backoff = |number| {
            let (received, presence) = (&received, &presence);
            backoff(&Execution {
                attempt: number,
                number,
                received,
                queue_name: "q",
                presence,
                let_go: None,
            })
        };
        assert!(backoff(1) >= Duration::from_secs(1) && backoff(1) <= Duration::from_millis(1500));
        assert!(backoff(4) >= Duration::from_secs(8));
        assert!(backoff(1000) <= Duration::from_secs(BACKOFF_MAX_SECONDS * 2));
    }

    #[test]
    fn the_app_says_when_to_come_back_in_seconds_or_by_date() {
        let wait = |value: &'static str| {
            let headers = [(header::RETRY_AFTER, HeaderValue::from_static(value))];
            retry_after(&headers.into_iter().collect(), UnixMillis(1_000))
                .map(|wait| wait.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Thu, 01 Jan 1970 00:01:01 GMT"), Some(60));
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT"), Some(BACKOFF_MAX_SECONDS));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn an_execution_that_may_have_happened_is_not_repeated() {
        let (received, presence) = (received(), presence());
        let (received, presence) = (&received, &presence);
        let first =
            Execution { attempt: 1, number: 1, received, queue_name: "q", presence, let_go: None };
        let lost =
            Failure { problem: Problem::UpstreamTimeout, detail: String::new(), is_unsent: false };
        assert!(matches!(judge_failure(&lost, false, &first), ExecutionVerdict::Ended(_)));
        assert!(matches!(judge_failure(&lost, true, &first), ExecutionVerdict::Retry { .. }));
        let unsent = Failure { is_unsent: true, ..lost };
        assert!(matches!(judge_failure(&unsent, false, &first), ExecutionVerdict::Retry { .. }));
    }

    #[test]
    fn a_503_that_says_when_to_come_back_is_no_attempt_and_any_other_refusal_is() {
        let (received, presence) = (received(), presence());
        let (received, presence) = (&received, &presence);
        let first =
            Execution { attempt: 1, number: 1, received, queue_name: "q", presence, let_go: None };
        let judged = |code: u16, after: Option<&'static str>| {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = http::StatusCode::from_u16(code).expect("a status");
            if let Some(after) = after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(after));
            }
            judge(response, (None, "/"), &first, UnixMillis(1_000))
        };
        let at = |code, after| match judged(code, Some(after)) {
            ExecutionVerdict::Later { until, .. } => Some(until),
            _ => None,
        };
        assert_eq!(at(503, "5"), Some(Until::After(Duration::from_secs(5))));
        for (code, after) in [(503, None), (503, Some("soon")), (429, Some("5")), (500, Some("5"))]
        {
            assert!(
                matches!(judged(code, after), ExecutionVerdict::Retry { .. }),
                "{code} {after:?}"
            );
        }
    }
}
