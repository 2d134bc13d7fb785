//! HTTP caching policy (RFC 9111), shared by edge and sidecar: what may be stored, under which
//! key, for how long, and what a stored answer may be used for. No storage here.
//!
//! The way of a request: [`plan`] (may this request use the cache, under which key?) →
//! [`Entry::look_up`] (is the stored answer usable?) → [`Plan::at_hand`] (what is answered without asking the
//! origin?) → fetch → [`judge`] (may the new answer be stored, for how long?), or [`confirmed`] after a 304 →
//! [`Fetch::reply`] and [`Fetch::old_entry`] (what is the client answered with, and what becomes of the stored
//! answer?). Requests that change something go past the cache, and [`invalidated`] says what they make obsolete.

mod after_fetch;
mod at_hand;
pub mod conditional;
mod confirmed;
pub mod control;
mod date;
mod freshness;
mod invalidated;
mod judge;
mod kept;
mod location;
mod meant;
mod plan;
mod redirect;
mod sent;
pub mod status;
mod token;
mod trial;
mod vary;

pub use after_fetch::{
    Fetch, KeepReason, OldEntry, RemoveReason, Reply, is_failure, judge_fetched,
};
pub use at_hand::AtHand;
pub use confirmed::{Confirmed, confirmed};
pub use freshness::{Entry, Lookup, OriginFailure, Source, Windows};
pub use invalidated::invalidated;
pub use judge::{Judgement, NotStored, judge};
pub use meant::{as_meant, url_tag};
pub use plan::{Bypass, Cookies, Plan, Planned, plan, urls};
pub use sent::{USER_AGENT, is_of_one_request};
pub use status::CacheStatus;
pub use token::{AUTHORIZATION, TokenKey};
pub use trial::{Led, Trial};
pub use vary::{fits, secondary};

/// Which of the two caches asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    Edge,
    Sidecar,
}

impl Tier {
    /// The name in `Cache-Status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "spillway-edge",
            Self::Sidecar => "spillway-sidecar",
        }
    }
}

#[cfg(test)]
mod tests;
