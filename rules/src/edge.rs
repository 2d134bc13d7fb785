//! What the edge does with a request.

use crate::assets::Assets;
use crate::cache::{self, Bypass, Plan, Planned, ShardPart, Tier};
use crate::document::{Route, UNMATCHED, Unmatched};
use crate::head::{Head, overrides_method};
use crate::hops;
use crate::offload;
use crate::path::{self, PathParameter};
use crate::problem::Problem;
use crate::rules::Rules;
use crate::shard::{self, Resolved, ShardKeys};
use crate::sidecar;

/// The edge's decision on one request.
pub struct EdgeDecision<'r> {
    /// The matched route; none where no route matches, or where the request was refused before
    /// matching.
    pub route: Option<&'r Route>,
    /// What to do with the request.
    pub action: EdgeAction<'r>,
}

/// What the edge does with a request.
pub enum EdgeAction<'r> {
    /// 308 to the canonical host; method and body are kept.
    Redirect {
        /// The URL of the same target on the canonical host.
        location: String,
    },
    /// Answer with this problem.
    Refuse(Problem),
    /// Forwarded to the origin; the answer is not stored.
    Pass {
        /// Path and query for the origin.
        target: String,
        /// Why the request bypasses the cache.
        why: Bypass,
    },
    /// Answered from the cache, or fetched and stored, as the plan says.
    Cache(Box<Plan<'r>>),
}

impl EdgeDecision<'_> {
    /// The route's name for metrics and logs; [`UNMATCHED`] where no route matched.
    pub fn route_name(&self) -> &str {
        self.route.map_or(UNMATCHED, |route| &route.name)
    }
}

/// What the edge does with a request, from its head alone: redirect, refuse, ask the origin without storing the
/// answer, or use the cache.
///
/// `head` is the request as the visitor sent it. The decision agrees with that of [`crate::sidecar::decide`] on
/// the same request, but that jobs, results and shards whose key is in a body are left to the sidecar.
///
/// The first of these that applies decides:
/// 1. A request that has passed too many of us ([`crate::hops`]) is refused.
/// 2. A host of `[edge] canonical` is redirected.
/// 3. A path that servers read in different ways is refused where one of its readings meets a rule, and
///    otherwise passes.
/// 4. A field that names another method is refused where a rule depends on the method.
/// 5. Paths under the reserved prefix pass; those of notifications are refused.
/// 6. The most specific route that matches is taken; without one, `default` of the rules says what happens.
/// 7. Of the route: a request whose key no shard holds is refused, so that it never loads the origin. Then
///    `cache` decides; a request that names a job in its query always passes.
///
/// Pure, and cheap: the router's cost does not grow with the number of routes that can't match. A request that
/// passes costs one copy of its target, one that may use the cache the plan with its key.
pub fn decide<'r>(rules: &'r Rules, head: &Head<'_>) -> EdgeDecision<'r> {
    let of = |route, action| EdgeDecision { route, action };
    if hops::is_loop(head.fields) {
        return of(None, EdgeAction::Refuse(Problem::ShardLoop));
    }
    if let Some(canonical) = &rules.document.edge.canonical
        && canonical.from.iter().any(|host| host.eq_ignore_ascii_case(head.host))
    {
        let location = format!("{}://{}{}", head.scheme, canonical.to, head.target);
        return of(None, EdgeAction::Redirect { location });
    }
    let Ok(target) = path::normalize(head.target) else {
        return ambiguous(rules, head);
    };
    if overrides_method(head.fields) && sidecar::depends_on_method(rules, head, &target) {
        return of(None, EdgeAction::Refuse(Problem::MethodOverride));
    }
    if path::is_reserved(&rules.document.jobs.base, &target.path) {
        let target = head.target.to_owned();
        return of(None, EdgeAction::Pass { target, why: Bypass::NoRule });
    }
    if rules.is_hook(&target.path) {
        return of(None, EdgeAction::Refuse(Problem::HookPath));
    }
    let Some(found) = sidecar::find(rules, head, &target) else {
        let action = match rules.document.unmatched {
            Unmatched::Refuse => EdgeAction::Refuse(Problem::NoRoute),
            Unmatched::Pass => {
                EdgeAction::Pass { target: head.target.to_owned(), why: Bypass::NoRule }
            }
        };
        return of(None, action);
    };
    let Some(route) = rules.route(found.index) else {
        return of(None, EdgeAction::Refuse(Problem::Internal));
    };
    let parameters = found.parameters_for(route, &target.path);
    let shard = match edge_shard(rules, route, head, target.query.as_deref(), &parameters) {
        Ok(found) => found,
        Err(problem) => return of(Some(route), EdgeAction::Refuse(problem)),
    };
    let planned = Planned {
        rule: route.cache.as_ref(),
        is_for_all_origins: Assets::are_for_all_origins(route),
        policy_hash: rules.policy_hashes.get(found.index).map_or("", String::as_str),
        tier: Tier::Edge,
        head,
        target: &target,
        parameters: &parameters,
        shard: shard.as_ref().map(KnownShard::part),
        shard_from: route.shard.as_ref().map_or(&[], |rule| &rule.from),
    };
    let planned = match offload::mark::job(&rules.document.jobs, head.target) {
        // Only the sidecar knows whether the job exists and who may see it.
        Some(_) => Err(Bypass::JobParameter),
        None => cache::plan(&planned),
    };
    let action = match planned {
        Ok(plan) => EdgeAction::Cache(plan),
        Err(why) if sidecar::changes_target(rules, route) => {
            EdgeAction::Pass { target: target.join(), why }
        }
        Err(why) => EdgeAction::Pass { target: head.target.to_owned(), why },
    };
    of(Some(route), action)
}

