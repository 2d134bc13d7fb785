//! Why a pod is left as it is, and what its owner should know.

use std::fmt;

/// Why a pod is not injected. The names are metric labels, event reasons and what the CLI prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Disabled,
    NotAsked,
    NotAPod,
    HostNetwork,
    Windows,
    ContainerExists,
    VolumeExists,
    StaleRecord,
    BadValue,
    NoPort,
    AmbiguousPort,
    Protocol,
    PortInUse,
    NameTaken,
    NeverEnds,
}

impl Reason {
    pub const ALL: [Self; 15] = [
        Self::Disabled,
        Self::NotAsked,
        Self::NotAPod,
        Self::HostNetwork,
        Self::Windows,
        Self::ContainerExists,
        Self::VolumeExists,
        Self::StaleRecord,
        Self::BadValue,
        Self::NoPort,
        Self::AmbiguousPort,
        Self::Protocol,
        Self::PortInUse,
        Self::NameTaken,
        Self::NeverEnds,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NotAsked => "not-asked",
            Self::NotAPod => "not-a-pod",
            Self::HostNetwork => "host-network",
            Self::Windows => "windows",
            Self::ContainerExists => "container-exists",
            Self::VolumeExists => "volume-exists",
            Self::StaleRecord => "stale-record",
            Self::BadValue => "bad-value",
            Self::NoPort => "no-port",
            Self::AmbiguousPort => "ambiguous-port",
            Self::Protocol => "protocol",
            Self::PortInUse => "port-in-use",
            Self::NameTaken => "name-taken",
            Self::NeverEnds => "never-ends",
        }
    }

    /// Whether the pod's own annotations are wrong.
    pub fn is_fault(self) -> bool {
        matches!(self, Self::BadValue | Self::StaleRecord)
    }

    /// Whether this is a wish of the owner or the nature of the pod, which nobody needs to be told.
    pub fn is_quiet(self) -> bool {
        matches!(self, Self::Disabled | Self::NotAsked | Self::NoPort)
    }
}

/// One reason, with what it is about and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub detail: String,
}

impl Refusal {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

/// What does not stop an injection, but should be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caution {
    UnknownAnnotation,
    Misplaced,
    OwnPreStop,
    ShortGrace,
    HostPort,
    Guaranteed,
    Burstable,
    PullSecrets,
    Bypass,
}

impl Caution {
    pub const ALL: [Self; 9] = [
        Self::UnknownAnnotation,
        Self::Misplaced,
        Self::OwnPreStop,
        Self::ShortGrace,
        Self::HostPort,
        Self::Guaranteed,
        Self::Burstable,
        Self::PullSecrets,
        Self::Bypass,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownAnnotation => "unknown-annotation",
            Self::Misplaced => "misplaced",
            Self::OwnPreStop => "own-prestop",
            Self::ShortGrace => "short-grace",
            Self::HostPort => "host-port",
            Self::Guaranteed => "guaranteed",
            Self::Burstable => "burstable",
            Self::PullSecrets => "pull-secrets",
            Self::Bypass => "bypass",
        }
    }
}

/// One caution, with what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub caution: Caution,
    pub detail: String,
}

impl Warning {
    pub fn new(caution: Caution, detail: impl Into<String>) -> Self {
        Self { caution, detail: detail.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.caution.as_str(), self.detail)
    }
}
