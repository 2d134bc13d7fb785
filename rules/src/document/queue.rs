//! Queues, and how their jobs are executed.

use super::offload::Identity;
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// How the owner of a job gets its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Through the sidecar.
    Proxy,
    /// By a redirect to an address of the store that is valid for a few minutes.
    Redirect,
}

/// `[queue.NAME]`: how the jobs of a queue are executed. Durations are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// The method with which a bare message (one without an envelope of ours) is executed.
    pub method: String,
    /// The path of that request. None: bare messages can't be run.
    pub path: Option<String>,
    /// How long a message stays invisible to other consumers when its consumer stops extending the
    /// time (SQS visibility timeout).
    pub visibility: Millis,
    /// How long an execution may take before it is aborted.
    pub job_timeout: Millis,
    /// How long a result is kept; then 410 `job-expired`.
    pub result_ttl: Millis,
    /// A sentence for people in the body of the 202.
    pub message: String,
    /// The application's path that gets a POST when a job has ended.
    pub notify_app: Option<String>,
    /// URLs that get the same POST as `notify_app`.
    pub notify_urls: Vec<String>,
    /// Whether the URLs may lead to private addresses.
    pub notify_private: bool,
    /// How many executions a job gets before it has failed.
    pub max_attempts: u64,
    /// How long a job without a deadline waits for an application that is away.
    pub wait_for_app: Millis,
    /// How many jobs one consumer executes at once.
    pub concurrency: u64,
    /// How many jobs of one tenant one consumer executes at once.
    pub tenant_concurrency: Option<u64>,
    /// How the owner of a job gets its result.
    pub result: Delivery,
    /// For bare messages: the header field in which the application gets the user.
    pub user: Option<QueueUser>,
    /// For bare messages: how a caller is identified as the job's owner. The owner's name is that
    /// in `user`.
    pub owner: Option<Identity>,
    /// Whether other consumers may end the queue's jobs: messages carry a token for that.
    pub foreign_consumers: bool,
}

/// Where a plain producer's message names the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueUser {
    /// The field that is set; its name in lower case.
    pub header: String,
    /// A JSON pointer into the message.
    pub from: String,
}
