//! The cache rule of a route.

use super::basic::Mode;
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `cache` of a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Whether answers are stored.
    pub mode: Mode,
    /// Which file names never change their contents.
    pub versioned: Versioned,
    /// The lifetime at the edge. None: not stored there.
    pub edge: Option<Lifetime>,
    /// The lifetime at the sidecar. None: not stored there.
    pub sidecar: Option<Lifetime>,
    /// The `max-age` that clients get with a 200, in milliseconds, instead of the origin's
    /// `Cache-Control`.
    pub browser: Option<Millis>,
    /// Past its lifetime, how long an answer is served while it is revalidated (RFC 5861 section 3). None: as
    /// the origin says.
    pub stale_while_revalidate: Option<Millis>,
    /// Past its lifetime, how long an answer is served when the origin fails (RFC 5861 section 4). None: as the
    /// origin says.
    pub stale_if_error: Option<Millis>,
    /// The greatest age at which an answer is served, unless the origin fails. None: no such limit.
    pub max_staleness: Option<Millis>,
    /// The query parameters that are part of the key. `None`: all are.
    pub query: Option<Vec<String>>,
    /// What becomes of query parameters that `query` does not list.
    pub query_rest: QueryRest,
    /// Lower-case names of request fields that are part of the key, and reach the origin.
    pub headers: Vec<String>,
    /// Lower-case names of fields that reach the application without being part of the key; `*`
    /// stands for all.
    pub unkeyed_headers: Vec<String>,
    /// Names of the cookies that are part of the key and reach the origin; no others do. Empty: see
    /// `ignore_cookies`.
    pub cookies: Vec<String>,
    /// Whether all cookies are removed. Otherwise, and without `cookies`, a request with a cookie
    /// bypasses the cache.
    pub ignore_cookies: bool,
    /// A request with one of these cookies bypasses the cache; no other cookie reaches the
    /// application.
    pub bypass_cookies: Vec<String>,
    /// Directives of the origin that are ignored.
    pub overrides: Vec<Override>,
    /// Lower-case names of fields that replace `Cache-Control` (RFC 9213).
    pub targeted: Vec<String>,
    /// For each status, how long its answers are stored in milliseconds, whatever the origin says.
    pub negative: BTreeMap<u16, Millis>,
    /// Whether `Set-Cookie` is removed from an answer before it is stored. Otherwise such an answer
    /// is not stored.
    pub strip_cookies: bool,
    /// Tags by which each answer can be purged; `{name}` is a parameter of the path template.
    pub tags: Vec<String>,
}

/// Which files of a route never change under their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versioned {
    /// None.
    No,
    /// Those whose names certainly contain a version or content hash.
    ByName,
    /// All, except files whose names are plain words: a build tool wrote the folder.
    All,
}

/// How long an answer is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// The origin's own header fields decide.
    FromOrigin,
    /// A fixed lifetime in milliseconds from receipt, less the upstream `Age`.
    Fixed(Millis),
}

/// What becomes of a query parameter that the route does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueryRest {
    /// It reaches neither the origin nor the key.
    Strip,
    /// The request bypasses the cache.
    Bypass,
}

/// Directives of the origin that a route may ignore.
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
    /// `Set-Cookie`: every client gets the cookie of the stored answer.
    SetCookie,
}
