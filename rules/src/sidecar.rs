//! Decides what the sidecar does with a request. The order of the rules is defined here alone.

use crate::assets::Assets;
use crate::cache::{self, Bypass, Plan, Planned, ShardPart, Tier};
use crate::cors::{self, FieldsToSet};
use crate::document::{AmbiguousPath, Mode, Route, UNMATCHED, Unmatched};
use crate::fallback::RulesFallback;
use crate::head::{Head, overrides_method};
use crate::hops;
use crate::offload;
use crate::path::{self, PathParameter, Target};
use crate::problem::Problem;
use crate::reading;
use crate::route::Found;
use crate::rules::Rules;
use crate::shard;

/// The decision on one request.
pub struct SidecarDecision<'r> {
    /// The matched route; none where no route matches, or where the request was refused before
    /// matching.
    pub route: Option<&'r Route>,
    /// The route's position in the rules. Programs find their state of the route by it.
    pub index: Option<usize>,
    /// What to do with the request.
    pub action: SidecarAction<'r>,
    /// What rules in `observe` mode would have done: (subject, outcome).
    pub observed: Vec<(&'static str, &'static str)>,
}

/// What the sidecar does with a request.
pub enum SidecarAction<'r> {
    /// Answer with this problem.
    Refuse(Problem),
    /// A path under the reserved prefix: status and results of jobs, problem pages.
    Reserved {
        /// The request's path in normal form.
        path: String,
    },
    /// A CORS preflight, which is answered with these fields.
    Preflight {
        /// Lower-case names and values.
        fields: FieldsToSet,
    },
    /// The request is answered from the cache, queued, or forwarded.
    Proceed(Proceed<'r>),
}

/// How a request proceeds that is not refused.
pub struct Proceed<'r> {
    /// The target of a request without a cache plan; see [`Proceed::target`].
    uncached: Option<String>,
    /// Which shard the request belongs to.
    pub shard: shard::Step,
    /// Whether the request becomes a job.
    pub offload: offload::OffloadDecision,
    /// How the request uses the cache, or why it does not.
    pub cache: Result<Box<Plan<'r>>, Bypass>,
}

impl Proceed<'_> {
    /// Moves the target out, for the caller that forwards the request; see [`Proceed::target`].
    pub fn take_target(&mut self) -> String {
        self.uncached.take().unwrap_or_else(|| self.target().to_owned())
    }

    /// Path and query to forward: in normal form where a route matched.
    pub fn target(&self) -> &str {
        let planned = self.cache.as_ref().map_or("", |plan| plan.target());
        self.uncached.as_deref().unwrap_or(planned)
    }
}

impl<'r> SidecarDecision<'r> {
    /// The route's name as a metric label.
    pub fn route_name(&self) -> &'r str {
        self.route.map_or(UNMATCHED, |route| &route.name)
    }
}

/// What the sidecar does with a request, from its head alone: whether it is refused, answered by Spillway itself,
/// or goes on to the application; and for one that goes on, which shard it belongs to, whether it becomes a job
/// and how it uses the cache.
///
/// `head` is the request as it would be sent on, after [`crate::hygiene::on_arrival`]: what nobody may say to
/// the application is no longer there. Who signed it is the caller's to check, before anything of the decision
/// is told to the client.
///
/// The first of these that applies decides:
/// 1. CONNECT, rules that can't be read ([`crate::fallback`]), and a request that has passed too many of us
///    ([`crate::hops`]) are refused.
/// 2. A path that servers read in different ways is refused where one of its readings meets a rule, and
///    otherwise goes on untouched.
/// 3. A CORS preflight of a route with `cors`, or of the jobs, is answered.
/// 4. A field that names another method is refused where a rule depends on the method.
/// 5. Paths under the reserved prefix are Spillway's own; those of notifications are refused.
/// 6. The most specific route that matches is taken; without one, `default` of the rules says what happens.
/// 7. Of the route: the shard (what no shard holds is refused), then `offload`, then `cache`. A rule in observe
///    mode changes nothing; what it would have done is in [`SidecarDecision::observed`].
///
/// Pure, and cheap: the router's cost does not grow with the number of routes that can't match. A request that
/// no rule touches costs one copy of its target, one that may use the cache the plan with its key.
pub fn decide<'r>(rules: &'r Rules, head: &Head<'_>) -> SidecarDecision<'r> {
    if head.method == "CONNECT" {
        return refuse(None, Problem::ConnectRefused);
    }
    if rules.fallback() == Some(RulesFallback::Refuse) {
        return refuse(None, Problem::RulesUnreadable);
    }
    if hops::is_loop(head.fields) {
        return refuse(None, Problem::ShardLoop);
    }
    let target = match path::normalize(head.target) {
        Ok(target) => target,
        Err(_) => return ambiguous(rules, head),
    };
    if let Some(decision) = preflight(rules, head, &target) {
        return decision;
    }
    if overrides_method(head.fields) && depends_on_method(rules, head, &target) {
        return refuse(None, Problem::MethodOverride);
    }
    if path::is_reserved(&rules.document.jobs.base, &target.path) {
        if rules.fallback().is_some() {
            return refuse(None, Problem::RulesUnreadable);
        }
        let action = SidecarAction::Reserved { path: target.path.into_owned() };
        return SidecarDecision { route: None, index: None, action, observed: Vec::new() };
    }
    if rules.is_hook(&target.path) {
        return refuse(None, Problem::HookPath);
    }
    match find(rules, head, &target) {
        Some(found) => routed(rules, head, target, found),
        None if rules.document.unmatched == Unmatched::Refuse => refuse(None, Problem::NoRoute),
        None => pass(None, head.target.to_owned(), Bypass::NoRule),
    }
}

