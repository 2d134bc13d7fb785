//! The upstreams to which the jobs of a queue go.

use super::context::JobContext;
use crate::upstream::server::APP;
use rules::document::{ReplayAs, Route};
use rules::{Head, Rules, sidecar};
use std::collections::BTreeSet;

/// The upstreams of the routes that offload to the queue, and of its bare messages. Without any it
/// is the application: each message says itself where it goes.
pub(super) fn destinations<'r>(
    context: &JobContext,
    rules: &'r Rules,
    queue: &str,
) -> BTreeSet<&'r str> {
    let mut names = BTreeSet::new();
    for route in &rules.document.routes {
        let rule = route.offload.as_ref().filter(|offload| offload.queue == queue);
        if let Some(rule) = rule {
            of_route(context, rules, Some(route), &mut names);
            if rule.replay_as == ReplayAs::Caller {
                // The application is asked before each execution whether the caller is still
                // allowed.
                names.insert(APP);
            }
        }
    }
    let rule = rules.document.queues.get(queue);
    if let Some((rule, path)) = rule.and_then(|rule| Some((rule, rule.path.as_deref()?))) {
        let (method, fields) = (rule.method.as_str(), Vec::<(String, String)>::new());
        let head = Head { method, scheme: "http", host: "", target: path, fields: &fields };
        of_route(context, rules, sidecar::decide(rules, &head).route, &mut names);
    }
    if names.is_empty() {
        names.insert(APP);
    }
    names
}

fn of_route<'r>(
    context: &JobContext,
    rules: &'r Rules,
    route: Option<&'r Route>,
    names: &mut BTreeSet<&'r str>,
) {
    let shard = route.and_then(|route| route.shard.as_ref());
    let Some(map) = shard.and_then(|shard| rules.document.shard_maps.get(&shard.map)) else {
        names.insert(route.and_then(|route| route.upstream.as_deref()).unwrap_or(APP));
        return;
    };
    for (name, shard) in &map.shards {
        let is_own = context.destinations.shard.as_deref() == Some(name.as_str());
        names.insert(shard.upstream.as_deref().filter(|_| !is_own).unwrap_or(APP));
    }
}
