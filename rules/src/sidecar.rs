//! What the sidecar does with a request: the one place with the order of the rules.

use crate::cache::{self, Bypass, Plan, Planned, Tier};
use crate::cors::{self, FieldsToSet};
use crate::document::{AmbiguousPath, Mode, Route, UNMATCHED, Unmatched};
use crate::head::Head;
use crate::offload;
use crate::path::{self, Target};
use crate::problem::Problem;
use crate::route::Found;
use crate::rules::Rules;
use crate::shard;

/// The decision on one request.
pub struct Decision<'r> {
    pub route: Option<&'r Route>,
    pub action: Action<'r>,
    /// What rules in `observe` mode would have done: (subject, outcome).
    pub observed: Vec<(&'static str, &'static str)>,
}

pub enum Action<'r> {
    Refuse(Problem),
    /// A path under the reserved prefix: status and results of jobs, problem pages.
    Reserved {
        path: String,
    },
    /// A page asks whether it may call from another origin; answered with these fields.
    Preflight {
        fields: FieldsToSet,
    },
    Proceed(Proceed<'r>),
}

/// How a request that is not refused goes on.
pub struct Proceed<'r> {
    /// See [`Proceed::target`]; none where the plan has it.
    uncached: Option<String>,
    pub shard: shard::Step,
    pub offload: offload::Decision,
    pub cache: Result<Box<Plan<'r>>, Bypass>,
}

impl Proceed<'_> {
    /// The same, for who sends it on.
    pub fn take_target(&mut self) -> String {
        self.uncached.take().unwrap_or_else(|| self.target().to_owned())
    }

    /// Path and query to send on: the normal form when a route matched.
    pub fn target(&self) -> &str {
        let planned = self.cache.as_ref().map_or("", |plan| plan.target());
        self.uncached.as_deref().unwrap_or(planned)
    }
}

impl<'r> Decision<'r> {
    /// Metric label.
    pub fn route_name(&self) -> &'r str {
        self.route.map_or(UNMATCHED, |route| &route.name)
    }
}

pub fn decide<'r>(rules: &'r Rules, head: &Head<'_>) -> Decision<'r> {
    if head.method == "CONNECT" {
        return refuse(None, Problem::ConnectRefused);
    }
    let target = match path::normalize(head.target) {
        Ok(target) => target,
        Err(_) => return ambiguous(rules, head),
    };
    if let Some(decision) = preflight(rules, head, &target) {
        return decision;
    }
    if is_reserved(&rules.document.jobs.base, &target.path) {
        let action = Action::Reserved { path: target.path.into_owned() };
        return Decision { route: None, action, observed: Vec::new() };
    }
    if rules.is_hook(&target.path) {
        return refuse(None, Problem::HookPath);
    }
    let found = rules.router.find(&rules.document.routes, head, &target.path, target.query);
    match found {
        Some(found) => routed(rules, head, target, found),
        None if rules.document.unmatched == Unmatched::Refuse => refuse(None, Problem::NoRoute),
        None => pass(None, head.target.to_owned(), Bypass::NoRule),
    }
}

/// The preflight of a route with `cors`, or of the jobs; any other goes on to the app.
fn preflight<'r>(rules: &'r Rules, head: &Head<'_>, target: &Target) -> Option<Decision<'r>> {
    let method = cors::preflight(head)?;
    let document = &rules.document;
    let (route, rule) = if is_reserved(&document.jobs.base, &target.path) {
        (None, cors::of_jobs(&document.routes, &cors::origin(head)?)?)
    } else {
        let meant = Head { method: &method, ..*head };
        let query = target.query;
        let found = rules.router.find(&document.routes, &meant, &target.path, query)?;
        let route = rules.route(found.index)?;
        (Some(route), route.cors.as_ref()?)
    };
    let action = Action::Preflight { fields: cors::preflight_answer(rule, head, &method) };
    Some(Decision { route, action, observed: Vec::new() })
}

