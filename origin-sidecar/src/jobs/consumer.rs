//! A consumer of one queue.

use super::context::JobWorker;
use super::limits::TenantLimits;
use super::presence::Presence;
use std::sync::Arc;
use std::time::Duration;
use stores::queue::Queue;
use stores::results::Results;
use tokio::sync::{Semaphore, watch};

/// Before the next receive after the queue failed, and the next look at a store that failed.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// One queue's consumer.
pub struct Consumer {
    pub worker: Arc<JobWorker>,
    pub name: String,
    pub queue: Arc<dyn Queue>,
    pub results: Arc<dyn Results>,
    /// Of the upstreams that jobs go to.
    pub(super) presence: Arc<Presence>,
    /// Names this process in leases.
    pub holder: String,
    pub(super) limits: TenantLimits,
    /// Ends when a receive finds nothing and no job runs.
    pub is_until_empty: bool,
    /// Jobs that may run at once.
    pub(super) slots: Arc<Semaphore>,
    /// Jobs whose receivers may be told at once.
    pub(super) telling: Semaphore,
    /// Turns true at the end of the grace period: give back what still runs.
    pub(super) giving_up: watch::Sender<bool>,
}
