//! Shard maps on the admin port: what is in force, which shard holds a key, and a new map from the coordinator
//! of a move.

use crate::message::body::{Body, BodySource, Collected, collect};
use crate::message::reply;
use crate::shards::live_maps::{LiveMaps, NotTaken};
use http::Response;
use hyper::body::Incoming;
use rules::path::query_values;
use rules::shard::object::OBJECT_BYTES_MAX;
use rules::shard::{Resolved, ShardKey, ShardKeys};
use std::time::Duration;

/// How long a push may wait for the writes of a fenced range to end. A move gives up before.
const WAIT_MAX: Duration = Duration::from_secs(30);

fn value(query: &str, name: &str) -> Option<String> {
    query_values(query, name).next()
}

/// `GET /shards/map`: all maps; with `?map=NAME` the signed object of one live map, for siblings that start.
pub(super) fn shown(maps: &LiveMaps, query: &str) -> Response<Body> {
    let rules = maps.active.rules();
    let Some(name) = value(query, "map") else {
        let maps = rules.shard_maps.iter().map(|(name, map)| {
            let own = match map.object() {
                Some(object) => serde_json::to_value(&**object).unwrap_or_default(),
                None => {
                    serde_json::to_value(rules.document.shard_maps.get(name)).unwrap_or_default()
                }
            };
            let (epoch, live) = (map.epoch(), map.is_live());
            (name.clone(), serde_json::json!({ "epoch": epoch, "live": live, "map": own }))
        });
        let maps: serde_json::Map<String, serde_json::Value> = maps.collect();
        return reply::json(200, &maps.into());
    };
    match maps.object(&name) {
        Some(object) => reply::json(200, &serde_json::to_value(&*object).unwrap_or_default()),
        None => reply::text(404, format!("no live shard map `{name}` is known here\n")),
    }
}

/// `GET /shards/lookup?map=market_data&key=15000`
pub(super) fn lookup(maps: &LiveMaps, query: &str) -> Response<Body> {
    let rules = maps.active.rules();
    let name = value(query, "map").unwrap_or_default();
    let Some(map) = rules.shard_maps.get(&name) else {
        return reply::text(404, format!("there is no shard map `{name}`\n"));
    };
    let text = value(query, "key").unwrap_or_default();
    let key = ShardKey::parse(map.key_type(), &text).ok_or(rules::Problem::KeyInvalid);
    match key.and_then(|key| Resolved::find(map, ShardKeys::One(key))) {
        Ok(found) => {
            let range = &found.range;
            reply::json(
                200,
                &serde_json::json!({
                    "map": &**found.map(), "key": found.keys.to_string(), "shard": &**found.shard(),
                    "epoch": found.epoch(), "range": range.text, "since": range.since,
                    "state": range.state.as_str(), "upstream": range.upstream.as_deref(),
                }),
            )
        }
        Err(problem) => reply::problem(&rules.document.jobs.base, problem, problem.title()),
    }
}

/// `POST /shards/map?wait=3s`: puts a map in force, and answers once no write of a fenced range is left, or
/// after the wait. The same twice changes nothing.
pub(super) async fn pushed(maps: &LiveMaps, query: &str, body: Incoming) -> Response<Body> {
    let wait = match value(query, "wait").map(|text| seconds(&text)) {
        None => Duration::ZERO,
        Some(Some(wait)) if wait <= WAIT_MAX => wait,
        Some(_) => return reply::text(400, "wait: write up to 30 seconds, as in ?wait=3s\n"),
    };
    let read = match collect(BodySource::Incoming(body).into(), OBJECT_BYTES_MAX).await {
        Ok(Collected::Whole(bytes)) => bytes,
        Ok(Collected::TooLarge(_)) => return reply::text(413, "a map has 1 MiB at most\n"),
        Err(error) => return reply::text(400, format!("{error}\n")),
    };
    let name = match maps.offer(&read) {
        Ok(object) => object.map.clone(),
        // Told of the newer one: the coordinator sees that it is not the last.
        Err(NotTaken::Older(_)) => match rules::shard::object::MapObject::read(&read) {
            Ok(object) => object.map,
            Err(why) => return reply::text(400, format!("{}: {why}\n", why.name())),
        },
        Err(why @ NotTaken::Conflict) => {
            return reply::text(409, format!("{}: {why}\n", why.name()));
        }
        Err(why) => return reply::text(400, format!("{}: {why}\n", why.name())),
    };
    let ack = maps.ack(&name, wait).await;
    reply::json(200, &serde_json::to_value(&ack).unwrap_or_default())
}

/// `3s` or `500ms`.
fn seconds(text: &str) -> Option<Duration> {
    if let Some(number) = text.strip_suffix("ms") {
        return Some(Duration::from_millis(number.parse().ok()?));
    }
    Some(Duration::from_secs(text.strip_suffix('s')?.parse().ok()?))
}
