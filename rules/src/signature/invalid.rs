//! The requirements on a signature, and why one is invalid.

use crate::problem::Problem;

/// The label of Spillway's signature among others in the same fields.
pub(super) const LABEL: &str = "spillway";
/// Seconds from `created` to `expires`. They cover the way to the sidecar, and a background
/// revalidation.
pub(super) const LIFETIME_S: i64 = 60;
/// Seconds by which the clocks of edge and sidecar may differ.
pub(super) const SKEW_S: i64 = 30;

/// Why a request's edge signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// The request has no signature of the edge's.
    Missing,
    /// The two fields can't be parsed, or do not belong together.
    Malformed,
    /// The key id is not known here.
    UnknownKey,
    /// The algorithm is not hmac-sha256.
    WrongAlgorithm,
    /// A required component is not covered, or a covered one is absent from the request.
    WrongComponents,
    /// Its lifetime is longer than allowed.
    TooLongLived,
    /// It was created in the future, by more than the allowed clock skew.
    NotYetValid,
    /// It has expired.
    Expired,
    /// It does not match this request under this key.
    Mismatch,
    /// The same signature was seen before, on a request that must not be repeated.
    Replayed,
    /// Replay protection is full: a copy could not be told from the first request.
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

    /// The problem with which such a request is refused.
    pub fn problem(self) -> Problem {
        match self {
            Self::Missing => Problem::SignatureMissing,
            Self::NoncesFull => Problem::SignatureUnchecked,
            _ => Problem::SignatureInvalid,
        }
    }
}