/// A request whose path servers read in different ways, as the sidecar decides about it.
fn ambiguous<'r>(rules: &'r Rules, head: &Head<'_>) -> EdgeDecision<'r> {
    let decision = sidecar::ambiguous(rules, head);
    let action = match decision.action {
        sidecar::SidecarAction::Refuse(problem) => EdgeAction::Refuse(problem),
        sidecar::SidecarAction::Proceed(proceed) => {
            let why = proceed.cache.err().unwrap_or(Bypass::AmbiguousPath);
            EdgeAction::Pass { target: head.target.to_owned(), why }
        }
        _ => EdgeAction::Refuse(Problem::PathAmbiguous),
    };
    EdgeDecision { route: decision.route, action }
}

/// What the edge knows of a request's shard.
enum KnownShard<'r> {
    Resolved(Resolved),
    /// Of a live map: the edge has its seed at most, which may be old.
    Keyed(&'r str, ShardKeys),
}

impl KnownShard<'_> {
    fn part(&self) -> ShardPart<'_> {
        match self {
            Self::Resolved(resolved) => ShardPart::Resolved(resolved),
            Self::Keyed(map, keys) => ShardPart::Keyed { map, keys },
        }
    }
}

/// The edge refuses what no shard could answer, so that such requests never load the origin; a
/// key in the body is left to the sidecar, and so is whether a range of a live map holds the key.
fn edge_shard<'r>(
    rules: &'r Rules,
    route: &'r Route,
    head: &Head<'_>,
    query: Option<&str>,
    parameters: &[PathParameter<'_>],
) -> Result<Option<KnownShard<'r>>, Problem> {
    let on = route.shard.as_ref().filter(|rule| rule.mode == crate::document::Mode::On);
    let Some(rule) = on else { return Ok(None) };
    let Some(map) = rules.shard_maps.get(&rule.map) else { return Err(Problem::Internal) };
    let found = shard::keys_in_head(rule, map.key_type(), head, query, parameters);
    let found = found.and_then(|keys| {
        let Some(keys) = keys else { return Ok(None) };
        if map.is_live() {
            return Ok(Some(KnownShard::Keyed(&rule.map, keys)));
        }
        Ok(Some(KnownShard::Resolved(Resolved::find(map, keys)?)))
    });
    // A preflight that no shard can be found for goes on: it carries neither body nor cookies.
    if found.is_err() && crate::cors::preflight(head).is_some() { Ok(None) } else { found }
}
