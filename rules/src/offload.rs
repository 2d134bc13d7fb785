//! Decides whether a request is answered with 202 and executed later.

pub mod landing;
pub mod learned;
pub mod mark;
pub mod site;

use crate::cors;
use crate::document::{Auth, Cors, Identity, KeySource, Mode, Offload, ReplayAs, When};
use crate::head::{Head, cookie, first, has, text_of};
use crate::path::{self, PathParameter};
use crate::time::Millis;
use learned::Learned;

/// The preferences of RFC 7240 that matter here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefer {
    /// `respond-async` (RFC 7240 section 4.1): the client can handle a 202.
    pub respond_async: bool,
    /// How many seconds the client is willing to wait.
    pub wait: Option<Millis>,
}

/// The longest `wait=N` in seconds: load balancers cut connections after 60.
pub(crate) const WAIT_MAX: Millis = Millis(50_000);

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
                found.wait =
                    value.parse().ok().map(|seconds| Millis::from_secs(seconds).min(WAIT_MAX));
            }
        }
    });
    found
}

/// How a request on an offloadable route is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffloadDecision {
    /// Executed while the client waits.
    Inline(Inline),
    /// Queued durably before the 202 is sent; then the client waits for the outcome.
    Enqueue {
        /// Why it becomes a job.
        reason: Reason,
        /// How long the client waits for the outcome.
        wait: Wait,
    },
    /// Executed at once. When there is no answer after `after`, the client gets 202 and the same
    /// execution goes on.
    Adopt {
        /// Why it may become a job.
        reason: Reason,
        /// How long the client waits for the answer, in milliseconds.
        after: Millis,
        /// How long the client waits where the request is queued after all.
        wait: Wait,
    },
}

/// How long a client waits for the outcome of a queued job before it gets the 202.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It gets the 202 at once.
    No,
    /// As long as the client asks, in seconds (RFC 7240 section 4.3).
    Asked(Millis),
    /// As long as the route says for clients that do not ask, in milliseconds.
    ByRule(Millis),
}

impl OffloadDecision {
    /// Why the request is offloaded, if it is.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Inline(_) => None,
            Self::Enqueue { reason, .. } | Self::Adopt { reason, .. } => Some(reason),
        }
    }
}

/// Why a request is executed while the client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inline {
    /// No route matched, or its route has no `offload`.
    NoRule,
    /// The route's `offload` is switched off.
    Off,
    /// The route's `offload` is in observe mode.
    Observed,
    /// The route offloads requests that prefer it, and this one does not.
    NotPreferred,
    /// The request asks to change the protocol.
    Upgrade,
    /// The request is a CORS preflight: it must be answered at once, and has no credentials.
    Preflight,
    /// HEAD and OPTIONS are not queued, unless the route's `methods` names them.
    MethodNotNamed,
}

impl Inline {
    /// Detail and metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no-rule",
            Self::Off => "off",
            Self::Observed => "observed",
            Self::NotPreferred => "not-preferred",
            Self::Upgrade => "upgrade",
            Self::Preflight => "preflight",
            Self::MethodNotNamed => "method-not-named",
        }
    }
}

/// Why a request is offloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The route offloads every request.
    Always,
    /// The request has `Prefer: respond-async`.
    Preferred,
    /// The route offloads requests that have no answer in time.
    Slow,
    /// Requests of this class are known to be slow.
    Learned,
    /// The application, or the route, has as many requests in flight as it may have.
    Overload,
}

impl Reason {
    /// Metric label, and part of a job's record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Preferred => "preferred",
            Self::Slow => "slow",
            Self::Learned => "learned",
            Self::Overload => "overload",
        }
    }
}

