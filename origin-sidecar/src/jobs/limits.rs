//! Limits how many jobs of one route and of one tenant run at once in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The kind and name of a share, and its size: a reload that changes the size begins a new count.
type Share = (&'static str, String, u64);

#[derive(Default)]
pub(super) struct TenantLimits {
    shares: Mutex<HashMap<Share, Arc<Semaphore>>>,
}

/// The permits of a job, returned when they are dropped.
pub(super) struct Shares {
    _places: Vec<OwnedSemaphorePermit>,
}

impl TenantLimits {
    /// Waits for a permit of each share. They are taken in a fixed order, so that no two jobs wait
    /// for each other. The tenant's comes first: a tenant with many jobs must not hold the route's
    /// permits while it waits for its own.
    pub(super) async fn shares(
        &self,
        route: Option<(&str, u64)>,
        tenant: Option<(&str, u64)>,
    ) -> Shares {
        let mut places = Vec::new();
        for (kind, share) in [("tenant", tenant), ("route", route)] {
            let Some((name, most)) = share else { continue };
            let share = self.share((kind, name.to_owned(), most));
            // The semaphore is never closed.
            places.extend(share.acquire_owned().await);
        }
        Shares { _places: places }
    }

    fn share(&self, share: Share) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // Unused shares are removed: tenants come and go.
        shares.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let most = usize::try_from(share.2).unwrap_or(1);
        Arc::clone(shares.entry(share).or_insert_with(|| Arc::new(Semaphore::new(most))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    fn is_free(limits: &TenantLimits, tenant: &str) -> bool {
        let waiting = limits.shares(None, Some((tenant, 1)));
        std::pin::pin!(waiting).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn a_job_that_waits_for_its_tenant_leaves_the_routes_places_to_others() {
        let limits = TenantLimits::default();
        let (route, alice, bob) = (("reports", 2), ("alice", 1), ("bob", 1));
        let _running = limits.shares(Some(route), Some(alice)).await;
        let mut waiting = std::pin::pin!(limits.shares(Some(route), Some(alice)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let others = std::pin::pin!(limits.shares(Some(route), Some(bob)));
        assert!(others.poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn one_tenants_jobs_take_nothing_from_anothers() {
        let limits = TenantLimits::default();
        let place = limits.shares(Some(("reports", 9)), Some(("alice", 1))).await;
        assert!(!is_free(&limits, "alice"));
        assert!(is_free(&limits, "bob"));
        drop(place);
        assert!(is_free(&limits, "alice"));
        drop(limits.share(("tenant", "bob".into(), 1)));
        assert_eq!(limits.shares.lock().expect("no panic").len(), 1, "the others are forgotten");
    }
}
