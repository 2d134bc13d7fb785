//! How old a stored answer is and what it may still be used for (RFC 9111 section 4.2).

use super::control::{CacheControl, DELTA_SECONDS_MAX, delta_seconds};
use crate::document::{Lifetime, Override};
use crate::head::{Fields, ResponseHead, first};
use crate::time::{Millis, UnixMillis};
use serde::{Deserialize, Serialize};

/// The heuristic lifetime is a tenth of the time since `Last-Modified` (RFC 9111 section 4.2.2).
const HEURISTIC_PART: u64 = 10;
/// The heuristic lifetime is at most one day.
const HEURISTIC_MAX: Millis = Millis(86_400_000);
/// Clocks of two machines are taken to differ by less than this.
const CLOCKS: Millis = Millis(60_000);
/// How long past its lifetime an answer may be used while the origin can't be reached and neither
/// rule nor origin names a time. A restart of the application takes less.
const DISCONNECTED: Millis = Millis(5 * 60_000);

/// How long an answer may be used, in milliseconds of its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// The answer is fresh while it is younger.
    pub fresh: Millis,
    /// How long past `fresh` the answer may be served while it is revalidated in the background.
    pub stale_while_revalidate: Millis,
    /// How long past `fresh` the answer may be served when the origin fails.
    pub stale_if_error: Millis,
    /// How long past `fresh` the answer may be served when the origin can't be reached (RFC 9111
    /// section 4.2.4).
    pub disconnected: Millis,
    /// The answer is never used at a greater age, unless the origin fails.
    pub max_staleness: Option<Millis>,
}

impl Windows {
    /// Windows of an answer that is never used stale.
    pub fn fresh_only(fresh: Millis) -> Self {
        let (stale_while_revalidate, stale_if_error, disconnected) =
            (Millis::ZERO, Millis::ZERO, Millis::ZERO);
        Self { fresh, stale_while_revalidate, stale_if_error, disconnected, max_staleness: None }
    }
}

/// What is remembered of a stored answer, besides its head and body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since 1970 when the answer was received.
    pub received: UnixMillis,
    /// Its age at that moment, in milliseconds.
    pub age_at_receipt: Millis,
    /// How long it may be used, and for what.
    pub windows: Windows,
    /// The answer's `ETag`, byte for byte (RFC 9110 section 8.8.3).
    pub etag: Option<String>,
    /// The answer's `Last-Modified`, byte for byte (RFC 9110 section 8.8.2).
    pub last_modified: Option<String>,
    /// Request fields the answer depends on, with their values, normalised.
    pub vary: Vec<(String, Option<String>)>,
    /// Whether the origin allows sharing an answer to a request with `Authorization` (RFC 9111
    /// section 3.5).
    pub is_shared: bool,
    /// The one language it is in (`Content-Language`), in lower case.
    pub language: Option<String>,
}

/// What a stored answer may be used for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It may be served.
    Fresh {
        /// Seconds.
        age: u64,
        /// Seconds of freshness that are left.
        ttl: u64,
    },
    /// It may be served while a fetch in the background renews it (RFC 5861 section 3).
    StaleWhileRevalidate {
        /// Seconds.
        age: u64,
        /// Seconds since it was fresh, as a negative number.
        ttl: i64,
    },
    /// It must be revalidated before it is used.
    Expired {
        /// Seconds.
        age: u64,
        /// Seconds since it was fresh, as a negative number.
        ttl: i64,
    },
}

/// How the origin failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginFailure {
    /// It answered 5xx.
    Status,
    /// It sent no answer, or none in time.
    Unreachable,
}

impl Entry {
    /// The current age in milliseconds (RFC 9111 section 4.2.3). `now` is in milliseconds since
    /// 1970.
    pub fn age(&self, now: UnixMillis) -> Millis {
        self.age_at_receipt + (now - self.received)
    }