/// Finds the route of a request. A preflight belongs to the route of the request that it announces;
/// the application there answers it.
pub(crate) fn find<'r>(rules: &'r Rules, head: &Head<'_>, target: &Target) -> Option<Found<'r>> {
    let (routes, query) = (&rules.document.routes, target.query.as_deref());
    let meant = cors::preflight(head).and_then(|method| {
        let meant = Head { method: &method, ..*head };
        rules.router.find(routes, &meant, &target.path, query)
    });
    meant.or_else(|| rules.router.find(routes, head, &target.path, query))
}

/// Whether the rules for the path, or Spillway's own endpoints, would treat another method
/// differently.
pub(crate) fn depends_on_method(rules: &Rules, head: &Head<'_>, target: &Target) -> bool {
    path::is_reserved(&rules.document.jobs.base, &target.path)
        || rules.routes_of_path(head.host, &target.path).any(|route| {
            !route.matches.methods.is_empty()
                || route.max_body.is_some()
                || route.concurrency.is_some()
                || changes_target(rules, route)
        })
}

/// Whether the application gets the target in normal form on this route, because a cache key or a
/// signature covers it. On other routes it gets the received bytes.
pub(crate) fn changes_target(rules: &Rules, route: &Route) -> bool {
    let is_on = |mode: Mode| mode == Mode::On;
    route.cache.as_ref().is_some_and(|rule| is_on(rule.mode))
        || route.shard.as_ref().is_some_and(|rule| is_on(rule.mode))
        || route.offload.as_ref().is_some_and(|rule| is_on(rule.mode))
        || rules.document.requires_signature(Some(route))
}

/// Answers a preflight for a route with `cors`, or for jobs; any other is forwarded to the
/// application.
fn preflight<'r>(
    rules: &'r Rules,
    head: &Head<'_>,
    target: &Target,
) -> Option<SidecarDecision<'r>> {
    let method = cors::preflight(head)?;
    let document = &rules.document;
    let (matched, rule) = if path::is_reserved(&document.jobs.base, &target.path) {
        (None, cors::of_jobs(&document.routes, &cors::origin(head)?)?)
    } else {
        let meant = Head { method: &method, ..*head };
        let query = target.query.as_deref();
        let found = rules.router.find(&document.routes, &meant, &target.path, query)?;
        let route = rules.route(found.index)?;
        (Some((found.index, route)), route.cors.as_ref()?)
    };
    let action = SidecarAction::Preflight { fields: cors::preflight_answer(rule, head, &method) };
    Some(decided(matched, action))
}

