//! The `Cache-Status` member of one hop (RFC 9211).

use super::reason::{Bypass, NotStored};
use super::tier::Tier;
use crate::head::push_number;

/// Bytes of a usual member, so that it is written without reallocation.
const MEMBER_BYTES_USUAL: usize = 64;

/// What the cache did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// The stored answer, fresh.
    Hit {
        /// Seconds of freshness that are left.
        ttl: u64,
    },
    /// Served stale while a fetch goes on in the background.
    StaleHit {
        /// Seconds since it was fresh, as a negative number.
        ttl: i64,
    },
    /// Served stale because the origin failed; `status` is its answer, if it gave one.
    StaleOnError {
        /// Seconds since it was fresh, as a negative number.
        ttl: i64,
        /// Of the origin's answer; none when there was no answer.
        status: Option<u16>,
    },
    /// The origin said 304: the stored answer was served.
    Revalidated,
    /// The request was forwarded because no usable answer was stored. `stored` says what became of
    /// the new answer.
    Miss {
        /// Why what is stored was not enough.
        reason: Miss,
        /// Whether the fetched answer is stored.
        stored: Result<(), NotStored>,
        /// Another request fetched it, and this one waited (request coalescing).
        collapsed: bool,
    },
    /// The request does not use the cache.
    Bypass(Bypass),
    /// The request has `only-if-cached`, and nothing usable is stored.
    OnlyIfCached,
}

/// Why a request that may use the cache went forward (the `fwd` parameter).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Nothing is stored under this key (`uri-miss`).
    Uri,
    /// What is stored under this key is for other values of the fields that it varies by (`vary-miss`).
    Vary,
    /// What is stored may not be used without asking the origin (`stale`).
    Stale,
}

impl CacheStatus {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hit { .. } => "hit",
            Self::StaleHit { .. } => "stale",
            Self::StaleOnError { .. } => "stale-on-error",
            Self::Revalidated => "revalidated",
            Self::Miss { collapsed: true, .. } => "collapsed",
            Self::Miss { .. } => "miss",
            Self::Bypass(_) => "bypass",
            Self::OnlyIfCached => "only-if-cached",
        }
    }

    /// The member as text, such as `spillway-sidecar; hit; ttl=3`.
    pub fn member(self, tier: Tier) -> String {
        let mut member = String::with_capacity(MEMBER_BYTES_USUAL);
        self.write(tier, &mut member);
        member
    }

    /// Appends the member to a text.
    pub fn write(self, tier: Tier, member: &mut String) {
        member.push_str(tier.name());
        match self {
            Self::Hit { ttl } => {
                member.push_str("; hit; ttl=");
                push_number(member, ttl);
            }
            Self::StaleHit { ttl } => {
                member.push_str(&format!("; hit; ttl={ttl}; detail=revalidating"));
            }
            Self::StaleOnError { ttl, status } => {
                let status = status.map_or(String::new(), |code| format!("; fwd-status={code}"));
                let all = format!("; hit; fwd=stale{status}; ttl={ttl}; detail=stale-on-error");
                member.push_str(&all);
            }
            Self::Revalidated => member.push_str("; hit; fwd=stale; fwd-status=304; stored"),
            Self::Miss { reason, stored, collapsed } => {
                member.push_str("; fwd=");
                member.push_str(reason.fwd());
                member.push_str(if stored.is_ok() { "; stored" } else { "" });
                member.push_str(if collapsed { "; collapsed" } else { "" });
                detail(member, stored.err().map(NotStored::as_str));
            }
            Self::Bypass(Bypass::Method) => member.push_str("; fwd=method"),
            Self::Bypass(reason) => {
                member.push_str("; fwd=bypass");
                detail(member, Some(reason.as_str()));
            }
            Self::OnlyIfCached => detail(member, Some("only-if-cached")),
        }
    }
}

impl Miss {
    fn fwd(self) -> &'static str {
        match self {
            Self::Uri => "uri-miss",
            Self::Vary => "vary-miss",
            Self::Stale => "stale",
        }
    }
}

fn detail(member: &mut String, why: Option<&str>) {
    if let Some(why) = why {
        member.push_str("; detail=");
        member.push_str(why);
    }
}
