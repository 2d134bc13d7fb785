//! Checks that need the whole file: names that must exist, be unique, or can't be reached.

use super::tree::Table;
use crate::document::{Document, KeySource, Match, Route};
use crate::route::Template;
use std::collections::BTreeMap;

pub(super) fn references(document: &Document, root: &Table<'_>) {
    let tables = root.tables("route");
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, (route, table)) in document.routes.iter().zip(&tables).enumerate() {
        if let Some(first) = names.insert(&route.name, index)
            && !route.name.is_empty()
        {
            let reason = format!("route[{first}] has the name `{}` too", route.name);
            table.fault("duplicate-name", reason, "Give every route a name of its own.");
        }
        queue_exists(document, route, table);
        shard_is_possible(document, route, table);
        tags_are_possible(route, table);
        shadowed(document, index, route, table);
    }
}

fn queue_exists(document: &Document, route: &Route, table: &Table<'_>) {
    let Some(offload) = &route.offload else { return };
    for source in [&offload.class, &offload.tenant].into_iter().flatten() {
        if let KeySource::Path(name) = source {
            parameter_exists(route, name, table);
        }
    }
    if !document.queues.contains_key(&offload.queue) && !offload.queue.is_empty() {
        let reason = format!("there is no [queue.{}]", offload.queue);
        table.fault("unknown-queue", reason, &format!("Add [queue.{}].", offload.queue));
    }
}

fn shard_is_possible(document: &Document, route: &Route, table: &Table<'_>) {
    let Some(shard) = &route.shard else { return };
    if !document.shard_maps.contains_key(&shard.map) && !shard.map.is_empty() {
        let reason = format!("there is no [shard_map.{}]", shard.map);
        table.fault("unknown-shard-map", reason, &format!("Add [shard_map.{}].", shard.map));
    }
    for source in &shard.from {
        if let KeySource::Path(name) = source {
            parameter_exists(route, name, table);
        }
        if matches!(source, KeySource::Body(_)) && route.cache.is_some() {
            let reason = "a cached answer can't depend on a request body".to_owned();
            table.fault(
                "cache-by-body",
                reason,
                "Take the key from path, query, header or cookie.",
            );
        }
    }
}

fn parameter_exists(route: &Route, name: &str, table: &Table<'_>) {
    let Ok(template) = Template::parse(&route.matches.path) else { return };
    if !template.parameters().any(|own| own == name) {
        let reason = format!("the path {} has no parameter `{name}`", route.matches.path);
        table.fault(
            "unknown-parameter",
            reason,
            &format!("Write {{{name}}} in the path, or another source."),
        );
    }
}

/// `tags = ["instrument-{instrument_id}"]`: each `{…}` is a parameter of the path.
fn tags_are_possible(route: &Route, table: &Table<'_>) {
    let Some(cache) = &route.cache else { return };
    for tag in &cache.tags {
        for piece in tag.split('{').skip(1) {
            let name = piece.split('}').next().unwrap_or_default();
            parameter_exists(route, name, table);
        }
    }
}

/// Two routes that match exactly the same requests: the later one is never used.
fn shadowed(document: &Document, index: usize, route: &Route, table: &Table<'_>) {
    let same = |other: &&Route| is_same(&other.matches, &route.matches);
    if let Some(other) = document.routes.iter().take(index).find(same) {
        let reason = format!("`{}` matches the same requests and comes first", other.name);
        table.warn("route-shadowed", reason, "Remove one, or make its match differ.");
    }
}

fn is_same(left: &Match, right: &Match) -> bool {
    let shape = |path: &str| Template::parse(path).map(|template| template.shape()).ok();
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    shape(&left.path) == shape(&right.path)
        && left.strict_slash == right.strict_slash
        && sorted(&left.methods) == sorted(&right.methods)
        && sorted(&left.hosts) == sorted(&right.hosts)
        && left.headers == right.headers
        && left.query == right.query
}
