//! What a delivery waits for before it runs: permits for its route and its tenant, a slot, and the
//! lease.

use super::consumer::Consumer;
use super::delivery::{Delivery, HEARTBEAT_PART};
use super::job::Job;
use super::lease::{self, HeldLease, Taken};
use super::limits::Shares;
use crate::drain::DrainState;
use crate::telemetry::metrics::Running;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// A permit among the jobs that run at once, if one was free.
pub(super) type RunPermit = Option<OwnedSemaphorePermit>;

/// The permits of a running job, returned when they are dropped.
pub(super) struct Places {
    _shares: Shares,
    _slot: RunPermit,
}

impl Delivery<'_> {
    /// Waits for its permits and the lease. While another attempt holds the lease, the message
    /// stays in hand: a long job outlives as many deliveries as the queue allows. `None` when the
    /// drain began.
    pub(super) async fn begin(
        &self,
        job: &Job,
        mut slot: RunPermit,
    ) -> Option<((Places, Running), HeldLease)> {
        let mut is_counted = false;
        loop {
            let places = self.in_turn(job, slot.take()).await?;
            match self.lease(job).await? {
                Taken::Ours(held) => {
                    let running =
                        self.consumer.worker.context.metrics.jobs.run(&self.consumer.name);
                    return Some(((places, running), held));
                }
                Taken::Unknown(_) => return None,
                Taken::Others(rest) => {
                    drop(places);
                    if !std::mem::replace(&mut is_counted, true) {
                        self.consumer.count("duplicate", "lease-taken");
                    }
                    self.stand_by(rest).await?;
                }
            }
        }
    }

    /// Waits before the lease is tried again. `None` when the drain began.
    async fn stand_by(&self, rest: Duration) -> Option<()> {
        let mut draining = self.consumer.worker.context.drain.draining();
        tokio::select! {
            biased;
            () = DrainState::begun(&mut draining) => None,
            () = tokio::time::sleep(rest.min(self.visibility / HEARTBEAT_PART)) => Some(()),
        }
    }

    /// Waits for permits of route and tenant. The message stays in hand, but the slot is left to
    /// others meanwhile. `None` when the drain began.
    async fn in_turn(&self, job: &Job, slot: RunPermit) -> Option<Places> {
        let consumer = self.consumer;
        let route = job.route.as_deref().and_then(|name| self.rules.route_by_name(name));
        let most = route.and_then(|route| route.offload.as_ref()?.concurrency);
        let route = job.route.as_deref().zip(most);
        let tenant = job.group.as_deref().zip(self.queue.tenant_concurrency);
        let mut shares = std::pin::pin!(consumer.limits.shares(route, tenant));
        let at_once = tokio::select! {
            biased;
            shares = &mut shares => Some(shares),
            () = std::future::ready(()) => None,
        };
        let at_once = match (at_once, slot) {
            (Some(shares), Some(slot)) => {
                return Some(Places { _shares: shares, _slot: Some(slot) });
            }
            (at_once, _) => at_once,
        };
        let turn = async {
            let shares = match at_once {
                Some(shares) => shares,
                None => shares.await,
            };
            // The semaphore is never closed, so there is one.
            let slot = Arc::clone(&consumer.slots).acquire_owned().await.ok();
            Places { _shares: shares, _slot: slot }
        };
        let mut draining = consumer.worker.context.drain.draining();
        tokio::select! {
            biased;
            places = turn => Some(places),
            () = DrainState::begun(&mut draining) => None,
        }
    }

    async fn lease(&self, job: &Job) -> Option<Taken> {
        let Consumer { results, worker, holder, .. } = self.consumer;
        let holder = format!("{holder}.{}.{}", self.received.id, self.received.receives);
        loop {
            let (holder, about) = (holder.clone(), (job.id.as_str(), job.route.as_deref()));
            match lease::take(results, &worker.context.clock, about, holder, self.visibility).await
            {
                Taken::Unknown(error) => {
                    self.consumer.count("waiting", error.name);
                    tracing::warn!(job = job.id, %error, "could not acquire the lease; the job waits");
                    self.consumer.pause().await?;
                }
                taken => return Some(taken),
            }
        }
    }
}
