//! The checked rules as plain data: what `check` compiles a rules file to, as canonical JSON.
//!
//! Durations are milliseconds, sizes bytes. Field order is fixed and maps are sorted, so the
//! same rules always give the same bytes and the same hash.

mod basic;
mod cache;
mod offload;

pub use basic::{KeySource, KeyType, Mode};
pub use cache::{Cache, Lifetime, Override, QueryRest, Versioned};
pub use offload::{Auth, Fallback, Identity, Login, Offload, ReplayAs, Retry, WaitEnds, When};

use crate::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Raised when a field changes meaning; a program refuses a document of another version.
pub const FORMAT: u32 = 2;

/// Attempts of a job where a queue says nothing else.
pub const MAX_ATTEMPTS_DEFAULT: u64 = 5;
/// Of a queue: how long a job waits for an application that is away, in milliseconds.
pub const WAIT_FOR_APP_DEFAULT_MS: u64 = 24 * 3_600_000;

/// The reserved prefix where a file names no other.
pub const JOBS_BASE: &str = "/_spillway";

/// The reserved query parameter where a file names no other.
pub const JOBS_PARAMETER: &str = "spillway-job";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub format: u32,
    pub edge: Edge,
    pub unmatched: Unmatched,
    pub jobs: Jobs,
    pub overload: Overload,
    pub routes: Vec<Route>,
    pub queues: BTreeMap<String, Queue>,
    pub shard_maps: BTreeMap<String, ShardMap>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    pub origin: Option<String>,
    pub canonical: Option<Canonical>,
    /// Hosts that visitors ask, besides the canonical one: the app is told of them where the origin has another.
    pub hosts: Vec<String>,
    /// Whether sidecars refuse what the edge has not signed; a route may say otherwise.
    pub require_signature: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canonical {
    pub from: Vec<String>,
    pub to: String,
}

/// What happens to a request that no route matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    #[default]
    Pass,
    Refuse,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// The reserved prefix, without a slash at the end.
    pub base: String,
    /// The reserved query parameter that names a job under the path of its request.
    pub parameter: String,
    pub page: Page,
}

/// What people see of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// A language tag (BCP 47).
    pub lang: String,
    /// A style sheet of the own site, after the page's own style.
    pub css: Option<String>,
    /// By what they stand for: [`Page::TEXTS`].
    pub texts: BTreeMap<String, String>,
}

impl Page {
    /// What is written on the page, and as which it stands where the rules say nothing else.
    pub const TEXTS: [(&'static str, &'static str); 12] = [
        ("waiting", "Waiting"),
        ("working", "Working"),
        ("done", "Done"),
        ("failed", "Failed"),
        ("cancelled", "Cancelled"),
        ("cancel", "Cancel"),
        ("look-again", "Look again"),
        ("open-result", "Open the result"),
        ("leave-for", "Continue at"),
        ("failed-because", "This job failed:"),
        ("was-cancelled", "This job was cancelled."),
        (
            "try-again",
            "How this job stands can't be found out just now. This page tries again by itself.",
        ),
    ];

    /// What is written in that place.
    pub fn text(&self, place: &str) -> &str {
        let usual = || Self::TEXTS.iter().find(|(own, _)| *own == place).map(|(_, text)| *text);
        self.texts.get(place).map(String::as_str).or_else(usual).unwrap_or_default()
    }
}

impl Default for Page {
    fn default() -> Self {
        Self { lang: "en".to_owned(), css: None, texts: BTreeMap::new() }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            base: JOBS_BASE.to_owned(),
            parameter: JOBS_PARAMETER.to_owned(),
            page: Page::default(),
        }
    }
}

/// What an upstream is sent at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overload {
    pub concurrency: Limit,
}

/// Requests that may wait for an upstream's answer at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    #[default]
    None,
    /// Learned from how long they take: [`crate::overload::Adaptive`].
    Adaptive,
    Fixed(u64),
}

