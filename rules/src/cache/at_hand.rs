//! What a request is answered with before anything is fetched.

use super::freshness::Lookup;
use super::plan::Plan;
use super::status::CacheStatus;

/// What follows from a look into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtHand {
    /// The stored answer.
    Serve(CacheStatus),
    /// The stored answer, which is stale: a fetch in the background renews it (RFC 5861 section 3).
    ServeAndRenew(CacheStatus),
    /// A refusal: nothing usable is stored, and the request asks not to fetch
    /// (`Cache-Control: only-if-cached`, RFC 9111 section 5.2.1.7).
    OnlyIfCached,
    /// Nothing yet: the origin has to be asked.
    Fetch,
}

impl Plan<'_> {
    /// `found` is what may be done with the stored answer, where there is one.
    pub fn at_hand(&self, found: Option<Lookup>) -> AtHand {
        match found {
            Some(Lookup::Fresh { ttl, .. }) => AtHand::Serve(CacheStatus::Hit { ttl }),
            Some(Lookup::StaleWhileRevalidate { ttl, .. }) => {
                AtHand::ServeAndRenew(CacheStatus::StaleHit { ttl })
            }
            Some(Lookup::Expired { .. }) | None if self.only_if_cached => AtHand::OnlyIfCached,
            Some(Lookup::Expired { .. }) | None => AtHand::Fetch,
        }
    }
}
