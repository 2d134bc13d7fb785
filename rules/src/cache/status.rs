//! The `Cache-Status` member of one hop (RFC 9211).

use super::Tier;
use super::judge::NotStored;
use super::plan::Bypass;

/// What the cache did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    Hit {
        ttl: u64,
    },
    /// Served stale while a fetch goes on in the background.
    StaleHit {
        ttl: i64,
    },
    /// Served stale because the origin failed; `status` is its answer, if it gave one.
    StaleOnError {
        ttl: i64,
        status: Option<u16>,
    },
    /// The origin said 304: the stored answer was served.
    Revalidated,
    /// Went forward because nothing was stored. `stored` says what became of the answer.
    Miss {
        reason: Miss,
        stored: Result<(), NotStored>,
        collapsed: bool,
    },
    Bypass(Bypass),
    /// `only-if-cached` and nothing usable.
    OnlyIfCached,
}

/// Why a request that may use the cache went forward (the `fwd` parameter).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    Uri,
    Vary,
    Stale,
}

impl CacheStatus {
    /// Metric label.
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

    /// `spillway-sidecar; hit; ttl=3`
    pub fn member(self, tier: Tier) -> String {
        let name = tier.name();
        match self {
            Self::Hit { ttl } => format!("{name}; hit; ttl={ttl}"),
            Self::StaleHit { ttl } => format!("{name}; hit; ttl={ttl}; detail=revalidating"),
            Self::StaleOnError { ttl, status: None } => {
                format!("{name}; hit; fwd=stale; ttl={ttl}; detail=stale-on-error")
            }
            Self::StaleOnError { ttl, status: Some(status) } => {
                format!(
                    "{name}; hit; fwd=stale; fwd-status={status}; ttl={ttl}; detail=stale-on-error"
                )
            }
            Self::Revalidated => format!("{name}; hit; fwd=stale; fwd-status=304; stored"),
            Self::Miss { reason, stored, collapsed } => {
                let fwd = match reason {
                    Miss::Uri => "uri-miss",
                    Miss::Vary => "vary-miss",
                    Miss::Stale => "stale",
                };
                let collapsed = if collapsed { "; collapsed" } else { "" };
                match stored {
                    Ok(()) => format!("{name}; fwd={fwd}; stored{collapsed}"),
                    Err(reason) => {
                        format!("{name}; fwd={fwd}{collapsed}; detail={}", reason.as_str())
                    }
                }
            }
            Self::Bypass(Bypass::Method) => format!("{name}; fwd=method"),
            Self::Bypass(reason) => format!("{name}; fwd=bypass; detail={}", reason.as_str()),
            Self::OnlyIfCached => format!("{name}; detail=only-if-cached"),
        }
    }
}
