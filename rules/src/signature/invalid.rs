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
    /// The request has no signature of the edge's.
    Missing,
    /// The two fields can't be read, or do not belong together.
    Malformed,
    /// No key of this name is known here.
    UnknownKey,
    /// Another algorithm than hmac-sha256.
    WrongAlgorithm,
    /// A component that must be covered is not, or one is covered that the request does not have.
    WrongComponents,
    /// It lasts for longer than a minute.
    TooLongLived,
    /// It was made in the future, by more than clocks may differ.
    NotYetValid,
    /// Its end is over.
    Expired,
    /// It was not made of this request with this key.
    Mismatch,
    /// The same signature was here before, on a request that may not be repeated.
    Replayed,
    /// As many signatures are remembered as can be: a copy could not be told from the first.
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

    /// The problem that a request with it is refused with.
    pub fn problem(self) -> Problem {
        match self {
            Self::Missing => Problem::SignatureMissing,
            Self::NoncesFull => Problem::SignatureUnchecked,
            _ => Problem::SignatureInvalid,
        }
    }
}
