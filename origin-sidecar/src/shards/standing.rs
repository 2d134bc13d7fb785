//! What this process says of a live map to the coordinator of a move.

use super::live_maps::LiveMaps;
use crate::writes::InRange;
use rules::shard::ShardKeys;
use rules::shard::object::MoveStage;
use rules::shard::protocol::Ack;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

impl LiveMaps {
    /// What this process says of a map to the coordinator of a move. Waits until no write of a fenced range is
    /// left, but not beyond `wait`.
    pub async fn ack(&self, name: &str, wait: Duration) -> Ack {
        let end = Instant::now() + wait;
        let object = self.object(name);
        let fenced = object.as_ref().filter(|own| {
            own.moving.as_ref().is_some_and(|moving| moving.stage == MoveStage::Fenced)
        });
        if let Some(object) = fenced {
            let object = Arc::clone(object);
            let is_inside = move |keys: &ShardKeys| object.moves(keys);
            self.writes.drained(name, &is_inside, end).await;
        }
        self.standing(name)
    }

    /// The same at this moment.
    pub fn standing(&self, name: &str) -> Ack {
        let rules = self.active.rules();
        let document = rules.document.shard_maps.get(name);
        let object = rules.shard_maps.get(name).and_then(|map| map.object());
        let left = object.map_or_else(InRange::default, |object| {
            self.writes.in_range(name, &|keys: &ShardKeys| object.moves(keys))
        });
        let is_unbound = |upstream: &Option<String>, shard: &String| {
            let is_own = self.shard.as_deref() == Some(shard.as_str());
            upstream.as_ref().is_some_and(|own| !is_own && !self.bound.contains(own))
        };
        let shards = document.map(|document| &document.shards).into_iter().flatten();
        let unbound = shards.filter(|(name, shard)| is_unbound(&shard.upstream, name));
        let unknown = object
            .iter()
            .flat_map(|object| object.shards())
            .filter(|shard| document.is_some_and(|document| !document.shards.contains_key(*shard)));
        Ack {
            pod: self.pod.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            map: name.to_owned(),
            is_live: document.is_some_and(|document| document.live),
            epoch: object.map_or(0, |object| object.epoch),
            hash: object.map_or_else(String::new, |object| object.hash()),
            map_rules: rules.document.map_rules(name),
            seed: rules.document.map_seed(name),
            config_hash: rules.hash.clone(),
            in_flight: left.requests,
            unsettled: left.unsettled,
            adopted: left.adopted,
            jobs: left.jobs,
            writes: left.named,
            held: u64::try_from(self.metrics.shards.held.with_label_values(&[name]).get())
                .unwrap_or(0),
            unknown_shards: unknown.map(str::to_owned).collect(),
            unbound: unbound.map(|(name, _)| name.clone()).collect(),
        }
    }
}