    /// What the answer may be used for. `now` is in milliseconds since 1970.
    pub fn look_up(&self, now: UnixMillis) -> Lookup {
        let age = self.age(now);
        let windows = self.windows;
        let too_old = windows.max_staleness.is_some_and(|max| age > max);
        if age < windows.fresh && !too_old {
            return Lookup::Fresh { age: age.as_secs(), ttl: (windows.fresh - age).as_secs() };
        }
        let past = i64::try_from((age - windows.fresh).as_secs()).unwrap_or(i64::MAX);
        let seconds = age.as_secs();
        if age < windows.fresh + windows.stale_while_revalidate && !too_old {
            return Lookup::StaleWhileRevalidate { age: seconds, ttl: -past };
        }
        Lookup::Expired { age: seconds, ttl: -past }
    }

    /// Whether the answer may be served because the origin failed (RFC 5861 section 4).
    pub fn serves_on_error(&self, failure: OriginFailure, now: UnixMillis) -> bool {
        let windows = &self.windows;
        let window = windows.stale_if_error.max(windows.stale_while_revalidate);
        let window = match failure {
            OriginFailure::Status => window,
            OriginFailure::Unreachable => window.max(windows.disconnected),
        };
        self.age(now) < windows.fresh + window
    }

    /// Makes the answer stale as of `now`; its stale windows begin then.
    pub fn expire(&mut self, now: UnixMillis) {
        self.windows.fresh = self.windows.fresh.min(self.age(now));
    }

    /// Whether the answer has a validator, so that it can be revalidated.
    pub fn has_validator(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// How long from receipt until the entry is of no use at all.
    pub fn useful_for(&self) -> Millis {
        let windows = self.windows;
        let stale = windows.stale_while_revalidate.max(windows.stale_if_error);
        let stale = stale.max(windows.disconnected);
        windows.fresh + stale - self.age_at_receipt
    }
}

/// The moment at which a lifetime begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// A rule's lifetime begins when the answer is received.
    Receipt,
    /// The origin's lifetime, in milliseconds, begins at the answer's `Date`.
    Date { lifetime: Millis },
}

/// The age of an answer at receipt, in milliseconds: that of `Age`, or of `Date` where the lifetime
/// is the origin's and `Date` says more. A `Date` that differs from our clock by less than the
/// lifetime, or less than a minute, is taken for clock skew.
pub(super) fn age_at_receipt(fields: &dyn Fields, begin: Begin, now: UnixMillis) -> Millis {
    let mut age = None;
    fields.each("age", &mut |line| {
        // Of several values the first one counts (RFC 9111 section 5.1).
        let value = line.split(|byte| *byte == b',').next().unwrap_or_default();
        age.get_or_insert_with(|| delta_seconds(value.trim_ascii()));
    });
    let age = age.unwrap_or(0);
    let apparent = match begin {
        Begin::Receipt => Millis::ZERO,
        Begin::Date { lifetime } => {
            let apparent = date(fields, "date").map_or(Millis::ZERO, |date| now - date);
            if apparent < lifetime.max(CLOCKS) { Millis::ZERO } else { apparent }
        }
    };
    Millis::from_secs(age.min(DELTA_SECONDS_MAX)).max(apparent)
}

/// The moment that a date field names.
pub(super) fn date(fields: &dyn Fields, name: &str) -> Option<UnixMillis> {
    super::date::parse(&first(fields, name)?)
}

/// What an answer's lifetime was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `edge` or `sidecar` of the rule.
    Rule,
    /// The rule's lifetime, cut short for a 404 or 410: a page that appears must be seen soon.
    NotFound,
    /// `negative` of the rule.
    Negative,
    /// The name contains a version: one year.
    Version,
    /// The origin's `s-maxage`.
    SMaxAge,
    /// The origin's `max-age`.
    MaxAge,
    /// The origin's `Expires`.
    Expires,
    /// Guessed from the origin's `Last-Modified` (RFC 9111 section 4.2.2).
    LastModified,
    /// The origin's `no-cache`: the answer is never fresh.
    NoCache,
    /// Neither rule nor origin gives a lifetime: the answer is never fresh.
    Nothing,
}

