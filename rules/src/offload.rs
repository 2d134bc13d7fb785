//! Is a request answered at once with 202 and executed later?

use crate::document::{Mode, Offload, When};
use crate::head::{Head, has};

/// RFC 7240 preferences that matter here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefer {
    pub respond_async: bool,
    /// Seconds the client is willing to wait.
    pub wait: Option<u64>,
}

/// A client may not hold a connection longer than this by `wait=N`, in seconds: load balancers
/// cut at 60.
pub const WAIT_MAX_SECONDS: u64 = 50;

/// Reads all `Prefer` lines; the first occurrence of a preference wins (RFC 7240 section 2).
pub fn prefer(head: &Head<'_>) -> Prefer {
    let mut found = Prefer::default();
    head.fields.each("prefer", &mut |line| {
        let Ok(line) = std::str::from_utf8(line) else { return };
        for preference in line.split(',') {
            let preference = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let value = value.trim().trim_matches('"');
            if name.trim().eq_ignore_ascii_case("respond-async") {
                found.respond_async = true;
            } else if name.trim().eq_ignore_ascii_case("wait") && found.wait.is_none() {
                found.wait = value.parse().ok().map(|seconds: u64| seconds.min(WAIT_MAX_SECONDS));
            }
        }
    });
    found
}

/// What becomes of a request on an offloadable route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Executed while the client waits.
    Inline(Inline),
    /// Queued durably before the 202; then waits up to `wait` seconds for the outcome.
    Enqueue { reason: Reason, wait: Option<u64> },
    /// Executed at once; when no answer has come after `after` milliseconds, the client gets 202
    /// and that same execution goes on.
    Adopt { reason: Reason, after: u64 },
}

/// Why a request is executed while the client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inline {
    NoRule,
    Off,
    Observed,
    NotPreferred,
    Upgrade,
}

impl Inline {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no-rule",
            Self::Off => "off",
            Self::Observed => "observed",
            Self::NotPreferred => "not-preferred",
            Self::Upgrade => "upgrade",
        }
    }
}

/// Why a request is offloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Always,
    Preferred,
    Slow,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Preferred => "preferred",
            Self::Slow => "slow",
        }
    }
}

/// What the rule would do, whatever its mode.
pub fn by_rule(rule: &Offload, head: &Head<'_>) -> Decision {
    if has(head.fields, "upgrade") {
        return Decision::Inline(Inline::Upgrade);
    }
    let Prefer { respond_async, wait } = prefer(head);
    match rule.when {
        When::Always => Decision::Enqueue { reason: Reason::Always, wait },
        When::Slow => {
            let after = rule.after.unwrap_or_default();
            let after = if respond_async { wait.map_or(after, |wait| wait * 1000) } else { after };
            Decision::Adopt { reason: Reason::Slow, after }
        }
        When::Prefer if !respond_async => Decision::Inline(Inline::NotPreferred),
        When::Prefer => match wait {
            Some(wait) => Decision::Adopt { reason: Reason::Preferred, after: wait * 1000 },
            None => Decision::Enqueue { reason: Reason::Preferred, wait: None },
        },
    }
}

/// What is done.
pub fn decide(rule: Option<&Offload>, head: &Head<'_>) -> Decision {
    match rule {
        None => Decision::Inline(Inline::NoRule),
        Some(rule) => match rule.mode {
            Mode::On => by_rule(rule, head),
            Mode::Observe => Decision::Inline(Inline::Observed),
            Mode::Off => Decision::Inline(Inline::Off),
        },
    }
}
