//! The indexed form of the rules, on which decisions run.

use crate::document::{Document, FORMAT, Route};
use crate::fallback::{RulesFallback, Unreadable};
use crate::head::Head;
use crate::path::PathParameter;
use crate::problem::Problem;
use crate::route::Router;
use crate::shard::{self, Resolved, ShardMap};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The hash where there are no rules, which equals no real hash.
const NO_RULES: &str = "none";

/// Checked rules, indexed for decisions. A clone shares everything.
#[derive(Clone)]
pub struct Rules {
    /// The rules as data.
    pub document: Arc<Document>,
    /// SHA-256 of the canonical JSON, in hex.
    pub hash: String,
    /// Set where no valid rules are available; then these are empty.
    pub unreadable: Option<Unreadable>,
    pub(crate) router: Arc<Router>,
    /// The indexed shard maps by name.
    pub shard_maps: BTreeMap<String, Arc<ShardMap>>,
    /// For each route a short hash of its cache policy, which is part of every cache key.
    pub(crate) policy_hashes: Arc<[String]>,
    /// Paths at which the application is notified of finished jobs; see [`Rules::is_hook`].
    hooks: Arc<[String]>,
}

/// Why compiled rules can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledError(pub String);

impl std::fmt::Display for CompiledError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "compiled rules: {}", self.0)
    }
}

impl std::error::Error for CompiledError {}

impl Rules {
    /// Indexes a document.
    ///
    /// # Errors
    /// Only for a document that `file::check` did not make.
    pub fn new(document: Document) -> Result<Self, CompiledError> {
        if document.format != FORMAT {
            let reason = format!("format {} where {FORMAT} is known", document.format);
            return Err(CompiledError(reason));
        }
        let router = Router::new(&document.routes).map_err(CompiledError)?;
        let mut shard_maps = BTreeMap::new();
        for (name, map) in &document.shard_maps {
            let map = ShardMap::new(name, map)
                .map_err(|reason| CompiledError(format!("shard map {name}: {reason}")))?;
            shard_maps.insert(name.clone(), Arc::new(map));
        }
        let policy_hashes = document.routes.iter().map(policy_hash).collect();
        let hooks = document.queues.values().filter_map(|queue| queue.notify_app.as_deref());
        let hooks = hooks.map(|hook| path_of(hook).to_owned()).collect();
        let hash = document.hash();
        Ok(Self {
            document: document.into(),
            hash,
            unreadable: None,
            router: router.into(),
            shard_maps,
            policy_hashes,
            hooks,
        })
    }

    /// The rules of a process that has no valid ones. Their hash equals no real hash.
    pub fn unreadable(fallback: RulesFallback, reason: String) -> Self {
        Self {
            document: Document { format: FORMAT, ..Document::default() }.into(),
            hash: NO_RULES.to_owned(),
            unreadable: Some(Unreadable { fallback, reason }),
            router: Arc::default(),
            shard_maps: BTreeMap::new(),
            policy_hashes: Arc::default(),
            hooks: Arc::default(),
        }
    }

    /// The same rules with another version of a live map.
    pub fn with_map(&self, map: Arc<ShardMap>) -> Self {
        let mut rules = self.clone();
        rules.shard_maps.insert(map.name().to_string(), map);
        rules
    }

    pub(crate) fn fallback(&self) -> Option<RulesFallback> {
        self.unreadable.as_ref().map(|unreadable| unreadable.fallback)
    }

    /// Reads the canonical JSON that `spillway check --json` prints.
    ///
    /// # Errors
    /// The JSON is not a document of this format.
    pub fn from_compiled(json: &str) -> Result<Self, CompiledError> {
        let document =
            serde_json::from_str(json).map_err(|error| CompiledError(error.to_string()))?;
        Self::new(document)
    }

    /// Reads the text of a rules file.
    ///
    /// # Errors
    /// Every fault of the file.
    #[cfg(feature = "file")]
    pub fn from_toml(text: &str) -> Result<Self, Vec<crate::fault::Fault>> {
        let checked = crate::file::check(text)?;
        Self::new(checked.document).map_err(|error| {
            vec![crate::fault::Fault {
                line: 0,
                column: 0,
                path: String::new(),
                name: "not-indexable",
                reason: error.0,
                remedy: "Two templates can't be told apart; rename or remove one.".to_owned(),
                is_warning: false,
            }]
        })
    }

    /// Whether the application is notified of finished jobs at this path. A client that could reach
    /// it could send the application's users false messages.
    pub(crate) fn is_hook(&self, path: &str) -> bool {
        let bare = path.strip_suffix('/').unwrap_or(path);
        self.hooks.iter().any(|hook| hook == bare)
    }

    /// All routes that a path in normal form can belong to on a host, whatever the method, the
    /// header and the query.
    pub(crate) fn routes_of_path<'r>(
        &'r self,
        host: &'r str,
        path: &'r str,
    ) -> impl Iterator<Item = &'r Route> {
        self.router.of_path(&self.document.routes, host, path)
    }

    /// The route at this position of the document, as counted by [`crate::route::Found::index`].
    pub fn route(&self, index: usize) -> Option<&Route> {
        self.document.routes.get(index)
    }

    /// The shard of a request whose key is in its body ([`crate::shard::Step::NeedsBody`]).
    ///
    /// # Errors
    /// The problem of a key that is missing, invalid for its type or in no range; `internal` for a
    /// route without shards.
    pub fn shard_in_body(&self, route: Option<&Route>, body: &[u8]) -> Result<Resolved, Problem> {
        let rule = route.and_then(|route| route.shard.as_ref());
        let map = rule.and_then(|rule| self.shard_maps.get(&rule.map));
        let (rule, map) = rule.zip(map).ok_or(Problem::Internal)?;
        shard::in_body(rule, map, body)
    }

    /// Finds the route of a request, and calls `miss` for each one that was considered and
    /// rejected.
    pub fn walk<'r>(
        &'r self,
        head: &Head<'_>,
        target: &crate::path::Target,
        miss: &mut dyn FnMut(&'r Route, crate::route::RouteMismatch),
    ) -> Option<&'r Route> {
        let routes = &self.document.routes;
        let mut by_index = |index: usize, reason| {
            if let Some(route) = routes.get(index) {
                miss(route, reason);
            }
        };
        let query = target.query.as_deref();
        let found = self.router.walk(routes, head, &target.path, query, &mut by_index)?;
        routes.get(found.index)
    }

    /// The parameters of the request's path under its route.
    pub fn parameters<'a>(&'a self, head: &Head<'_>, path: &'a str) -> Vec<PathParameter<'a>> {
        let query = head.target.split_once('?').map(|(_, query)| query);
        let found = self.router.find(&self.document.routes, head, path, query);
        found.map_or_else(Vec::new, |found| found.parameters(path))
    }

    /// The route of that name.
    pub fn route_by_name(&self, name: &str) -> Option<&Route> {
        self.document.routes.iter().find(|route| route.name == name)
    }
}

fn path_of(hook: &str) -> &str {
    hook.split('?').next().unwrap_or_default()
}

/// The hash covers the whole policy: a reload that fixes a leak must not go on serving leaked
/// answers.
fn policy_hash(route: &Route) -> String {
    use sha2::{Digest, Sha256};
    const HEX_DIGITS: usize = 12;
    let json =
        serde_json::to_string(&(&route.cache, &route.shard, &route.matches)).unwrap_or_default();
    let mut hash = crate::hex::hex(&Sha256::digest(json.as_bytes()));
    hash.truncate(HEX_DIGITS);
    hash
}
