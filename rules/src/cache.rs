//! HTTP caching policy (RFC 9111), shared by edge and sidecar: what may be stored, under which
//! key, for how long, and what a stored answer may be used for. No storage here.
//!
//! The way of a request: [`plan`] (may this request use the cache, under which key?) →
//! [`Entry::look_up`] (is the stored answer usable?) → fetch → [`judge`] (may the new answer be
//! stored, for how long?).

pub mod conditional;
mod confirmed;
pub mod control;
mod date;
mod freshness;
mod judge;
mod meant;
mod plan;
mod redirect;
mod sent;
pub mod status;
mod token;
mod vary;

pub use confirmed::{Confirmed, confirmed};
pub use freshness::{Entry, Lookup, OriginFailure, Source, Windows};
pub use judge::{Judgement, NotStored, judge};
pub use meant::{as_meant, url_tag};
pub use plan::{Bypass, Cookies, Plan, Planned, plan, urls};
pub use sent::USER_AGENT;
pub use status::CacheStatus;
pub use token::{AUTHORIZATION, TokenKey};
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