/// Stands for the route of what none matches; no route has this name.
pub const UNMATCHED: &str = "unmatched";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub name: String,
    pub matches: Match,
    pub ambiguous_path: AmbiguousPath,
    pub timeout: Option<u64>,
    /// How long a client may pause in an upload or in reading an answer.
    pub idle_timeout: Option<u64>,
    /// Of the whole exchange, bodies included; milliseconds, as all durations.
    pub total_timeout: Option<u64>,
    pub max_body: Option<u64>,
    /// Requests sent on whose answers have not ended.
    pub concurrency: Option<u64>,
    pub upstream: Option<String>,
    /// `None`: as `[edge]` says.
    pub require_signature: Option<bool>,
    pub cors: Option<Cors>,
    pub cache: Option<Cache>,
    pub shard: Option<ShardRule>,
    pub offload: Option<Offload>,
}

/// Which pages of other origins may call the route (the Fetch standard's CORS protocol).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// `https://app.example.com`, or `*` alone.
    pub origins: Vec<String>,
    /// With cookies; never together with `*`.
    pub credentials: bool,
    /// Milliseconds that a browser may keep a preflight's answer.
    pub max_age: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    pub path: String,
    pub strict_slash: bool,
    pub hosts: Vec<String>,
    pub methods: Vec<String>,
    pub headers: BTreeMap<String, String>,
    pub query: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AmbiguousPath {
    Refuse,
    Bypass,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRule {
    pub mode: Mode,
    pub map: String,
    pub from: Vec<KeySource>,
    pub body_limit: u64,
}

/// How a result reaches its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    Proxy,
    /// To an address of the store that is good for a few minutes.
    Redirect,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    pub method: String,
    pub path: Option<String>,
    pub visibility: u64,
    pub job_timeout: u64,
    pub result_ttl: u64,
    pub message: String,
    pub notify_app: Option<String>,
    pub notify_urls: Vec<String>,
    /// Whether the URLs may lead to private addresses.
    pub notify_private: bool,
    pub max_attempts: u64,
    /// How long a job without a deadline waits for an application that is away.
    pub wait_for_app: u64,
    pub concurrency: u64,
    /// Jobs of one tenant at once in one consumer.
    pub tenant_concurrency: Option<u64>,
    pub result: Delivery,
    /// Of a bare message: the header the app takes its user from.
    pub user: Option<QueueUser>,
    /// Whose the job of a bare message is: the caller whom this source names as `user` does.
    pub owner: Option<Identity>,
    /// Whoever reads the queue may end its jobs: messages have a token for that.
    pub foreign_consumers: bool,
}

/// Where a plain producer's message says for whom it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueUser {
    pub header: String,
    /// A JSON pointer into the message.
    pub from: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardMap {
    pub key_type: KeyType,
    /// Lower bounds, ascending; each range ends where the next begins. `None` = open below.
    pub ranges: Vec<Range>,
    /// Exclusive upper end of the last range; `None` = open.
    pub until: Option<String>,
    pub outside: Option<String>,
    pub shards: BTreeMap<String, Shard>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub from: Option<String>,
    pub shard: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    pub upstream: Option<String>,
}

impl Document {
    /// Canonical JSON: one line, fixed field order, sorted maps.
    pub fn to_json(&self) -> String {
        // Plain data with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The path that says whether somebody is the owner of a bare message's job: the `auth.check` of the first
    /// route that knows its callers so, of those that offload to this queue before others.
    pub fn check_of_owner(&self, queue: &str, owner: &Identity) -> Option<&str> {
        let rules = self.routes.iter().filter_map(|route| route.offload.as_ref());
        let known = rules.filter(|rule| rule.auth.identities().contains(owner));
        match &known.min_by_key(|rule| rule.queue != queue)?.auth {
            Auth::Caller { check, .. } => check.as_deref(),
            Auth::Open => None,
        }
    }

    /// Whether a sidecar refuses a request of this route that the edge has not signed.
    pub fn requires_signature(&self, route: Option<&Route>) -> bool {
        let own = route.and_then(|route| route.require_signature);
        own.unwrap_or(self.edge.require_signature)
    }

    /// The routes whose callers only a named proxy can tell.
    pub fn routes_with_callers_of_proxies(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(|route| {
            let identities = route.offload.iter().flat_map(|offload| offload.auth.identities());
            identities.into_iter().any(
                |it| matches!(it, Identity::Header(name) if crate::trust::needs_named_proxy(name)),
            )
        })
    }

    /// `config_hash`: SHA-256 of the canonical JSON, in hex. Both halves report it.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.to_json().as_bytes()))
    }
}
