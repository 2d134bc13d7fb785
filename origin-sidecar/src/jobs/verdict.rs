//! What becomes of a job after an execution.

use super::presence::Presence;
use super::record::Terminal;
use crate::message::body::Body;
use crate::upstream::outgoing::Failure;
use http::{Response, header};
use rules::Problem;
use rules::document::Offload;
use rules::offload::landing;
use std::sync::Arc;
use std::time::Duration;
use stores::queue::Received;

/// The reason of a failed job that may or may not have been executed.
pub(super) const UNKNOWN: &str = "unknown";

/// The reason of a failed job that was not executed within the time that it may wait.
pub(super) const APP_UNAVAILABLE: &str = "app-unavailable";

/// The reason of a failed job that was not executed until its deadline.
pub(super) const DEADLINE_PASSED: &str = "deadline";

/// The target of a redirect (the resolved `Location`), as an extension of the answer.
#[derive(Debug, Clone)]
pub(super) struct Led(pub String);

/// How an execution ended.
pub(super) struct ExecutionEnd {
    pub status: Terminal,
    pub reason: Option<String>,
    pub answer: Option<Response<Body>>,
}

impl ExecutionEnd {
    fn answered(status: Terminal, reason: Option<String>, answer: Response<Body>) -> Self {
        Self { status, reason, answer: Some(answer) }
    }

    /// The end according to the application's status code, for an execution that is not repeated.
    /// `rule` and `target` are those of the request.
    pub(super) fn by_code(
        mut answer: Response<Body>,
        rule: Option<&Offload>,
        target: &str,
    ) -> Self {
        let code = answer.status().as_u16();
        match code {
            200..=299 => Self::answered(Terminal::Succeeded, None, answer),
            300..=399 => {
                let led = answer.headers().get(header::LOCATION);
                let led = led.and_then(|led| {
                    landing::resolved(str::from_utf8(led.as_bytes()).ok()?, target)
                });
                let is_success =
                    rule.is_some_and(|rule| landing::is_success(rule, code, led.as_deref()));
                if let Some(led) = led.filter(|_| is_success) {
                    answer.extensions_mut().insert(Led(led));
                    return Self::answered(Terminal::Succeeded, None, answer);
                }
                Self::answered(Terminal::Failed, Some("redirected".to_owned()), answer)
            }
            _ => Self::answered(Terminal::Failed, Some(format!("http-{code}")), answer),
        }
    }

    pub(super) fn failed(reason: &str) -> Self {
        Self { status: Terminal::Failed, reason: Some(reason.to_owned()), answer: None }
    }

    /// The end of an execution that is not repeated, and may have happened.
    pub(super) fn lost(failure: &Failure) -> Self {
        Self::failed(if failure.is_unsent { failure.problem.name() } else { UNKNOWN })
    }
}

/// What becomes of a job after an execution.
pub(super) enum ExecutionVerdict {
    Ended(ExecutionEnd),
    /// The job is retried after this delay; `last` is stored when no attempt is left.
    Retry {
        delay: Duration,
        last: ExecutionEnd,
    },
    /// The job was not executed, so this was no attempt. `last` is stored when it has waited too
    /// long.
    Later {
        until: Until,
        last: ExecutionEnd,
    },
}

/// What a job waits for that was not executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Until {
    /// This upstream accepts connections.
    Back(Arc<str>),
    /// The time has passed that the application named in a 503.
    After(Duration),
    /// There is memory for its body.
    Room,
    /// No range of this shard map moves any more.
    Moved(Arc<str>),
    /// This process follows the map by which another sidecar refused the job.
    NewerMap,
    /// The shard map is known.
    KnownMap,
}

impl Until {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Back(_) => "app-away",
            Self::After(_) => "app-busy",
            Self::Room => "no-room",
            Self::Moved(_) => "range-moves",
            Self::NewerMap => Problem::StaleEpoch.name(),
            Self::KnownMap => Problem::MapUnknown.name(),
        }
    }

    /// Whether the job waits for a shard map and not for its application. Such a wait ends no job: the operator
    /// who moves a range has accepted nobody's failure.
    pub(super) fn is_of_map(&self) -> bool {
        matches!(self, Self::Moved(_) | Self::NewerMap | Self::KnownMap)
    }
}

/// One execution of a job.
pub(super) struct Execution<'a> {
    /// The number of the attempt over the job's whole life.
    pub attempt: u64,
    /// The number of the attempt since an operator's retry.
    pub number: u64,
    pub received: &'a Received,
    pub queue_name: &'a str,
    pub presence: &'a Presence,
    /// The upstream that this job has waited for, and may try now.
    pub let_go: Option<&'a str>,
}

/// The verdict on an execution, and whether a repetition does no harm.
pub(super) struct Executed {
    pub verdict: ExecutionVerdict,
    pub is_repeatable: bool,
}

impl From<ExecutionVerdict> for Executed {
    /// The verdict on a request that was not sent.
    fn from(verdict: ExecutionVerdict) -> Self {
        Self { verdict, is_repeatable: true }
    }
}
