//! What follows from a fetch for the cache: what the client is answered with, and what becomes of the stored
//! answer (RFC 9111 sections 4.2.4 and 4.3.3, RFC 5861 section 4).

use super::freshness::{Entry, OriginFailure, is_failure};
use super::judge::{Judgement, judge};
use super::plan::Plan;
use super::reason::NotStored;
use super::status::{CacheStatus, Miss};
use crate::head::{Head, ResponseHead, has};
use crate::time::UnixMillis;

/// [`judge`]s the answer to a fetch. While a `stored` answer may stand in for an origin that fails, the failure is
/// not stored in its place, even where the rule keeps failures (`negative`).
///
/// # Errors
/// The reason why the answer must not or can't be stored.
pub fn judge_fetched(
    plan: &Plan<'_>,
    request: &Head<'_>,
    response: &ResponseHead<'_>,
    stored: Option<&Entry>,
    now: UnixMillis,
) -> Result<Judgement, NotStored> {
    let stands_in = |stored: &Entry| stored.serves_on_error(OriginFailure::Status, now);
    if is_failure(response.status) && stored.is_some_and(stands_in) {
        return Err(NotStored::Status);
    }
    judge(plan, request, response, now)
}

/// What a fetch for the cache brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// A 304 that confirmed the stored answer; whether that may be stored on under its new fields.
    Confirmed(Result<(), NotStored>),
    /// Another answer, of this status; whether it may be stored.
    Answered {
        /// The status code of the answer.
        status: u16,
        /// Whether the answer may be stored, and was, as [`judge_fetched`] and the store say.
        stored: Result<(), NotStored>,
    },
    /// The origin sent no answer, or none in time.
    Unanswered,
}

/// What the client is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The stored answer, because the origin failed.
    Stale(CacheStatus),
    /// What the fetch brought: the answer, or the stored one that it confirmed.
    Fetched(CacheStatus),
    /// The answer to the client's own request, which is to be sent on: it asks for a part of something that is
    /// not stored, which may be a film.
    OwnRange(CacheStatus),
    /// The problem that stopped the fetch: nothing stored may stand in for the answer.
    Problem,
}

/// What becomes of the answer that was stored when the fetch began, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldEntry {
    /// It stays stored.
    Kept(KeepReason),
    /// Storing the new answer, or the fields of the 304, replaces it.
    Replaced,
    /// It is to be deleted, before it serves another request.
    Removed(RemoveReason),
}

/// Why a stored answer is kept, although the fetch brought nothing that replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepReason {
    /// The origin failed.
    OriginFailed,
    /// The new answer is for the one client whose request fetched it, and says nothing about the
    /// answers for others.
    ForOneClient,
    /// The new answer is about how often the origin is asked (408, 425, 429), not about the
    /// resource.
    AskedTooMuch,
    /// The answer may be stored, but the store did not take it.
    NotTaken,
}

/// Why a stored answer is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveReason {
    /// The origin has since given another answer, which may not be stored; the old one is out of
    /// date.
    Outdated,
    /// The origin no longer accepts the bearer's token (401, 403).
    TokenRefused,
}

impl Fetch {
    /// What the client is answered with. `stored` is the entry that was stored when the fetch
    /// began, `miss` says why it did not suffice, and `now` is in milliseconds since 1970.
    pub fn reply(
        self,
        request: &Head<'_>,
        (stored, miss): (Option<&Entry>, Miss),
        now: UnixMillis,
    ) -> Reply {
        let (failure, status) = match self {
            Self::Answered { status, .. } if is_failure(status) => {
                (Some(OriginFailure::Status), Some(status))
            }
            Self::Unanswered => (Some(OriginFailure::Unreachable), None),
            Self::Answered { .. } | Self::Confirmed(_) => (None, None),
        };
        if let (Some(failure), Some(stored)) = (failure, stored)
            && stored.serves_on_error(failure, now)
        {
            return Reply::Stale(stored.stale_on_error(status, now));
        }
        let fetched = |stored| CacheStatus::Miss { reason: miss, stored, collapsed: false };
        match self {
            Self::Unanswered => Reply::Problem,
            Self::Confirmed(Ok(())) => Reply::Fetched(CacheStatus::Revalidated),
            Self::Answered { status: 200, stored: stored @ Err(why) }
            | Self::Confirmed(stored @ Err(why))
                if is_for_range(request) && why != NotStored::ShownTooLittle =>
            {
                Reply::OwnRange(fetched(stored))
            }
            Self::Answered { stored, .. } | Self::Confirmed(stored) => {
                Reply::Fetched(fetched(stored))
            }
        }
    }

    /// What becomes of the entry that was stored when the fetch for this plan began.
    pub fn old_entry(self, plan: &Plan<'_>) -> OldEntry {
        let (status, why) = match self {
            Self::Unanswered => return OldEntry::Kept(KeepReason::OriginFailed),
            Self::Answered { status: 401 | 403, .. } if plan.is_sealed => {
                return OldEntry::Removed(RemoveReason::TokenRefused);
            }
            Self::Answered { stored: Ok(()), .. } | Self::Confirmed(Ok(())) => {
                return OldEntry::Replaced;
            }
            Self::Answered { status, stored: Err(why) } => (status, why),
            Self::Confirmed(Err(why)) => (304, why),
        };
        let is_for_one_client = matches!(why, NotStored::LeadsBack | NotStored::ShownTooLittle)
            || plan.has_authorization && !plan.is_sealed;
        match status {
            500.. => OldEntry::Kept(KeepReason::OriginFailed),
            _ if !why.is_of_the_answer() => OldEntry::Kept(KeepReason::NotTaken),
            _ if is_for_one_client => OldEntry::Kept(KeepReason::ForOneClient),
            408 | 425 | 429 => OldEntry::Kept(KeepReason::AskedTooMuch),
            _ => OldEntry::Removed(RemoveReason::Outdated),
        }
    }
}

impl Entry {
    /// The `Cache-Status` of the stored answer when it is served because the origin failed.
    /// `status` is the origin's, or none where it did not answer.
    pub fn stale_on_error(&self, status: Option<u16>, now: UnixMillis) -> CacheStatus {
        let past = (self.age(now) - self.windows.fresh).as_secs();
        CacheStatus::StaleOnError { ttl: -i64::try_from(past).unwrap_or(i64::MAX), status }
    }
}

/// Whether the request asks for a range; only GET has ranges (RFC 9110 section 14.2).
fn is_for_range(request: &Head<'_>) -> bool {
    request.method == "GET" && has(request.fields, "range")
}
