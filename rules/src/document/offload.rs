//! `[route.offload]` as data: who may start a job, who owns it, and when a request becomes one.

use super::basic::{KeySource, Mode};
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// `offload` of a route: its requests can become jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offload {
    /// Whether requests become jobs.
    pub mode: Mode,
    /// The name of the `[queue.NAME]` for its jobs.
    pub queue: String,
    /// Which requests become jobs.
    pub when: When,
    /// For `slow`: how long the request is executed before the client gets 202, in milliseconds.
    pub after: Option<Millis>,
    /// Who may start a job, and read its result.
    pub auth: Auth,
    /// Lower-case names of the request fields that a job carries when it runs without its caller's
    /// credentials.
    pub forward_headers: Vec<String>,
    /// In whose name the application gets the request.
    pub replay_as: ReplayAs,
    /// How long sealed credentials are valid where the job has no deadline, in milliseconds.
    pub replay_ttl: Millis,
    /// Names of cookies in a job's answer that its owner's browser gets, once.
    pub flash: Vec<String>,
    /// How long a client waits for the outcome when it does not say itself, in milliseconds.
    pub wait: Option<Millis>,
    /// What a client gets when `wait` is over.
    pub wait_ends: WaitEnds,
    /// The largest body of a job in bytes; a longer one gets 413 `body-too-large`.
    pub max_body: u64,
    /// Whether an execution with an unknown outcome is repeated.
    pub retry: Retry,
    /// What becomes of a request whose job the queue does not accept.
    pub fallback: QueueFallback,
    /// For `slow`: the value by which requests are grouped into classes of similar latency.
    pub class: Option<KeySource>,
    /// How many executions of one sidecar may have waiting clients; further requests are queued.
    pub spill_over: Option<u64>,
    /// How many jobs of this route one consumer runs at once.
    pub concurrency: Option<u64>,
    /// The tenant of a job, for fair scheduling. None: the caller.
    pub tenant: Option<KeySource>,
    /// How long after its acceptance a job may still be started, in milliseconds.
    pub deadline: Option<Millis>,
}

/// Which requests of a route become jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// All requests: each is queued before its 202.
    Always,
    /// Requests without an answer after `after`: their execution goes on as a job. Requests of
    /// classes known to be slow are queued.
    Slow,
    /// Requests with `Prefer: respond-async` (RFC 7240 section 4.1).
    Prefer,
}

/// Who may start a job, and read its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Anyone may start a job, and anyone who knows its id may read it: `auth = "none"`.
    Open,
    /// Only identified callers may start jobs, and each sees its own jobs only.
    Caller {
        /// The path at which the application decides whether a request is allowed.
        check: Option<String>,
        /// Where a request identifies its caller; the first source that it has counts.
        identity: Vec<Identity>,
        /// Fields of the check's answer that are stored with a job.
        keep: Vec<String>,
        /// Where the application redirects unknown users. None: every redirect counts as a refusal.
        login: Option<Login>,
    },
}

/// How an application redirects to its login page instead of executing the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Login {
    /// It never does: `login = "none"`.
    None,
    /// A path of the application.
    Path(String),
}

impl Auth {
    /// Where a request may identify its caller. Empty where no identity is needed.
    pub fn identities(&self) -> &[Identity] {
        match self {
            Self::Open => &[],
            Self::Caller { identity, .. } => identity,
        }
    }

    /// The request fields (lower-case names) that only the application may set; they are removed
    /// from clients' requests.
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
    /// Writes the source as in the rules file, such as `check:x-user-id`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Check(name) => write!(out, "check:{name}"),
            Self::Header(name) => write!(out, "header:{name}"),
            Self::Cookie(name) => write!(out, "cookie:{name}"),
        }
    }
}

/// In whose name a job's request is sent to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayAs {
    /// Without the client's credentials: with the fields that `forward_headers` and `auth.keep` name.
    Nobody,
    /// In the caller's name, with all fields of the request, which are sealed in the queue.
    Caller,
}

/// What a client gets when its wait ends without an outcome.
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
    /// The job is executed again.
    Safe,
}

/// What becomes of a request when the queue can't accept its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueFallback {
    /// 503 with the problem `offload-unavailable`.
    Refuse,
    /// It is executed while the client waits.
    Inline,
}
