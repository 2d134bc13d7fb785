//! Queues, and how their jobs are run.

use super::offload::Identity;
use serde::{Deserialize, Serialize};

/// How a result reaches its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Through the sidecar.
    Proxy,
    /// To an address of the store that is good for a few minutes.
    Redirect,
}

/// `[queue.NAME]`: how the jobs of a queue are run. Durations are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// The method of the request that a bare message (one without an envelope of ours) is run as.
    pub method: String,
    /// The path of that request. None: bare messages can't be run.
    pub path: Option<String>,
    /// How long a message is hidden from other consumers by one that has stopped to extend that (SQS visibility
    /// timeout).
    pub visibility: u64,
    /// A run that takes longer is given up.
    pub job_timeout: u64,
    /// How long a result is kept; then 410 `job-expired`.
    pub result_ttl: u64,
    /// A sentence for people in the body of the 202.
    pub message: String,
    /// The application's path that gets a POST when a job has ended.
    pub notify_app: Option<String>,
    /// URLs that get the same POST.
    pub notify_urls: Vec<String>,
    /// Whether the URLs may lead to private addresses.
    pub notify_private: bool,
    /// Executions until a job has failed for good.
    pub max_attempts: u64,
    /// How long a job without a deadline waits for an application that is away.
    pub wait_for_app: u64,
    /// Jobs that one consumer runs at a time.
    pub concurrency: u64,
    /// Jobs of one tenant at once in one consumer.
    pub tenant_concurrency: Option<u64>,
    /// How the owner of a job gets its result.
    pub result: Delivery,
    /// Of a bare message: the header the app takes its user from.
    pub user: Option<QueueUser>,
    /// Whose the job of a bare message is: the caller whom this source names as `user` does.
    pub owner: Option<Identity>,
    /// Whoever reads the queue may end its jobs: messages have a token for that.
    pub foreign_consumers: bool,
}

/// Where a plain producer's message says for whom it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueUser {
    /// The field that is set; its name in lower case.
    pub header: String,
    /// A JSON pointer into the message.
    pub from: String,
}
