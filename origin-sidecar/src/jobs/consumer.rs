//! The consumer of one queue.

use super::context::JobWorker;
use super::limits::TenantLimits;
use super::presence::Presence;
use std::sync::Arc;
use std::time::Duration;
use stores::queue::Queue;
use stores::results::Results;
use tokio::sync::{Semaphore, watch};

/// The pause before the next receive after the queue failed, and before the next read after the
/// store failed.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The consumer of one queue.
pub struct Consumer {
    pub worker: Arc<JobWorker>,
    pub name: String,
    pub queue: Arc<dyn Queue>,
    pub results: Arc<dyn Results>,
    /// The state of the upstreams to which jobs go.
    pub(super) presence: Arc<Presence>,
    /// Identifies this process in leases.
    pub holder: String,
    pub(super) limits: TenantLimits,
    /// Whether it ends when a receive finds nothing and no job runs.
    pub is_until_empty: bool,
    /// Permits for jobs that run at once.
    pub(super) slots: Arc<Semaphore>,
    /// Permits for notifications in flight.
    pub(super) telling: Semaphore,
    /// Permits for jobs in hand that have waited for a shard map.
    pub(super) of_maps: Arc<Semaphore>,
    /// Becomes true at the end of the grace period: running jobs are aborted and returned.
    pub(super) giving_up: watch::Sender<bool>,
}
