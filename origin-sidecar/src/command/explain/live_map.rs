//! Live shard maps to explain by: from a file, or from the admin port of a sidecar.

use super::super::pods::send;
use crate::command::run::runtime;
use crate::command::stop::Stop;
use http::Request;
use net::https;
use rules::Rules;
use rules::shard::ShardMap;
use rules::shard::object::MapObject;
use std::sync::Arc;
use std::time::Duration;

/// How long a sidecar may take to show its map.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The rules with these live maps in force. Each is a file, or an address such as
/// `http://127.0.0.1:9901/shards/map?map=market`. Nobody is bound by what is explained, so that signatures are
/// not looked at.
///
/// # Errors
/// Code 78 when one can't be read, or is no live map of these rules.
pub fn with_maps(rules: Rules, sources: &[String]) -> Result<Rules, Stop> {
    let mut rules = rules;
    for source in sources {
        let refused = |why: String| Stop::config(format!("--map {source}: {why}"));
        let bytes = read(source).map_err(refused)?;
        let object = MapObject::read(&bytes).map_err(|why| refused(why.to_string()))?;
        let document = rules.document.shard_maps.get(&object.map).filter(|document| document.live);
        let document = document.ok_or_else(|| {
            refused(format!("the rules file has no live [shard_map.{}]", object.map))
        })?;
        object.fits(document).map_err(|why| refused(why.to_string()))?;
        let name: Arc<str> = object.map.as_str().into();
        let map = ShardMap::live(&name, document, &Arc::new(object)).map_err(refused)?;
        rules = rules.with_map(Arc::new(map));
    }
    Ok(rules)
}

fn read(source: &str) -> Result<Vec<u8>, String> {
    if !source.starts_with("http://") {
        return std::fs::read(source).map_err(|error| error.to_string());
    }
    let runtime = runtime().map_err(|stop| stop.reason)?;
    let token = std::env::var("SPILLWAY_ADMIN_TOKEN").ok();
    let request = Request::get(source);
    let wait = (String::new(), ANSWER_TIMEOUT);
    runtime.block_on(async {
        let said = send(&https::client(), request, token.as_deref(), wait).await;
        said.map(String::into_bytes)
    })
}
