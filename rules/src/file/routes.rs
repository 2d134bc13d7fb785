//! Reads `[[route]]`: match, cache, shard and CORS of one route.

use super::names;
use super::offloads;
use super::tree::{Table, Value};
use super::values::{MODES, key_source, lower};
use crate::assets::Assets;
use crate::document::{
    AmbiguousPath, Cache, Cors, Lifetime, Match, Mode, Override, QueryRest, Route, SETTLE_DEFAULT,
    ShardRule, UNMATCHED, Versioned,
};
use crate::route::Template;
use crate::time::Millis;
use std::collections::BTreeMap;

/// Fields with directives for CDNs apart from browsers: Spillway's own first, then the common one.
const TARGETED_DEFAULT: [&str; 2] = ["spillway-cache-control", "cdn-cache-control"];

/// How many bytes of a body are read to find a shard key, unless the route says otherwise.
const BODY_LIMIT_DEFAULT: u64 = 64 * 1024;

pub(super) fn route(table: &Table<'_>) -> Route {
    let name = table.required_text("name");
    if !name.is_empty() && (!names::is_name(&name) || name == UNMATCHED) {
        names::own(table, &name);
    }
    let mode = table.choice("mode", MODES).unwrap_or(Mode::On);
    let ambiguous = [("refuse", AmbiguousPath::Refuse), ("bypass", AmbiguousPath::Bypass)];
    let route = Route {
        name,
        matches: matches(table),
        ambiguous_path: table.choice("ambiguous_path", &ambiguous).unwrap_or(AmbiguousPath::Refuse),
        timeout: table.duration("timeout"),
        idle_timeout: table.duration("idle_timeout"),
        total_timeout: table.duration("total_timeout"),
        max_body: table.size("max_body"),
        concurrency: table.number("concurrency", 1, 100_000),
        upstream: table.text("upstream"),
        require_signature: table.optional_flag("require_signature"),
        cors: table.table("cors").map(|cors| read_cors(&cors)),
        cache: table.table("cache").map(|cache| read_cache(&cache, mode)),
        shard: table.table("shard").map(|shard| read_shard(&shard, mode)),
        offload: table.table("offload").map(|offload| offloads::read(&offload, mode)),
    };
    if route.cors.is_some() && route.cache.is_some() && !Assets::are_for_all_origins(&route) {
        let reason = "an answer that names one origin can't be shared with others".to_owned();
        table.fault(
            "cors-with-cache",
            reason,
            "Let the app send the CORS fields, or drop `cache`. On a `versioned` route origins = [\"*\"] is allowed.",
        );
    }
    if route.total_timeout.is_some() && route.offload.is_some() {
        let reason = "a request whose job is queued would be told that it took too long".to_owned();
        let remedy = "Remove `total_timeout`: a queued request is answered before, and `job_timeout` of the queue ends jobs.";
        table.fault("total-with-offload", reason, remedy);
    }
    if let (Some(offload), Some(own)) = (&route.offload, table.table("offload")) {
        offloads::wait_is_possible(&own, offload, route.timeout);
    }
    table.finish();
    route
}

/// How long browsers keep a preflight's answer, in milliseconds; Chromium's limit is two hours.
const CORS_MAX_AGE_DEFAULT: Millis = Millis(600_000);

fn read_cors(table: &Table<'_>) -> Cors {
    if !table.has("origins") {
        table.missing("origins", "e.g. [\"https://app.example.com\"]");
    }
    let cors = Cors {
        origins: table.texts("origins").unwrap_or_default(),
        credentials: table.flag("credentials"),
        max_age: table.duration("max_age").unwrap_or(CORS_MAX_AGE_DEFAULT),
    };
    for origin in &cors.origins {
        let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if origin != "*" && rest.is_none_or(|rest| rest.is_empty() || rest.contains('/')) {
            let reason = format!("`{origin}` is not an origin");
            table.fault("bad-origin", reason, "Write https://host without a slash at the end.");
        }
    }
    if cors.credentials && cors.origins.iter().any(|origin| origin == "*") {
        let reason = "browsers refuse cookies for `*`".to_owned();
        table.fault("cors-for-all", reason, "Name the origins, or remove credentials.");
    }
    table.finish();
    cors
}

fn matches(route: &Table<'_>) -> Match {
    let empty = Match {
        path: String::new(),
        strict_slash: false,
        hosts: Vec::new(),
        methods: Vec::new(),
        headers: Default::default(),
        query: Default::default(),
    };
    let Some(table) = route.table("match") else {
        route.missing("match", "a table with at least a path");
        return empty;
    };
    let path = table.required_text("path");
    if table.has("path")
        && let Err(reason) = Template::parse(&path)
        && let Some(value) = table.value("path")
    {
        value.fault(
            "bad-path",
            reason,
            "Write a path such as \"/api/{id}\", \"/assets/{*file}\" or \"/feed/{name}.xml\".",
        );
    }
    let methods = table.texts("methods").unwrap_or_default();
    for method in &methods {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            table.fault(
                "bad-method",
                format!("`{method}` is not a method"),
                "Write methods in capitals: [\"GET\", \"POST\"].",
            );
        }
    }
    let read = Match {
        path,
        strict_slash: table.flag("strict_slash"),
        hosts: lower(table.texts("hosts").unwrap_or_default()),
        methods,
        headers: pairs(&table, "headers", true),
        query: pairs(&table, "query", false),
    };
    table.finish();
    read
}

