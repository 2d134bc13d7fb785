//! How far a peer is trusted about the clients behind it, and which fields it may set.

/// Fields that only Spillway itself may set for the application.
const OURS: [&str; 3] = ["x-shard", "x-job-", "x-spillway-"];

/// Fields with which a client could tell the application another target or host than the rules and
/// the cache key used.
const OTHER_TARGETS: [&str; 3] = ["x-original-url", "x-rewrite-url", "x-original-host"];

/// How a request reached a proxy: scheme, client address, host and port. Peers on the same network
/// are trusted with these fields.
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

/// The client certificate as a proxy states it (RFC 9440). These and all other `X-Forwarded-*` are
/// accepted from a named proxy only.
const CERTIFICATES: [&str; 2] = ["client-cert", "client-cert-chain"];

/// A field that the edge accepts from no client, either: a trusted proxy's request id.
const REQUEST_ID: &str = "x-request-id";

/// How far a peer is trusted about the clients behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The peer may be anybody; it is trusted about itself only.
    Nobody,
    /// The peer is on the same network; it is trusted with scheme, client address, host and port.
    Network,
    /// The operator has named the proxy; it is trusted with everything, identities included.
    Named {
        /// Whether `Forwarded` (RFC 7239) is trusted, too. Most proxies forward it as a client
        /// wrote it.
        by_forwarded: bool,
    },
}

impl Trust {
    /// Whether the peer is trusted about how the client made its request.
    pub fn is_some(self) -> bool {
        self != Self::Nobody
    }

    /// Whether many clients may be behind the peer.
    pub fn is_named(self) -> bool {
        matches!(self, Self::Named { .. })
    }

    /// Whether the peer may set a field (lower-case name).
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

/// Whether a field says something about the client behind the peer.
fn is_said_of_others(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name == "x-real-ip"
        || name == "forwarded"
        || CERTIFICATES.contains(&name)
}

/// Whether the edge drops a client's field, because only a proxy may set it.
pub(crate) fn is_of_proxies(name: &str) -> bool {
    is_said_of_others(name) || name == REQUEST_ID
}

/// Whether this field identifies a caller only where a proxy is trusted; for the `identity` of
/// jobs.
pub(crate) fn needs_named_proxy(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    is_said_of_others(&name) && !WAY.contains(&name.as_str())
}

/// Why a field of a request was removed, for the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The name has an underscore: CGI and WSGI read `X_Job_Id` as `X-Job-Id`.
    Underscore,
    /// Only Spillway may set it: `X-Shard*`, `X-Job-*`, `X-Spillway-*`.
    Ours,
    /// It could name another target or host than the rules were evaluated for.
    OtherTarget,
    /// It is about others, and the peer is not trusted with that.
    Untrusted,
    /// It identifies the caller, which only the route's `auth.check` may do.
    SaidByCheck,
}

impl Removed {
    /// All reasons, for the metric's labels.
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

/// Why a field (lower-case name) of a peer is removed; none where it is forwarded.
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
