//! What a route says of the cache.

use super::basic::Mode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    pub mode: Mode,
    pub versioned: Versioned,
    pub edge: Option<Lifetime>,
    pub sidecar: Option<Lifetime>,
    pub browser: Option<u64>,
    pub stale_while_revalidate: Option<u64>,
    pub stale_if_error: Option<u64>,
    pub max_staleness: Option<u64>,
    /// `None` keeps every parameter in the key.
    pub query: Option<Vec<String>>,
    pub query_rest: QueryRest,
    pub headers: Vec<String>,
    /// Lower-case names of fields that reach the app and are not part of the key; `*` for all.
    pub unkeyed_headers: Vec<String>,
    pub cookies: Vec<String>,
    pub ignore_cookies: bool,
    /// A request that has one of them goes past the cache; no other cookie reaches the app.
    pub bypass_cookies: Vec<String>,
    pub overrides: Vec<Override>,
    /// Lower-case names of fields that take the place of Cache-Control (RFC 9213).
    pub targeted: Vec<String>,
    /// Milliseconds for which answers with these statuses are kept, whatever they say.
    pub negative: BTreeMap<u16, u64>,
    pub strip_cookies: bool,
    pub tags: Vec<String>,
}

/// Which files of a route never change under their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versioned {
    No,
    /// Those with a version or content hash in their names, of which there is no doubt.
    ByName,
    /// All, but those with names of words alone: a build tool wrote the folder.
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// The origin's own header fields decide.
    FromOrigin,
    /// Milliseconds from receipt, less the upstream `Age`.
    Fixed(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueryRest {
    Strip,
    Bypass,
}

/// Origin directives that a route may be told not to obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Override {
    Private,
    NoCache,
    NoStore,
    MustRevalidate,
    /// Every client gets the cookie that one was given.
    SetCookie,
}
