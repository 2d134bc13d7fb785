//! The checked rules as plain data: what `check` compiles a rules file to, as canonical JSON.
//!
//! Durations are written as milliseconds, sizes as bytes. Field order is fixed and maps are sorted, so the
//! same rules always give the same bytes and the same hash.

mod basic;
mod cache;
mod offload;
mod queue;
mod shards;

use crate::time::Millis;
pub use basic::{KeySource, KeyType, Mode};
pub use cache::{Cache, Lifetime, Override, QueryRest, Versioned};
pub use offload::{Auth, Identity, Login, Offload, QueueFallback, ReplayAs, Retry, WaitEnds, When};
pub use queue::{Delivery, Queue, QueueUser};
pub use shards::{Hold, Range, SETTLE_DEFAULT, Shard, ShardMapSection, ShardRule};

use crate::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Raised when a field changes its meaning. A program refuses a document of another version.
pub const FORMAT: u32 = 2;

/// Attempts of a job where its queue does not say how many.
pub const MAX_ATTEMPTS_DEFAULT: u64 = 5;
/// How long a job waits for an application that is away, in milliseconds, where its queue does not
/// say.
pub const WAIT_FOR_APP_DEFAULT: Millis = Millis(24 * 3_600_000);

/// The reserved prefix where the file sets none.
pub(crate) const JOBS_BASE: &str = "/_spillway";

/// The reserved query parameter where the file sets none.
pub(crate) const JOBS_PARAMETER: &str = "spillway-job";

/// A checked rules file. Keys that the file omits have their defaults here.
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
    /// `scheme://host` to which the edge sends requests. None: the zone's own origin, behind the
    /// Worker's route.
    pub origin: Option<String>,
    /// Hosts that are redirected to another one.
    pub canonical: Option<Canonical>,
    /// Hosts, besides the canonical one, that visitors ask for. The application gets their name
    /// where the origin has another one.
    pub hosts: Vec<String>,
    /// Whether sidecars refuse requests that the edge has not signed. A route may override it.
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

/// `[jobs]`: where the status of jobs is served, and how people see it.
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
    /// The page's texts by their place: see [`Page::TEXTS`].
    pub texts: BTreeMap<String, String>,
}

impl Page {
    /// The places of texts on the page, with their defaults.
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

    /// The text in that place.
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

/// How many requests an upstream gets at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overload {
    /// How many requests of one sidecar may be in flight to an upstream.
    pub concurrency: Limit,
}

/// How many requests may be in flight to an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// There is no limit.
    #[default]
    None,
    /// The limit is learned from latencies: [`crate::overload::Adaptive`].
    Adaptive,
    /// A fixed limit, 1 to 100,000.
    Fixed(u64),
}

/// The name of the route in metrics and logs where none matched; no route may have it.
pub const UNMATCHED: &str = "unmatched";

/// `[[route]]`: which requests it matches, and what is done with them. Durations are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Metric label and log field: up to 64 lower-case letters, digits, `-` and `_`, unique, never
    /// [`UNMATCHED`].
    pub name: String,
    /// `match`: which requests belong to the route.
    pub matches: Match,
    /// What becomes of a path that servers interpret in different ways.
    pub ambiguous_path: AmbiguousPath,
    /// How long the upstream may take until the head of its answer, in milliseconds; then 504
    /// `upstream-timeout`. None: 60 s.
    pub timeout: Option<Millis>,
    /// How long a client may pause in sending a body or reading an answer, in milliseconds.
    pub idle_timeout: Option<Millis>,
    /// How long the whole exchange may take, bodies included, in milliseconds.
    pub total_timeout: Option<Millis>,
    /// The longest request body in bytes; a longer one gets 413 `body-too-large`. None: no limit.
    pub max_body: Option<u64>,
    /// How many requests of the route may be in flight.
    pub concurrency: Option<u64>,
    /// Name of the upstream, as `--upstream` binds it. None: the local application.
    pub upstream: Option<String>,
    /// Whether unsigned requests are refused; none leaves it to `[edge]`.
    pub require_signature: Option<bool>,
    /// `cors`: which pages of other origins may read the answers.
    pub cors: Option<Cors>,
    /// `cache`: what is stored. None: nothing is.
    pub cache: Option<Cache>,
    /// `shard`: where the shard key is in a request.
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
    /// Whether credentials are allowed; never together with `*`.
    pub credentials: bool,
    /// How long a browser may keep a preflight's answer, in milliseconds.
    pub max_age: Millis,
}

/// `match` of a route. All conditions must hold.
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
    /// Field names in lower case, with the value that the first line of each must have.
    pub headers: BTreeMap<String, String>,
    /// Parameter names, with the decoded value that the first parameter of each name must have.
    pub query: BTreeMap<String, String>,
}

/// What becomes of a path that servers interpret in different ways ([`crate::path::Ambiguous`]) and
/// that meets a rule in one of its readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AmbiguousPath {
    /// 400 with the problem `path-ambiguous`.
    Refuse,
    /// It is forwarded unchanged, and no rule is applied.
    Bypass,
}

impl Document {
    /// Canonical JSON: one line, fixed field order, sorted maps.
    pub fn to_json(&self) -> String {
        // Plain data with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The path that checks whether a visitor owns the job of a bare message: the `auth.check` of
    /// the first route that identifies its callers in the same way. Routes that offload to this
    /// queue come first.
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

    /// The routes whose callers can only be identified through a named proxy.
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

    /// Hash of the ranges that the file gives a map, from which a process starts that knows no live map.
    pub fn map_seed(&self, name: &str) -> String {
        let map = self.shard_maps.get(name);
        let seed = map.map(|map| (&map.ranges, &map.until, &map.outside));
        let json = serde_json::to_string(&seed).unwrap_or_default();
        hex(&Sha256::digest(json.as_bytes()))
    }
}