/// The decision as if the rule were `on`. `methods` are those that the route names.
pub(crate) fn by_rule(rule: &Offload, methods: &[String], head: &Head<'_>) -> OffloadDecision {
    if has(head.fields, "upgrade") {
        return OffloadDecision::Inline(Inline::Upgrade);
    }
    if cors::preflight(head).is_some() {
        return OffloadDecision::Inline(Inline::Preflight);
    }
    let is_question = matches!(head.method, "HEAD" | "OPTIONS");
    if is_question && !methods.iter().any(|own| own == head.method) {
        return OffloadDecision::Inline(Inline::MethodNotNamed);
    }
    let Prefer { respond_async, wait } = prefer(head);
    let by_rule = rule.wait.filter(|_| !respond_async).map_or(Wait::No, Wait::ByRule);
    match rule.when {
        When::Always => OffloadDecision::Enqueue {
            reason: Reason::Always,
            wait: wait.map_or(by_rule, Wait::Asked),
        },
        When::Slow => {
            let after = rule.after.unwrap_or_default();
            let after = match wait.filter(|_| respond_async) {
                Some(wait) => wait,
                None if respond_async => after,
                None => after.max(rule.wait.unwrap_or_default()),
            };
            OffloadDecision::Adopt { reason: Reason::Slow, after, wait: by_rule }
        }
        When::Prefer if !respond_async => OffloadDecision::Inline(Inline::NotPreferred),
        When::Prefer => match wait {
            Some(wait) => {
                OffloadDecision::Adopt { reason: Reason::Preferred, after: wait, wait: Wait::No }
            }
            None => OffloadDecision::Enqueue { reason: Reason::Preferred, wait: Wait::No },
        },
    }
}

/// Whether requests of the route may be executed at once and become jobs while they run.
pub fn may_adopt(rule: &Offload) -> bool {
    rule.mode == Mode::On && rule.when != When::Always
}

/// The state of the application when a request arrives that would be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// How long requests of its class take.
    pub learned: Learned,
    /// Executions of the route in flight, whose clients wait.
    pub executing: u64,
    /// Whether one more request would be refused for `overload.concurrency`.
    pub is_full: bool,
    /// Whether the request may be another site's (CSRF). It must not be separated from the fields
    /// by which the application detects that.
    pub is_cross_site: bool,
}

/// Adjusts the decision to the learned latencies and to the application's load. A request that has
/// not been sent yet can still be queued.
pub fn under_load(decision: OffloadDecision, rule: &Offload, load: Load) -> OffloadDecision {
    let OffloadDecision::Adopt { reason, wait, .. } = decision else { return decision };
    if load.is_cross_site {
        return decision;
    }
    if load.is_full || rule.spill_over.is_some_and(|most| load.executing >= most) {
        return OffloadDecision::Enqueue { reason: Reason::Overload, wait };
    }
    if reason == Reason::Slow && load.learned == Learned::Slow {
        return OffloadDecision::Enqueue { reason: Reason::Learned, wait };
    }
    decision
}

/// Whether a request may come from another site in the name of a user identified by a cookie. It
/// must not become a job, which runs without the fields that protect against forged requests.
pub fn is_cross_site(rule: &Offload, cors: Option<&Cors>, head: &Head<'_>) -> bool {
    let named_by_cookie =
        |it: &Identity| matches!(it, Identity::Cookie(_)) || !matches!(it, Identity::Header(_));
    let is_asked = matches!(rule.auth, Auth::Caller { .. })
        && rule.replay_as == ReplayAs::Nobody
        && rule.auth.identities().iter().any(named_by_cookie);
    is_asked && !site::is_own(head, cors)
}

/// The value of a source in a whole request; `None` where there is none.
pub fn value(
    source: &KeySource,
    head: &Head<'_>,
    parameters: &[PathParameter<'_>],
    body: &[u8],
) -> Option<String> {
    match source {
        KeySource::Path(name) => parameters
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.clone().into_owned()),
        KeySource::Query(name) => {
            let (_, query) = head.target.split_once('?')?;
            path::query_values(query, name).next()
        }
        KeySource::Header(name) => first(head.fields, name),
        KeySource::Cookie(name) => cookie(head.fields, name).map(|value| text_of(&value)),
        KeySource::Body(pointer) => {
            let json: serde_json::Value = serde_json::from_slice(body).ok()?;
            match json.pointer(pointer)? {
                serde_json::Value::String(text) => Some(text.clone()),
                serde_json::Value::Number(number) => Some(number.to_string()),
                serde_json::Value::Bool(flag) => Some(flag.to_string()),
                _ => None,
            }
        }
    }
}

/// Decides on a request by the route's `offload`.
pub fn decide(rule: Option<&Offload>, methods: &[String], head: &Head<'_>) -> OffloadDecision {
    match rule {
        None => OffloadDecision::Inline(Inline::NoRule),
        Some(rule) => match rule.mode {
            Mode::On => by_rule(rule, methods, head),
            Mode::Observe => OffloadDecision::Inline(Inline::Observed),
            Mode::Off => OffloadDecision::Inline(Inline::Off),
        },
    }
}
