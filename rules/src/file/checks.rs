//! Checks that need the whole file: names that must exist or be unique, and routes that can't be
//! reached.

use super::tree::{Table, Value};
use crate::cache::AUTHORIZATION;
use crate::document::{Auth, Document, Identity, KeySource, Match, Route, Versioned};
use crate::route::Template;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Cloudflare accepts no longer tag, and the sidecar stores none.
const TAG_BYTES_MAX: usize = 1024;

pub(super) fn references(document: &Document, root: &Table<'_>) {
    let tables = root.tables("route");
    let (mut names, mut seen) = (BTreeMap::<&str, usize>::new(), BTreeMap::new());
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
        assets_are_nobodys(route, table);
        tokens_are_known(route, table);
        template_is_of_this_kind(route, table);
        cache_has_a_method(route, table);
        form_ends_well(route, table);
        claims_are_no_keys(route, table);
        shadowed(&mut seen, route, table);
    }
    let Some(queues) = root.table("queue") else { return };
    for (name, value) in queues.entries() {
        owner_is_known(document, &name, &value);
    }
}

/// The owner of a bare message must be one whom some route's `auth.check` can identify.
fn owner_is_known(document: &Document, name: &str, value: &Value<'_>) {
    let owner = document.queues.get(name).and_then(|queue| queue.owner.as_ref());
    let Some(owner @ Identity::Check(_)) = owner else { return };
    if document.check_of_owner(name, owner).is_none() {
        let reason = format!("no route has `{owner}` in its auth.identity");
        let remedy = "Add it to auth.identity of a route with auth.check: the application is then asked who wants to see such a job.";
        value.fault("owner-unknown", reason, remedy);
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
    if shard.writes == Some(true) && route.cache.is_some() {
        let reason = "a request that writes can't be answered from the cache".to_owned();
        table.fault("cache-of-writes", reason, "Remove `cache`, or `writes = true`.");
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

/// Warns about template syntax of other tools, which is literal text here.
fn template_is_of_this_kind(route: &Route, table: &Table<'_>) {
    let path = &route.matches.path;
    let is_other = |segment: &str| {
        let is_star = matches!(segment, "*" | "**");
        is_star || segment.starts_with(':') || segment.starts_with('<') && segment.ends_with('>')
    };
    let found = path.split('/').find(|segment| is_other(segment));
    let (what, remedy) = match (found, path.contains('?')) {
        (Some(segment @ ("*" | "**")), _) => {
            (segment, "Write {name} for one segment, {*rest} for all that follow.")
        }
        (Some(segment), _) => (segment, "Write {name}; a parameter has no type."),
        (None, true) => ("?", "Write the path alone; `query` of `match` asks for parameters."),
        (None, false) => return,
    };
    let reason = format!("`{what}` in {path} is matched literally");
    table.warn("other-template-syntax", reason, remedy);
}

fn cache_has_a_method(route: &Route, table: &Table<'_>) {
    let methods = &route.matches.methods;
    let is_read = |method: &String| matches!(method.as_str(), "GET" | "HEAD");
    if route.cache.is_some() && !methods.is_empty() && !methods.iter().any(is_read) {
        let reason = format!("nothing is cached for {} alone", methods.join(" and "));
        let remedy = "Add GET to `methods`, or move `cache` to the route that has it.";
        table.warn("cache-without-get", reason, remedy);
    }
}

/// A field that is removed from clients' requests can't be part of a key: whoever writes it would
/// choose the entry or the shard, and the application would not see it.
fn claims_are_no_keys(route: &Route, table: &Table<'_>) {
    let Some(offload) = &route.offload else { return };
    for name in offload.auth.said_by_check() {
        let is_cached =
            route.cache.as_ref().is_some_and(|it| it.headers.iter().any(|own| own == name));
        let is_sharded = route.shard.as_ref().is_some_and(|shard| {
            shard.from.iter().any(|it| matches!(it, KeySource::Header(own) if own == name))
        });
        if is_cached || is_sharded {
            let reason =
                format!("`{name}` is what auth.check answers, and is removed from requests");
            let remedy =
                "Take it out of cache.headers and shard.from, or let the key come from elsewhere.";
            table.fault("identity-as-key", reason, remedy);
        }
    }
}

/// A caller identified by a cookie is a browser. It mostly posts forms, which most applications
/// answer with a redirect.
fn form_ends_well(route: &Route, table: &Table<'_>) {
    let Some(offload) = &route.offload else { return };
    let methods = &route.matches.methods;
    let is_posted = methods.is_empty() || methods.iter().any(|method| method == "POST");
    let Auth::Caller { identity, login: None, .. } = &offload.auth else { return };
    let is_browser = identity.iter().any(|it| !matches!(it, Identity::Header(_)));
    if is_posted && is_browser {
        let reason =
            "a job whose answer redirects, as most forms end, is reported as failed (`redirected`): it may be the login page"
                .to_owned();
        let remedy = "Add login = \"/login\" to auth, the path of the application's login page (\"none\" if it never redirects there): other redirects are successes then.";
        table.warn("form-that-redirects", reason, remedy);
    }
}

/// Warns about what answers cached for bearers of tokens imply.
fn tokens_are_known(route: &Route, table: &Table<'_>) {
    let Some(cache) = &route.cache else { return };
    if !cache.headers.iter().any(|name| name == AUTHORIZATION) {
        return;
    }
    table.warn(
        "withdrawn-token",
        "a revoked token still reads its stored answers for the rest of their lifetime".to_owned(),
        "Choose a lifetime that is short enough for that.",
    );
    if cache.versioned != Versioned::No {
        table.fault(
            "versioned-with-token",
            "an asset that is kept for a year can't be one bearer's".to_owned(),
            "Drop `versioned`, and write a lifetime; or drop Authorization from `headers`.",
        );
    }
    if cache.edge.is_some() {
        table.warn(
            "no-secret",
            "without SPILLWAY_EDGE_KEYS the edge stores nothing for requests with Authorization"
                .to_owned(),
            "Give the Worker its keys: npx wrangler secret put SPILLWAY_EDGE_KEYS.",
        );
    }
}

/// Users' uploads are not named by content hashes: a replaced file would be served for a year.
fn assets_are_nobodys(route: &Route, table: &Table<'_>) {
    let is_all = route.cache.as_ref().is_some_and(|it| it.versioned == Versioned::All);
    let Ok(template) = Template::parse(&route.matches.path) else { return };
    if is_all && template.parameters().count() > 1 {
        let reason = format!(
            "{} looks like folders of users or things, and `versioned = \"all\"` keeps every file of them for a year",
            route.matches.path
        );
        table.warn(
            "versioned-by-parameter",
            reason,
            "Name the folder that the build tool writes (/assets/{*file}), or write versioned = true.",
        );
    }
}

/// Checks that each `{…}` in tags such as `"instrument-{instrument_id}"` is a parameter of the
/// path.
fn tags_are_possible(route: &Route, table: &Table<'_>) {
    let Some(cache) = &route.cache else { return };
    for tag in &cache.tags {
        if tag.len() > TAG_BYTES_MAX {
            let reason = format!("a tag has {} bytes; Cloudflare takes {TAG_BYTES_MAX}", tag.len());
            table.fault("tag-too-long", reason, "Shorten it: answers could not be purged by it.");
        }
        for piece in tag.split('{').skip(1) {
            let name = piece.split('}').next().unwrap_or_default();
            parameter_exists(route, name, table);
        }
    }
}

/// The conditions of a route, in a form that is equal for routes that match the same requests.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct RouteConditions<'d> {
    shape: String,
    strict_slash: bool,
    methods: Vec<&'d String>,
    hosts: Vec<&'d String>,
    headers: &'d BTreeMap<String, String>,
    query: &'d BTreeMap<String, String>,
}

impl<'d> RouteConditions<'d> {
    /// None for an invalid template, which is a fault of its own.
    fn of(own: &'d Match) -> Option<Self> {
        let sorted = |names: &'d [String]| {
            let mut names: Vec<_> = names.iter().collect();
            names.sort();
            names
        };
        Some(Self {
            shape: Template::parse(&own.path).ok()?.shape(),
            strict_slash: own.strict_slash,
            methods: sorted(&own.methods),
            hosts: sorted(&own.hosts),
            headers: &own.headers,
            query: &own.query,
        })
    }
}

/// Reports routes that match exactly the same requests as an earlier one, and so are never used.
fn shadowed<'d>(
    seen: &mut BTreeMap<RouteConditions<'d>, &'d str>,
    route: &'d Route,
    table: &Table<'_>,
) {
    let Some(matched) = RouteConditions::of(&route.matches) else { return };
    match seen.entry(matched) {
        Entry::Vacant(entry) => {
            entry.insert(&route.name);
        }
        Entry::Occupied(first) => {
            let reason = format!("`{}` matches the same requests and comes first", first.get());
            table.warn("route-shadowed", reason, "Remove one, or make its match differ.");
        }
    }
}
