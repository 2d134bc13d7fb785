//! The live maps that this process follows.

use super::looks::StoreLooks;
use crate::clock::Clock;
use crate::request::active_rules::ActiveRules;
use crate::room::ByteBudget;
use crate::telemetry::metrics::Metrics;
use crate::writes::Writes;
use rules::Rules;
use rules::shard::ShardMap;
use rules::shard::object::{MapObject, Unusable};
use rules::shard::protocol::{Adoption, adoption};
use std::fmt;
use std::sync::Arc;
use stores::results::Results;

/// Bodies that are kept for a second try, of all requests together in bytes. One that finds no room is sent from
/// its client's connection, and answered 503 if it meets a newer map.
const KEPT_BODIES_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What a process needs to follow live maps.
pub struct LiveMaps {
    pub active: Arc<ActiveRules>,
    pub writes: Arc<Writes>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    /// Where the objects lie; without it only a map that is pushed is known.
    pub results: Option<Arc<dyn Results>>,
    /// Host name and random digits: names this process among the members of a move.
    pub pod: String,
    /// Under which objects are signed; the first is the current one.
    keys: Vec<Vec<u8>>,
    /// Binding names of this process's upstreams.
    pub(super) bound: Vec<String>,
    /// The shard whose data the application beside us holds.
    pub(super) shard: Option<Arc<str>>,
    /// What is known of the store's objects.
    pub(super) store: StoreLooks,
    /// For bodies that are kept until another sidecar has taken the request.
    pub kept_bodies: ByteBudget,
}

/// What [`LiveMaps::new`] is made from.
pub struct LiveMapsParts {
    pub active: Arc<ActiveRules>,
    pub writes: Arc<Writes>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub results: Option<Arc<dyn Results>>,
    pub pod: String,
    pub keys: Vec<Vec<u8>>,
    pub bound: Vec<String>,
    pub shard: Option<Arc<str>>,
}

/// Why an object is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    Unusable(Unusable),
    /// It has the epoch of the map in force, and says something else.
    Conflict,
    /// The map in force is newer; by which epoch.
    Older(u64),
    /// No rules file of this process says that the map is live.
    NotLive,
}

impl NotTaken {
    /// As metrics and logs have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unusable(why) => why.name(),
            Self::Conflict => "conflict",
            Self::Older(_) => "older",
            Self::NotLive => "not-live",
        }
    }
}

impl fmt::Display for NotTaken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(why) => why.fmt(out),
            Self::Conflict => out.write_str(
                "another map of the same epoch is in force: the store broke a condition, or one of the two is forged",
            ),
            Self::Older(epoch) => write!(out, "the map in force is newer: epoch {epoch}"),
            Self::NotLive => out.write_str("the rules file does not say `live = true` for this map"),
        }
    }
}

impl From<Unusable> for NotTaken {
    fn from(why: Unusable) -> Self {
        Self::Unusable(why)
    }
}

impl LiveMaps {
    pub fn new(parts: LiveMapsParts) -> Self {
        Self {
            active: parts.active,
            writes: parts.writes,
            metrics: parts.metrics,
            clock: parts.clock,
            results: parts.results,
            pod: parts.pod,
            keys: parts.keys,
            bound: parts.bound,
            shard: parts.shard,
            store: StoreLooks::default(),
            kept_bodies: ByteBudget::new(KEPT_BODIES_BYTES_MAX),
        }
    }

    /// Names of the live maps of the rules in force.
    pub fn names(&self) -> Vec<Arc<str>> {
        let rules = self.active.rules();
        let live = rules.shard_maps.values().filter(|map| map.is_live());
        live.map(|map| Arc::clone(map.name())).collect()
    }

    /// The object of a map in force.
    pub fn object(&self, name: &str) -> Option<Arc<MapObject>> {
        self.active.rules().shard_maps.get(name)?.object().cloned()
    }

