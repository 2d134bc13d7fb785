//! Values that occur in several parts of a route.

use serde::{Deserialize, Serialize};

/// Whether a rule is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The rule is applied.
    On,
    /// The rule is not applied; what it would have done is counted (`spillway_observed_total`).
    Observe,
    /// The rule is treated as absent.
    Off,
}

/// Where a value is in a request. In the rules file: `path:NAME`, `query:NAME`, `header:NAME`,
/// `cookie:NAME` or `body:/json/pointer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeySource {
    /// A parameter of the route's path template.
    Path(String),
    /// A query parameter.
    Query(String),
    /// A header field, with its name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A JSON pointer (RFC 6901).
    Body(String),
}

/// How shard keys are parsed and ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// A signed integer of 64 bits, without `+`, leading zeros or exponent.
    Int,
    /// 1 to 256 bytes without control characters, ordered by bytes.
    Text,
    /// 36 characters with dashes (RFC 9562 section 4), in either case.
    Uuid,
    /// RFC 3339 with an offset, to microseconds, ordered as UTC.
    Timestamp,
}

impl KeyType {
    /// The name in the rules file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Text => "text",
            Self::Uuid => "uuid",
            Self::Timestamp => "timestamp",
        }
    }
}