fn routed<'r>(rules: &'r Rules, head: &Head<'_>, target: Target, found: Found<'_>) -> Decision<'r> {
    let Some(route) = rules.route(found.index) else { return refuse(None, Problem::Internal) };
    let mut observed = Vec::new();
    let parameters = found.parameters_for(route, &target.path);
    let shard = match sharded(rules, route, head, &target, &parameters) {
        (Mode::On, Ok(step)) => step,
        (Mode::On, Err(problem)) => return refuse(Some(route), problem),
        (_, Ok(shard::Step::None)) => shard::Step::None,
        (_, outcome) => {
            observed.push(("shard", outcome.err().map_or("resolve", Problem::name)));
            shard::Step::None
        }
    };
    let offload = offload::decide(route.offload.as_ref(), head);
    if let Some(rule) = &route.offload
        && rule.mode == Mode::Observe
    {
        observed.push(("offload", by_name(offload::by_rule(rule, head))));
    }
    let empty = String::new();
    let planned = Planned {
        rule: route.cache.as_ref(),
        policy_hash: rules.policy_hashes.get(found.index).unwrap_or(&empty),
        tier: Tier::Sidecar,
        head,
        target: &target,
        parameters: &parameters,
        shard: shard.resolved(),
        shard_from: route.shard.as_ref().map_or(&[], |rule| &rule.from),
    };
    let cache = match &shard {
        shard::Step::NeedsBody { .. } => Err(Bypass::ShardKeyInBody),
        _ => cache::plan(&planned),
    };
    if cache.as_ref().err() == Some(&Bypass::Observed) {
        observed.push(("cache", "use"));
    }
    let uncached = cache.is_err().then(|| target.join());
    let proceed = Proceed { uncached, shard, offload, cache };
    Decision { route: Some(route), action: Action::Proceed(proceed), observed }
}

fn sharded(
    rules: &Rules,
    route: &Route,
    head: &Head<'_>,
    target: &Target,
    parameters: &[(String, String)],
) -> (Mode, Result<shard::Step, Problem>) {
    let Some(rule) = route.shard.as_ref().filter(|rule| rule.mode != Mode::Off) else {
        return (Mode::On, Ok(shard::Step::None));
    };
    let Some(map) = rules.shard_maps.get(&rule.map) else {
        return (rule.mode, Err(Problem::Internal));
    };
    (rule.mode, shard::in_head(rule, map, head, target.query, parameters))
}

fn by_name(decision: offload::Decision) -> &'static str {
    match decision {
        offload::Decision::Inline(reason) => reason.as_str(),
        offload::Decision::Enqueue { .. } => "enqueue",
        offload::Decision::Adopt { .. } => "adopt",
    }
}

fn refuse(route: Option<&Route>, problem: Problem) -> Decision<'_> {
    Decision { route, action: Action::Refuse(problem), observed: Vec::new() }
}

fn pass(route: Option<&Route>, sent: String, why: Bypass) -> Decision<'_> {
    let proceed = Proceed {
        uncached: Some(sent),
        shard: shard::Step::None,
        offload: offload::Decision::Inline(offload::Inline::NoRule),
        cache: Err(why),
    };
    Decision { route, action: Action::Proceed(proceed), observed: Vec::new() }
}

/// A path that can be read in two ways is refused, unless the route its literal spelling matches
/// says `bypass`: then it goes on untouched and uncached.
pub(crate) fn ambiguous<'r>(rules: &'r Rules, head: &Head<'_>) -> Decision<'r> {
    let (path, query) = match head.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (head.target, None),
    };
    let found = rules.router.find(&rules.document.routes, head, path, query);
    let route = found.and_then(|found| rules.route(found.index));
    match route {
        Some(route) if route.ambiguous_path == AmbiguousPath::Bypass && route.shard.is_none() => {
            pass(Some(route), head.target.to_owned(), Bypass::AmbiguousPath)
        }
        route => refuse(route, Problem::PathAmbiguous),
    }
}

pub(crate) fn is_reserved(base: &str, path: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