    /// Whether a range of the map moves: then changes come soon.
    pub fn is_moving(&self, name: &str) -> bool {
        self.object(name).is_some_and(|object| object.moving.is_some())
    }

    /// Waits until no range of the map moves.
    pub async fn settled(&self, name: &str) {
        let mut changes = self.active.changes();
        // The sender lives as long as the process.
        while self.is_moving(name) && changes.changed().await.is_ok() {}
    }

    /// Takes an object if it is one of ours and not older than what is in force.
    ///
    /// # Errors
    /// Why it is not in force now.
    pub fn offer(&self, bytes: &[u8]) -> Result<Arc<MapObject>, NotTaken> {
        let offered = MapObject::read(bytes).map_err(NotTaken::from).and_then(|object| {
            let object = Arc::new(object);
            self.active.change_map(|rules| match self.adopted(rules, &object) {
                Ok(map) => (map, Ok(Arc::clone(&object))),
                Err(why) => (None, Err(why)),
            })
        });
        match &offered {
            Ok(object) => self.show(object),
            Err(NotTaken::Older(_)) => {}
            Err(why) => {
                let name = name_of(bytes).unwrap_or_default();
                let is_ours = self.active.rules().shard_maps.contains_key(&name);
                let label = if is_ours { name.as_str() } else { "other" };
                self.metrics.shards.refused.with_label_values(&[label, why.name()]).inc();
                tracing::error!(map = name, reason = why.name(), "shard map refused: {why}");
            }
        }
        offered
    }

    /// The map to put in force, if it is another one than is.
    fn adopted(
        &self,
        rules: &Rules,
        object: &Arc<MapObject>,
    ) -> Result<Option<ShardMap>, NotTaken> {
        let document = rules.document.shard_maps.get(&object.map).filter(|map| map.live);
        let (document, old) = document
            .and_then(|document| Some((document, rules.shard_maps.get(&object.map)?)))
            .ok_or(NotTaken::NotLive)?;
        object.admit(&object.map, document, &self.keys)?;
        let in_force = old.object().map(|own| (own.epoch, own.hash()));
        let in_force = in_force.as_ref().map(|(epoch, hash)| (*epoch, hash.as_str()));
        match adoption(in_force, (object.epoch, &object.hash())) {
            Adoption::Conflict => return Err(NotTaken::Conflict),
            Adoption::Older => return Err(NotTaken::Older(old.epoch())),
            // A new mac of the same map is taken, too: it is what peers are given.
            Adoption::Same if old.object().is_some_and(|own| own.mac == object.mac) => {
                return Ok(None);
            }
            Adoption::Same | Adoption::Take => {}
        }
        let map = ShardMap::live(old.name(), document, object);
        let map = map.map_err(|why| NotTaken::Unusable(Unusable::Contradiction(why)))?;
        let (epoch, why, by) = (object.epoch, &object.changed.why, &object.changed.by);
        let moving = object.describe_move().unwrap_or_default();
        tracing::info!(map = object.map, epoch, by, why, moving, "shard map in force");
        Ok(Some(map))
    }

    fn show(&self, object: &MapObject) {
        let shards = &self.metrics.shards;
        let name = [object.map.as_str()];
        let is_current = self.keys.first().is_some_and(|key| object.is_signed_by(key));
        shards.signed_by_first_key.with_label_values(&name).set(is_current.into());
        let rules = self.active.rules();
        let seed = rules.document.shard_maps.get(&object.map).map(|document| {
            let seed = rules::shard::change::first(&object.map, document, object.changed.clone());
            let bounds = |own: &MapObject| {
                let ranges = own.ranges.iter().map(|own| (own.from.clone(), own.shard.clone()));
                (ranges.collect::<Vec<_>>(), own.until.clone())
            };
            bounds(&seed) != bounds(object)
        });
        shards.seed_differs.with_label_values(&name).set(seed.unwrap_or(false).into());
    }
}

/// Of an object that may be none.
fn name_of(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    Some(value.get("map")?.as_str()?.to_owned())
}
