//! `[route.offload]` as data: who may start a job, who owns it, when a request becomes one.

use super::basic::{KeySource, Mode};
use serde::{Deserialize, Serialize};

/// `offload` of a route: its requests can become jobs. Durations are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offload {
    /// Whether requests become jobs.
    pub mode: Mode,
    /// The `[queue.NAME]` that takes them.
    pub queue: String,
    /// Which requests become jobs.
    pub when: When,
    /// Milliseconds; for `slow`, how long the original execution may take unnoticed.
    pub after: Option<u64>,
    /// Who may start a job, and read its result.
    pub auth: Auth,
    /// Lower-case names of request fields that travel with a job that is run as nobody.
    pub forward_headers: Vec<String>,
    /// As whom the application gets the request.
    pub replay_as: ReplayAs,
    /// Milliseconds that sealed credentials are good for, where the job has no deadline.
    pub replay_ttl: u64,
    /// Cookies of a job's answer that its owner's browser is given, once.
    pub flash: Vec<String>,
    /// Milliseconds that a client waits for the outcome which has not said what it can wait for.
    pub wait: Option<u64>,
    /// What a client gets when `wait` is over.
    pub wait_ends: WaitEnds,
    /// Bytes that the body of a job may have; a longer one is 413 `body-too-large`.
    pub max_body: u64,
    /// Whether a run with an unknown outcome is repeated.
    pub retry: Retry,
    /// What becomes of a request whose job the queue does not take.
    pub fallback: QueueFallback,
    /// For `slow`: requests of one class are alike in how long they take.
    pub class: Option<KeySource>,
    /// Executions at once in one sidecar while their clients wait; more are queued.
    pub spill_over: Option<u64>,
    /// Jobs of this route at once in one consumer.
    pub concurrency: Option<u64>,
    /// Whose a job is, for fairness; else the caller's.
    pub tenant: Option<KeySource>,
    /// Milliseconds after which a job that waits is not worth starting.
    pub deadline: Option<u64>,
}

/// Which requests of a route become jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// All: each is queued before its 202.
    Always,
    /// Those without an answer after `after`: the execution goes on as a job. Classes that are known to be slow
    /// are queued.
    Slow,
    /// Those with `Prefer: respond-async` (RFC 7240 section 4.1).
    Prefer,
}

/// Who may start a job, and read its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Written as `auth = "none"`: anyone may start a job, whoever knows its id may read it.
    Open,
    /// Only callers who can be known: each sees its own jobs.
    Caller {
        /// The path of the application that says whether a request may.
        check: Option<String>,
        /// Where a caller is named; the first that a request has counts.
        identity: Vec<Identity>,
        /// Fields of the check's answer that travel with a job.
        keep: Vec<String>,
        /// Where the application sends whom it does not know. Unsaid, every redirect is taken for that.
        login: Option<Login>,
    },
}

/// The page that an application redirects to instead of doing what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Login {
    /// Written as `login = "none"`: it never does.
    None,
    /// A path of the application.
    Path(String),
}

impl Auth {
    /// Where a caller may be named. Empty where nobody needs a name.
    pub fn identities(&self) -> &[Identity] {
        match self {
            Self::Open => &[],
            Self::Caller { identity, .. } => identity,
        }
    }

    /// The request fields (lower-case names) that only the application may say: taken off what a client
    /// sends.
    pub fn said_by_check(&self) -> impl Iterator<Item = &str> {
        self.identities().iter().filter_map(|identity| match identity {
            Identity::Check(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

/// Where the caller of a request is named. The source is part of who somebody is: whoever writes
/// `session=42` into a cookie is not the user 42 of whom the application speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// A field of what `auth.check` answers; its name in lower case.
    Check(String),
    /// A field of the request that is the client's own secret; its name in lower case.
    Header(String),
    /// A cookie of the request.
    Cookie(String),
}

impl std::fmt::Display for Identity {
    /// As the rules file has it: `check:x-user-id`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Check(name) => write!(out, "check:{name}"),
            Self::Header(name) => write!(out, "header:{name}"),
            Self::Cookie(name) => write!(out, "cookie:{name}"),
        }
    }
}

/// As whom a job's request is sent to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayAs {
    /// Without the client's credentials: with the fields that `forward_headers` and `auth.keep` name.
    Nobody,
    /// With every field that the application would have been sent, sealed on the way.
    Caller,
}

/// What a client gets whose wait ended without an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitEnds {
    /// 202 and the job.
    Accepted,
    /// 504 `wait-over`: for clients that take a 202 for the answer itself.
    GatewayTimeout,
}

/// What a consumer does after an ambiguous outcome (connection lost after send, timeout).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// The job fails. Requests with idempotent methods (RFC 9110 section 9.2.2) are repeated all the same.
    Never,
    /// It is run again.
    Safe,
}

/// What happens when the queue can't take the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueFallback {
    /// 503 with the problem `offload-unavailable`.
    Refuse,
    /// It is executed while the client waits.
    Inline,
}
