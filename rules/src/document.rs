//! The checked rules as plain data: what `check` compiles a rules file to, as canonical JSON.
//!
//! Durations are milliseconds, sizes bytes. Field order is fixed and maps are sorted, so the
//! same rules always give the same bytes and the same hash.

mod basic;
mod cache;
mod offload;
mod queue;
mod shards;

pub use basic::{KeySource, KeyType, Mode};
pub use cache::{Cache, Lifetime, Override, QueryRest, Versioned};
pub use offload::{Auth, Identity, Login, Offload, QueueFallback, ReplayAs, Retry, WaitEnds, When};
pub use queue::{Delivery, Queue, QueueUser};
pub use shards::{Hold, Range, SETTLE_DEFAULT_MS, Shard, ShardMapSection, ShardRule};

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
pub(crate) const JOBS_BASE: &str = "/_spillway";

/// The reserved query parameter where a file names no other.
pub(crate) const JOBS_PARAMETER: &str = "spillway-job";

/// A checked rules file. A key that a file leaves out stands here with its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`FORMAT`] of the program that compiled it.
    pub format: u32,
    /// `[edge]`
    pub edge: Edge,
    /// `default`: what becomes of a request that no route matches.
    pub unmatched: Unmatched,
    /// `[jobs]`
    pub jobs: Jobs,
    /// `[overload]`
    pub overload: Overload,
    /// `[[route]]`, in the order of the file: [`crate::route::Found::index`] counts in it.
    pub routes: Vec<Route>,
    /// `[queue.NAME]` by name.
    pub queues: BTreeMap<String, Queue>,
    /// `[shard_map.NAME]` by name.
    pub shard_maps: BTreeMap<String, ShardMapSection>,
}

/// `[edge]`: how the edge and the sidecars behind it work together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// `scheme://host` that the edge sends requests to. None: the zone's own origin, behind the Worker's route.
    pub origin: Option<String>,
    /// Hosts that are redirected to another one.
    pub canonical: Option<Canonical>,
    /// Hosts that visitors ask, besides the canonical one: the app is told of them where the origin has another.
    pub hosts: Vec<String>,
    /// Whether sidecars refuse what the edge has not signed; a route may say otherwise.
    pub require_signature: bool,
}

/// `[edge] canonical`: hosts that the edge answers with 308 (RFC 9110 section 15.4.9) to another host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canonical {
    /// The hosts that are redirected, in lower case.
    pub from: Vec<String>,
    /// The host that they are redirected to.
    pub to: String,
}

/// What happens to a request that no route matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// It is sent on to the application, uncached.
    #[default]
    Pass,
    /// 404 with the problem `no-route`.
    Refuse,
}

/// `[jobs]`: where jobs are looked at, and what people see of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// The reserved prefix, without a slash at the end.
    pub base: String,
    /// The reserved query parameter that names a job under the path of its request.
    pub parameter: String,
    /// `[jobs.page]`: the page of a job in a browser.
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
    /// How many requests of one sidecar may wait for an upstream's answer.
    pub concurrency: Limit,
}

/// Requests that may wait for an upstream's answer at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// As many as come.
    #[default]
    None,
    /// Learned from how long they take: [`crate::overload::Adaptive`].
    Adaptive,
    /// So many, 1 to 100,000.
    Fixed(u64),
}

/// Stands for the route of what none matches; no route has this name.
pub const UNMATCHED: &str = "unmatched";

/// `[[route]]`: which requests, and what is done with them. Durations are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Metric label and log field: up to 64 lower-case letters, digits, `-` and `_`, unique, never
    /// [`UNMATCHED`].
    pub name: String,
    /// `match`: which requests belong to the route.
    pub matches: Match,
    /// What becomes of a path that servers read in different ways.
    pub ambiguous_path: AmbiguousPath,
    /// Until the head of the answer must be there; then 504 `upstream-timeout`. None: 60 s.
    pub timeout: Option<u64>,
    /// How long a client may pause in an upload or in reading an answer.
    pub idle_timeout: Option<u64>,
    /// Of the whole exchange, bodies included; milliseconds, as all durations.
    pub total_timeout: Option<u64>,
    /// Bytes that a request's body may have; a longer one is 413 `body-too-large`. None: no limit.
    pub max_body: Option<u64>,
    /// Requests sent on whose answers have not ended.
    pub concurrency: Option<u64>,
    /// Name of the upstream, as `--upstream` binds it. None: the local application.
    pub upstream: Option<String>,
    /// `None`: as `[edge]` says.
    pub require_signature: Option<bool>,
    /// `cors`: which pages of other origins may read the answers.
    pub cors: Option<Cors>,
    /// `cache`: what is stored. None: nothing.
    pub cache: Option<Cache>,
    /// `shard`: where the key is that says which shard a request belongs to.
    pub shard: Option<ShardRule>,
    /// `offload`: which requests become jobs.
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

/// `match` of a route. All that is said must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// A path template, which [`crate::route::Template`] reads.
    pub path: String,
    /// Whether `/a/` is another path than `/a`.
    pub strict_slash: bool,
    /// Hosts in lower case, with or without a port; empty: every host.
    pub hosts: Vec<String>,
    /// Methods in capitals; `GET` matches HEAD, too. Empty: every method.
    pub methods: Vec<String>,
    /// Field names in lower case, and the value that the first line of each has.
    pub headers: BTreeMap<String, String>,
    /// Names of parameters, and the decoded value that the first of each name has.
    pub query: BTreeMap<String, String>,
}

/// What becomes of a path that servers read in different ways ([`crate::path::Ambiguous`]) and that meets a
/// rule in one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AmbiguousPath {
    /// 400 with the problem `path-ambiguous`.
    Refuse,
    /// It is sent on as it came, past every rule.
    Bypass,
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

    /// `config_hash`: SHA-256 of the canonical JSON, in hex. Both halves report it. The ranges of a live map
    /// are no part of it: they are the seed of an object that has changed since.
    pub fn hash(&self) -> String {
        if self.shard_maps.values().all(|map| !map.live) {
            return hex(&Sha256::digest(self.to_json().as_bytes()));
        }
        let mut own = self.clone();
        for map in own.shard_maps.values_mut().filter(|map| map.live) {
            (map.ranges, map.until, map.outside) = (Vec::new(), None, None);
        }
        hex(&Sha256::digest(own.to_json().as_bytes()))
    }

    /// Hash of everything that processes which share a live map must agree on: its keys and shards, and the
    /// shard rules of the routes that use it.
    pub fn map_rules(&self, name: &str) -> String {
        let map = self.shard_maps.get(name).map(|map| (map.key_type, &map.shards));
        let rules =
            self.routes.iter().filter_map(|route| Some((&route.name, route.shard.as_ref()?)));
        let rules: Vec<_> = rules.filter(|(_, rule)| rule.map == name).collect();
        let json = serde_json::to_string(&(map, rules)).unwrap_or_default();
        hex(&Sha256::digest(json.as_bytes()))
    }
}
