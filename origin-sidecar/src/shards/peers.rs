//! How a process that starts finds its maps: in the result store, in the log beside it, or at a sibling.

use super::keys;
use super::live_maps::{LiveMaps, NotTaken};
use super::store::{StoreAnswer, read};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use net::https::{self, HttpsClient};
use rules::shard::object::OBJECT_BYTES_MAX;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a process that starts waits for its maps before it says that it has started: longer than a store's
/// short absence, shorter than a rollout's patience.
const START_WAIT: Duration = Duration::from_secs(30);
/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(1);
/// One sibling, or one call to the store.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Entries of the log that are newer than the store's map; more than one is a store that lost much.
const LOG_MAX: usize = 1_000;

/// Siblings and what they ask of whoever asks them.
pub struct Peers {
    /// `HOST:PORT` of admin ports; every address of a name is asked.
    pub names: Vec<String>,
    pub token: Option<String>,
}

/// Looks until every live map is known, or no longer than [`START_WAIT`], however many siblings do not answer.
pub async fn find(maps: &LiveMaps, peers: &Peers) {
    let _ = tokio::time::timeout(START_WAIT, rounds(maps, peers)).await;
    for map in unknown(maps) {
        let map = &*map;
        tracing::warn!(
            map,
            "no shard map is known: its routes answer 503 map-unknown until one is"
        );
    }
}

fn unknown(maps: &LiveMaps) -> Vec<Arc<str>> {
    maps.names().into_iter().filter(|name| maps.object(name).is_none()).collect()
}

async fn rounds(maps: &LiveMaps, peers: &Peers) {
    let client = https::client();
    loop {
        let mut may_come = false;
        for name in maps.names() {
            let seen = tokio::time::timeout(ANSWER_TIMEOUT, maps.look(&name)).await;
            may_come |= !matches!(seen, Ok(Ok(_)));
            let _ = tokio::time::timeout(ANSWER_TIMEOUT, newest_of_log(maps, &name)).await;
            if !matches!(seen, Ok(Ok(StoreAnswer::Current))) {
                ask_siblings(maps, &client, peers, &name).await;
            }
        }
        // A store that says that there is none will not say otherwise in a moment.
        if !may_come || unknown(maps).is_empty() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The log's last entry, where that is newer than the store's map: the store was set back.
async fn newest_of_log(maps: &LiveMaps, name: &str) {
    let Some(results) = &maps.results else { return };
    let epoch = maps.object(name).map_or(0, |object| object.epoch);
    let listed = results.list(&keys::logs(name), &keys::log(name, epoch), LOG_MAX).await;
    let Some(last) = listed.ok().and_then(|mut listed| listed.pop()) else { return };
    if let Ok(Some((bytes, _))) = read(results.as_ref(), &last.key).await
        && maps.offer(&bytes).is_ok()
    {
        let (map, reason) = (name, "map-store-behind");
        maps.metrics.shards.refused.with_label_values(&[map, reason]).inc();
        tracing::error!(
            map,
            reason,
            "the log has a newer shard map than the store: `spillway shards restore`"
        );
    }
}

async fn ask_siblings(maps: &LiveMaps, client: &HttpsClient, peers: &Peers, name: &str) {
    for sibling in &peers.names {
        let found = tokio::time::timeout(ANSWER_TIMEOUT, tokio::net::lookup_host(sibling)).await;
        let Ok(Ok(addresses)) = found else { continue };
        for address in addresses {
            let asked = ask(client, address, peers.token.as_deref(), name);
            let Ok(Some(bytes)) = tokio::time::timeout(ANSWER_TIMEOUT, asked).await else {
                continue;
            };
            match maps.offer(&bytes) {
                Ok(_) | Err(NotTaken::Older(_)) => {}
                Err(why) => {
                    tracing::warn!(%address, map = name, "a sibling's map is of no use: {why}")
                }
            }
        }
    }
}

async fn ask(
    client: &HttpsClient,
    sibling: SocketAddr,
    token: Option<&str>,
    name: &str,
) -> Option<Bytes> {
    let mut request = Request::get(format!("http://{sibling}/shards/map?map={name}"));
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    let response = client.request(request.body(body).ok()?).await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let body = Limited::new(response.into_body(), OBJECT_BYTES_MAX).collect().await.ok()?;
    Some(body.to_bytes())
}
