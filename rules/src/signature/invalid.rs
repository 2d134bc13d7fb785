//! What a signature must be like, and why one is not.

use crate::problem::Problem;

/// The name of our signature among those of others in the same fields.
pub(super) const LABEL: &str = "spillway";
/// Seconds from `created` to `expires`: the way to the sidecar, a renewal in the background included.
pub(super) const LIFETIME_S: i64 = 60;
/// Seconds by which the clocks of edge and sidecar may differ.
pub(super) const SKEW_S: i64 = 30;

/// Why a request does not pass as the edge's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    Missing,
    Malformed,
    UnknownKey,
    WrongAlgorithm,
    WrongComponents,
    TooLongLived,
    NotYetValid,
    Expired,
    Mismatch,
    Replayed,
    NoncesFull,
}

impl Invalid {
    /// Metric label and detail of the refusal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::WrongAlgorithm => "wrong-algorithm",
            Self::WrongComponents => "wrong-components",
            Self::TooLongLived => "too-long-lived",
            Self::NotYetValid => "not-yet-valid",
            Self::Expired => "expired",
            Self::Mismatch => "mismatch",
            Self::Replayed => "replayed",
            Self::NoncesFull => "nonces-full",
        }
    }

    pub fn problem(self) -> Problem {
        match self {
            Self::Missing => Problem::SignatureMissing,
            Self::NoncesFull => Problem::SignatureUnchecked,
            _ => Problem::SignatureInvalid,
        }
    }
}