impl Source {
    /// Whether the lifetime comes from the rules file alone.
    pub(crate) fn is_rule(self) -> bool {
        matches!(self, Self::Rule | Self::NotFound | Self::Negative | Self::Version)
    }

    /// What `explain` prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::NotFound => "not-found",
            Self::Negative => "negative",
            Self::Version => "version",
            Self::SMaxAge => "s-maxage",
            Self::MaxAge => "max-age",
            Self::Expires => "expires",
            Self::LastModified => "last-modified",
            Self::NoCache => "no-cache",
            Self::Nothing => "nothing",
        }
    }
}

/// The lifetime in milliseconds that the origin gives its answer, and where it comes from.
pub(super) fn from_origin(
    control: &CacheControl,
    is_targeted: bool,
    response: &ResponseHead<'_>,
    now: UnixMillis,
) -> (Millis, Source) {
    if let Some(seconds) = control.s_maxage {
        return (Millis::from_secs(seconds), Source::SMaxAge);
    }
    if let Some(seconds) = control.max_age {
        return (Millis::from_secs(seconds), Source::MaxAge);
    }
    let from = date(response.fields, "date").unwrap_or(now);
    if !is_targeted && crate::head::has(response.fields, "expires") {
        // An invalid Expires is in the past (RFC 9111 section 5.3).
        let expires = date(response.fields, "expires").unwrap_or_default();
        return (expires - from, Source::Expires);
    }
    let is_guessed = is_heuristically_cacheable(response.status) || control.public;
    match date(response.fields, "last-modified").filter(|_| is_guessed) {
        Some(modified) => {
            let part = (from - modified) / HEURISTIC_PART;
            (part.min(HEURISTIC_MAX), Source::LastModified)
        }
        None => (Millis::ZERO, Source::Nothing),
    }
}

/// The statuses of RFC 9110 section 15.1 that allow a heuristic lifetime, without 206, which is not
/// stored here.
pub(super) fn is_heuristically_cacheable(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// From this status on an answer counts as a failure of the origin: section 4.3.3 of RFC 9111 lets
/// a cache treat any 5xx as if there had been no answer.
const FIRST_FAILURE: u16 = 500;

/// Whether this status says that the origin failed, so that the answer says nothing about the
/// resource.
pub fn is_failure(status: u16) -> bool {
    status >= FIRST_FAILURE
}

/// Combines the rule's windows with the origin's.
pub(super) fn windows(
    rule: &crate::document::Cache,
    lifetime: Lifetime,
    origin_fresh: Option<Millis>,
    control: &CacheControl,
) -> Windows {
    let fresh = match lifetime {
        Lifetime::Fixed(fixed) => fixed,
        Lifetime::FromOrigin => origin_fresh.unwrap_or_default(),
    };
    // These directives forbid serving stale answers, whatever the windows say (RFC 9111 sections
    // 5.2.2.2, 5.2.2.8 and 5.2.2.10).
    let overridden = rule.overrides.contains(&Override::MustRevalidate);
    let strict = (control.must_revalidate || control.proxy_revalidate) && !overridden;
    let s_maxage_rules = control.s_maxage.is_some() && lifetime == Lifetime::FromOrigin;
    if strict || s_maxage_rules {
        let max_staleness = rule.max_staleness;
        return Windows { max_staleness, ..Windows::fresh_only(fresh) };
    }
    let window = |rule: Option<Millis>, origin: Option<u64>| {
        rule.or_else(|| origin.map(Millis::from_secs)).unwrap_or_default()
    };
    Windows {
        fresh,
        stale_while_revalidate: window(rule.stale_while_revalidate, control.stale_while_revalidate),
        stale_if_error: window(rule.stale_if_error, control.stale_if_error),
        disconnected: rule.stale_if_error.unwrap_or(DISCONNECTED),
        max_staleness: rule.max_staleness,
    }
}
