//! How far the word of a peer counts about those before it, and which fields are its to say.

/// Only Spillway itself may say these to the app.
const OURS: [&str; 3] = ["x-shard", "x-job-", "x-spillway-"];

/// By these a client could make the app believe that it was asked for another target or host than the
/// rules and the cache's key were told.
const OTHER_TARGETS: [&str; 3] = ["x-original-url", "x-rewrite-url", "x-original-host"];

/// How a request reached a proxy: scheme, client address, host and port. Who is on the same network is
/// believed in these.
const WAY: [&str; 8] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-real-ip",
];

/// Who a proxy found the client to be (RFC 9440); with all other `X-Forwarded-*` they are believed of
/// a named proxy only.
const CERTIFICATES: [&str; 2] = ["client-cert", "client-cert-chain"];

/// What the edge takes from no client besides: a trusted proxy's number of the request.
const REQUEST_ID: &str = "x-request-id";

/// How far the word of a peer counts about those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Anybody: it says nothing about others.
    Nobody,
    /// On the same network: scheme, client address, host and port.
    Network,
    /// A proxy that the operator has named: all, identities included.
    Named {
        /// `Forwarded` (RFC 7239), too, which most proxies pass on as a client wrote it.
        by_forwarded: bool,
    },
}

impl Trust {
    /// Whether the peer is believed how it was asked.
    pub fn is_some(self) -> bool {
        self != Self::Nobody
    }

    /// Whether there may be many behind the peer.
    pub fn is_named(self) -> bool {
        matches!(self, Self::Named { .. })
    }

    /// Whether a field (lower-case name) is the peer's to say.
    fn covers(self, name: &str) -> bool {
        if name == "forwarded" {
            return self == Self::Named { by_forwarded: true };
        }
        match self {
            Self::Named { .. } => true,
            Self::Network => !is_said_of_others(name) || WAY.contains(&name),
            Self::Nobody => !is_said_of_others(name),
        }
    }
}

/// Whether a field tells something about the client that is behind the peer.
fn is_said_of_others(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name == "x-real-ip"
        || name == "forwarded"
        || CERTIFICATES.contains(&name)
}

/// Whether the edge keeps a field of a client back, because only a proxy may say it.
pub(crate) fn is_of_proxies(name: &str) -> bool {
    is_said_of_others(name) || name == REQUEST_ID
}

/// Whether a client names itself by this field only if a proxy is believed: `identity` of jobs.
pub(crate) fn needs_named_proxy(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    is_said_of_others(&name) && !WAY.contains(&name.as_str())
}

/// Why a field of a request was taken off, for the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// CGI and WSGI read `X_Job_Id` as `X-Job-Id`.
    Underscore,
    /// `X-Shard*`, `X-Job-*`, `X-Spillway-*`.
    Ours,
    /// By which a client could name another target or host than the rules were asked about.
    OtherTarget,
    /// Said of others by a peer that is not believed in it.
    Untrusted,
    /// Who the caller is, which the route's `auth.check` says.
    SaidByCheck,
}

impl Removed {
    /// Each of them, for the metric's labels.
    pub const ALL: [Self; 5] =
        [Self::Underscore, Self::Ours, Self::OtherTarget, Self::Untrusted, Self::SaidByCheck];

    /// Metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Underscore => "underscore",
            Self::Ours => "reserved-prefix",
            Self::OtherTarget => "other-target",
            Self::Untrusted => "untrusted-peer",
            Self::SaidByCheck => "said-by-check",
        }
    }
}

/// Why a field (lower-case name) of a peer is not passed on; none for what is.
pub fn why_removed(name: &str, trust: Trust) -> Option<Removed> {
    if name.contains('_') {
        return Some(Removed::Underscore);
    }
    if name.starts_with("x-") {
        if OURS.iter().any(|prefix| name.starts_with(prefix)) {
            return Some(Removed::Ours);
        }
        if OTHER_TARGETS.contains(&name) {
            return Some(Removed::OtherTarget);
        }
    }
    (!trust.covers(name)).then_some(Removed::Untrusted)
}
