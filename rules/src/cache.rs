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
mod key_part;
mod location;
mod meant;
mod plan;
mod reason;
mod redirect;
mod sent;
pub mod status;
mod tier;
mod token;
mod trial;
mod vary;

pub use after_fetch::{Fetch, KeepReason, OldEntry, RemoveReason, Reply, judge_fetched};
pub use at_hand::AtHand;
pub use confirmed::{Confirmed, confirmed};
pub use freshness::{Entry, Lookup, OriginFailure, Source, Windows, is_failure};
pub use invalidated::invalidated;
pub use judge::{Judgement, judge};
pub use meant::{as_meant, url_tag};
pub use plan::{AUTHORIZATION, Cookies, Plan, Planned, ShardPart, plan, urls};
pub use reason::{Bypass, NotStored};
pub use sent::{USER_AGENT, is_of_one_request};
pub use status::CacheStatus;
pub use tier::Tier;
pub use token::TokenKey;
pub use trial::{Led, Trial};
pub use vary::{fits, secondary};

#[cfg(test)]
mod tests;
