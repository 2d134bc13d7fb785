//! What all ranges have in common, whether their map is live or that of a rules file.

use serde::{Deserialize, Serialize};

/// The epoch of a map of the rules file.
pub const FILE_EPOCH: u64 = 1;

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
