//! What a route says of the cache.

use super::basic::Mode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `cache` of a route. Durations are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Whether answers are stored.
    pub mode: Mode,
    /// Which names never change what they stand for.
    pub versioned: Versioned,
    /// Lifetime at the edge. None: not stored there.
    pub edge: Option<Lifetime>,
    /// Lifetime at the sidecar. None: not stored there.
    pub sidecar: Option<Lifetime>,
    /// `max-age` that clients are told with a 200, in the place of the origin's `Cache-Control`.
    pub browser: Option<u64>,
    /// Past its lifetime, how long an answer is served while it is revalidated (RFC 5861 section 3). None: as
    /// the origin says.
    pub stale_while_revalidate: Option<u64>,
    /// Past its lifetime, how long an answer is served when the origin fails (RFC 5861 section 4). None: as the
    /// origin says.
    pub stale_if_error: Option<u64>,
    /// No answer that is older is served, errors aside. None: no such limit.
    pub max_staleness: Option<u64>,
    /// `None` keeps every parameter in the key.
    pub query: Option<Vec<String>>,
    /// What becomes of a parameter that `query` does not list.
    pub query_rest: QueryRest,
    /// Lower-case names of request fields that are part of the key, and reach the origin.
    pub headers: Vec<String>,
    /// Lower-case names of fields that reach the app and are not part of the key; `*` for all.
    pub unkeyed_headers: Vec<String>,
    /// Names of cookies that are part of the key, and reach the origin; no others do. Empty: see
    /// `ignore_cookies`.
    pub cookies: Vec<String>,
    /// No cookie reaches the origin. Otherwise, and without `cookies`, a request with a cookie goes past the
    /// cache.
    pub ignore_cookies: bool,
    /// A request that has one of them goes past the cache; no other cookie reaches the app.
    pub bypass_cookies: Vec<String>,
    /// Directives of the origin that are not obeyed.
    pub overrides: Vec<Override>,
    /// Lower-case names of fields that take the place of Cache-Control (RFC 9213).
    pub targeted: Vec<String>,
    /// Milliseconds for which answers with these statuses are kept, whatever they say.
    pub negative: BTreeMap<u16, u64>,
    /// An answer with `Set-Cookie` is stored without it; otherwise it is not stored.
    pub strip_cookies: bool,
    /// Tags that each answer can be purged by; `{name}` is a parameter of the path template.
    pub tags: Vec<String>,
}

/// Which files of a route never change under their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versioned {
    /// None.
    No,
    /// Those with a version or content hash in their names, of which there is no doubt.
    ByName,
    /// All, but those with names of words alone: a build tool wrote the folder.
    All,
}

/// How long an answer is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// The origin's own header fields decide.
    FromOrigin,
    /// Milliseconds from receipt, less the upstream `Age`.
    Fixed(u64),
}

/// What becomes of a query parameter that the route does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueryRest {
    /// It reaches neither the origin nor the key.
    Strip,
    /// The request goes past the cache.
    Bypass,
}

/// Origin directives that a route may be told not to obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Override {
    /// `private` (RFC 9111 section 5.2.2.7).
    Private,
    /// `no-cache` (RFC 9111 section 5.2.2.4).
    NoCache,
    /// `no-store` (RFC 9111 section 5.2.2.5).
    NoStore,
    /// `must-revalidate` and `proxy-revalidate` (RFC 9111 sections 5.2.2.2 and 5.2.2.8).
    MustRevalidate,
    /// Every client gets the cookie that one was given.
    SetCookie,
}