fn routed<'r>(
    rules: &'r Rules,
    head: &Head<'_>,
    target: Target,
    found: Found<'_>,
) -> SidecarDecision<'r> {
    let Some(route) = rules.route(found.index) else { return refuse(None, Problem::Internal) };
    let mut observed = Vec::new();
    let parameters = found.parameters_for(route, &target.path);
    let shard = match sharded(rules, route, head, &target, &parameters) {
        (Mode::On, Ok(step)) => step,
        (Mode::On, Err(problem)) => return refuse(Some((found.index, route)), problem),
        (_, Ok(shard::Step::None)) => shard::Step::None,
        (_, outcome) => {
            observed.push(("shard", outcome.err().map_or("resolve", Problem::name)));
            shard::Step::None
        }
    };
    let methods = &route.matches.methods;
    let offload = offload::decide(route.offload.as_ref(), methods, head);
    if let Some(rule) = &route.offload
        && rule.mode == Mode::Observe
    {
        observed.push(("offload", by_name(offload::by_rule(rule, methods, head))));
    }
    let empty = String::new();
    let planned = Planned {
        rule: route.cache.as_ref(),
        is_for_all_origins: Assets::are_for_all_origins(route),
        policy_hash: rules.policy_hashes.get(found.index).unwrap_or(&empty),
        tier: Tier::Sidecar,
        head,
        target: &target,
        parameters: &parameters,
        shard: shard.resolved().map(ShardPart::Resolved),
        shard_from: route.shard.as_ref().map_or(&[], |rule| &rule.from),
    };
    let cache = match &shard {
        shard::Step::NeedsBody { .. } => Err(Bypass::ShardKeyInBody),
        _ if target.query.is_some()
            && offload::mark::job(&rules.document.jobs, head.target).is_some() =>
        {
            Err(Bypass::JobParameter)
        }
        _ => cache::plan(&planned),
    };
    if cache.as_ref().err() == Some(&Bypass::Observed) {
        observed.push(("cache", "use"));
    }
    let as_sent =
        || if changes_target(rules, route) { target.join() } else { head.target.to_owned() };
    let uncached = cache.is_err().then(as_sent);
    let proceed = Proceed { uncached, shard, offload, cache };
    let action = SidecarAction::Proceed(proceed);
    SidecarDecision { observed, ..decided(Some((found.index, route)), action) }
}

fn sharded(
    rules: &Rules,
    route: &Route,
    head: &Head<'_>,
    target: &Target,
    parameters: &[PathParameter<'_>],
) -> (Mode, Result<shard::Step, Problem>) {
    let Some(rule) = route.shard.as_ref().filter(|rule| rule.mode != Mode::Off) else {
        return (Mode::On, Ok(shard::Step::None));
    };
    let Some(map) = rules.shard_maps.get(&rule.map) else {
        return (rule.mode, Err(Problem::Internal));
    };
    let step = shard::in_head(rule, map, head, target.query.as_deref(), parameters);
    (rule.mode, step_of_preflight(step, head))
}

/// A preflight without a shard key goes to this pod's own application: it has neither body nor
/// cookies, and its answer is the same everywhere.
fn step_of_preflight(
    step: Result<shard::Step, Problem>,
    head: &Head<'_>,
) -> Result<shard::Step, Problem> {
    match step {
        Ok(shard::Step::Resolved(_) | shard::Step::None) => step,
        Ok(shard::Step::NeedsBody { .. }) | Err(_) if cors::preflight(head).is_some() => {
            Ok(shard::Step::None)
        }
        step => step,
    }
}

fn by_name(decision: offload::OffloadDecision) -> &'static str {
    match decision {
        offload::OffloadDecision::Inline(reason) => reason.as_str(),
        offload::OffloadDecision::Enqueue { .. } => "enqueue",
        offload::OffloadDecision::Adopt { .. } => "adopt",
    }
}

/// A route with its position among the rules' routes.
type IndexedRoute<'r> = (usize, &'r Route);

fn decided<'r>(
    matched: Option<IndexedRoute<'r>>,
    action: SidecarAction<'r>,
) -> SidecarDecision<'r> {
    let (index, route) = matched.unzip();
    SidecarDecision { route, index, action, observed: Vec::new() }
}

fn refuse(matched: Option<IndexedRoute<'_>>, problem: Problem) -> SidecarDecision<'_> {
    decided(matched, SidecarAction::Refuse(problem))
}

fn pass(matched: Option<IndexedRoute<'_>>, sent: String, why: Bypass) -> SidecarDecision<'_> {
    let proceed = Proceed {
        uncached: Some(sent),
        shard: shard::Step::None,
        offload: offload::OffloadDecision::Inline(offload::Inline::NoRule),
        cache: Err(why),
    };
    decided(matched, SidecarAction::Proceed(proceed))
}

/// Decides on an ambiguous path. It is refused where one of its readings meets a rule, unless the
/// route of its literal spelling says `bypass`. A path that is not refused is forwarded unchanged
/// and uncached.
pub(crate) fn ambiguous<'r>(rules: &'r Rules, head: &Head<'_>) -> SidecarDecision<'r> {
    let (path, query) = path::split(head.target);
    let found = rules.router.find(&rules.document.routes, head, path, query);
    let matched = found.and_then(|found| Some((found.index, rules.route(found.index)?)));
    let may_bypass = |(_, route): IndexedRoute<'_>| {
        route.ambiguous_path == AmbiguousPath::Bypass && route.shard.is_none()
    };
    let why = if matched.is_some_and(may_bypass) {
        Bypass::AmbiguousPath
    } else if reading::is_harmless(rules, head.host, path) {
        Bypass::NoRule
    } else {
        return refuse(matched, Problem::PathAmbiguous);
    };
    pass(matched, head.target.to_owned(), why)
}
