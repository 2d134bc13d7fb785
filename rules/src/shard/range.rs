//! What all ranges have in common, whether their map is live or that of a rules file.

use crate::document::KeyType;
use crate::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The epoch of a map of the rules file.
pub const FILE_EPOCH: u64 = 1;

/// The name, in headers and metrics, of the keys that no range holds.
pub(super) const OUTSIDE: &str = "outside";

/// Hex digits of the SHA-256 that stands for the bound of a text key in metrics.
const DIGITS: usize = 8;

/// What may be done in a range while it moves from one owner to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeState {
    /// It does not move.
    Active,
    /// It will move: requests go on, jobs wait.
    Announced,
    /// It moves: reads go on, writes and jobs wait.
    Fenced,
}

impl RangeState {
    /// The name in the object, in metrics and in what commands print.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Announced => "announced",
            Self::Fenced => "fenced",
        }
    }
}

/// A half-open interval of keys, `-` for an open end.
pub fn interval(from: Option<&str>, until: Option<&str>) -> String {
    format!("[{},{})", from.unwrap_or("-"), until.unwrap_or("-"))
}

/// The name of a range in metrics: its lower bound, `-` for an open one; for text keys, which may be names of
/// people, eight hex digits of its SHA-256.
pub fn range_label(key_type: KeyType, from: Option<&str>) -> String {
    match from {
        None => "-".to_owned(),
        Some(from) if key_type != KeyType::Text => from.to_owned(),
        Some(from) => {
            let mut hash = hex(&Sha256::digest(from.as_bytes()));
            hash.truncate(DIGITS);
            hash
        }
    }
}