fn pairs(table: &Table<'_>, key: &str, is_lower: bool) -> BTreeMap<String, String> {
    let Some(table) = table.table(key) else { return Default::default() };
    let pair = |(name, value): (String, Value<'_>)| {
        let name = if is_lower { name.to_ascii_lowercase() } else { name };
        Some((name, value.text()?.to_owned()))
    };
    table.entries().filter_map(pair).collect()
}

/// Reads `{ 404 = "10s", 503 = "1s" }`.
fn negative(table: &Table<'_>) -> BTreeMap<u16, Millis> {
    let Some(table) = table.table("negative") else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for (status, value) in table.entries() {
        match status.parse() {
            Ok(status @ 400..=599) => {
                found.insert(status, value.duration().unwrap_or_default());
            }
            _ => value.fault(
                "bad-status",
                format!("`{status}` is not an error status"),
                "Write a status from 400 to 599: 404 = \"10s\".",
            ),
        }
    }
    found
}

fn read_cache(table: &Table<'_>, route: Mode) -> Cache {
    let rests = [("strip", QueryRest::Strip), ("bypass", QueryRest::Bypass)];
    let overrides = [
        ("private", Override::Private),
        ("no-cache", Override::NoCache),
        ("no-store", Override::NoStore),
        ("must-revalidate", Override::MustRevalidate),
        ("set-cookie", Override::SetCookie),
    ];
    let cache = Cache {
        mode: table.choice("mode", MODES).unwrap_or(route),
        versioned: versioned(table),
        edge: lifetime(table, "edge"),
        sidecar: lifetime(table, "sidecar"),
        browser: table.duration("browser"),
        stale_while_revalidate: table.duration("stale_while_revalidate"),
        stale_if_error: table.duration("stale_if_error"),
        max_staleness: table.duration("max_staleness"),
        query: table.texts("query"),
        query_rest: table.choice("query_rest", &rests).unwrap_or(QueryRest::Strip),
        headers: lower(table.texts("headers").unwrap_or_default()),
        unkeyed_headers: lower(table.texts("unkeyed_headers").unwrap_or_default()),
        cookies: table.texts("cookies").unwrap_or_default(),
        ignore_cookies: table.flag("ignore_cookies"),
        bypass_cookies: table.texts("bypass_cookies").unwrap_or_default(),
        overrides: table.value("override").map_or_else(Vec::new, |value| {
            value.items().iter().filter_map(|item| item.choice(&overrides)).collect()
        }),
        targeted: table
            .texts("targeted")
            .map_or_else(|| TARGETED_DEFAULT.map(str::to_owned).to_vec(), lower),
        negative: negative(table),
        strip_cookies: table.flag("strip_cookies"),
        tags: table.texts("tags").unwrap_or_default(),
    };
    if cache.edge.is_none() && cache.sidecar.is_none() && cache.versioned == Versioned::No {
        table.fault(
            "cache-without-tier",
            "nothing would be stored".into(),
            "Name a tier: edge = \"5s\", sidecar = \"1s\", or versioned = true.",
        );
    }
    if cache.ignore_cookies && !cache.cookies.is_empty() {
        table.fault(
            "cookies-twice",
            "`cookies` and `ignore_cookies` contradict each other".into(),
            "Keep the one you mean.",
        );
    }
    table.finish();
    cache
}

/// Reads `true`, `false` or `"all"`.
fn versioned(table: &Table<'_>) -> Versioned {
    match table.value("versioned") {
        Some(value) if value.is_text() => {
            value.choice(&[("all", Versioned::All)]).unwrap_or(Versioned::No)
        }
        _ if table.flag("versioned") => Versioned::ByName,
        _ => Versioned::No,
    }
}

fn lifetime(table: &Table<'_>, key: &str) -> Option<Lifetime> {
    let value = table.value(key)?;
    if value.is_text() && value.text() == Some("from-origin") {
        return Some(Lifetime::FromOrigin);
    }
    value.duration().map(Lifetime::Fixed)
}

fn read_shard(table: &Table<'_>, route: Mode) -> ShardRule {
    if !table.has("from") {
        table.missing("from", "where the key is, e.g. [\"path:id\"]");
    }
    let sources = table.value("from").map_or_else(Vec::new, |value| value.items());
    let rule = ShardRule {
        mode: table.choice("mode", MODES).unwrap_or(route),
        map: table.required_text("map"),
        from: sources.iter().filter_map(key_source).collect(),
        body_limit: table.size("body_limit").unwrap_or(BODY_LIMIT_DEFAULT),
        writes: table.optional_flag("writes"),
        settle: table.duration("settle").unwrap_or(SETTLE_DEFAULT),
    };
    table.finish();
    rule
}
