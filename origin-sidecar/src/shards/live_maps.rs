//! The live maps that this process follows.

use super::keys;
use crate::clock::Clock;
use crate::request::active_rules::ActiveRules;
use crate::telemetry::metrics::Metrics;
use crate::writes::{InRange, Writes};
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Limited;
use rules::Rules;
use rules::shard::object::{MapObject, MoveStage, OBJECT_BYTES_MAX, Unusable};
use rules::shard::protocol::{Ack, Adoption, adoption};
use rules::shard::{Keys, ShardMap};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stores::results::{Results, StoreError};
use tokio::time::Instant;

/// One refresh of a map at a time, and no more often: a burst of stale requests asks the store once.
const REFRESH_PAUSE: Duration = Duration::from_millis(500);
/// How long a request waits for a refresh.
pub const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a store may show an older map than ours before it is said: a read may be late, not that late.
const BEHIND_AFTER: Duration = Duration::from_secs(60);

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
    bound: Vec<String>,
    /// The shard whose data the application beside us holds.
    shard: Option<Arc<str>>,
    looks: Mutex<BTreeMap<String, Look>>,
    /// Held while the store is asked for a map.
    asking: tokio::sync::Mutex<()>,
}

/// What is known of the store's object of one map.
struct Look {
    etag: Option<String>,
    /// When the store last confirmed the map in force.
    confirmed: Instant,
    asked: Instant,
    /// Since when the store shows an older map than the one in force.
    behind_since: Option<Instant>,
}

/// WriteKind [`LiveMaps::new`] is made from.
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

/// What the store says of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is in force.
    Current,
    /// There is none.
    Missing,
    /// There is one that was not taken.
    Refused,
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
            looks: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
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

    /// Asks the store for a map and takes it if it is newer.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn look(&self, name: &str) -> Result<Seen, StoreError> {
        let Some(results) = &self.results else { return Ok(Seen::Missing) };
        let _alone = self.asking.lock().await;
        let key = keys::map(name);
        let known = self.with_look(name, |look| {
            look.asked = Instant::now();
            look.etag.clone()
        });
        let found = results.head(&key).await?;
        let Some((etag, _)) = found else {
            self.metrics
                .shards
                .lost
                .with_label_values(&[name])
                .set(self.object(name).is_some().into());
            return Ok(Seen::Missing);
        };
        self.metrics.shards.lost.with_label_values(&[name]).set(0);
        if known.as_ref() == Some(&etag) {
            self.confirm(name);
            return Ok(Seen::Current);
        }
        let Some((bytes, etag)) = read(results.as_ref(), &key).await? else {
            return Ok(Seen::Missing);
        };
        match self.offer(&bytes) {
            Ok(_) => {
                self.with_look(name, |look| look.etag = Some(etag));
                self.confirm(name);
                Ok(Seen::Current)
            }
            Err(NotTaken::Older(_)) => {
                self.note_behind(name);
                Ok(Seen::Refused)
            }
            Err(_) => Ok(Seen::Refused),
        }
    }

    fn confirm(&self, name: &str) {
        self.with_look(name, |look| {
            (look.confirmed, look.behind_since) = (Instant::now(), None);
        });
        self.show_age(name);
    }

    /// A store that shows an older map for a minute has lost what was written.
    fn note_behind(&self, name: &str) {
        let since =
            self.with_look(name, |look| *look.behind_since.get_or_insert_with(Instant::now));
        if since.elapsed() >= BEHIND_AFTER {
            let reason = "map-store-behind";
            self.metrics.shards.refused.with_label_values(&[name, reason]).inc();
            tracing::error!(
                map = name,
                reason,
                "the result store shows an older shard map than the one in force: `spillway shards restore`"
            );
        }
    }

    /// How long ago the store confirmed the map, as metrics have it.
    pub fn show_age(&self, name: &str) {
        let age = self.with_look(name, |look| look.confirmed.elapsed().as_secs());
        let age = i64::try_from(age).unwrap_or(i64::MAX);
        self.metrics.shards.age_seconds.with_label_values(&[name]).set(age);
    }

    /// Looks for a map that is newer than `epoch`, unless somebody just has. Returns when one is in force, or
    /// after [`REFRESH_TIMEOUT`].
    pub async fn refresh(&self, name: &str, epoch: u64) {
        let is_newer = || self.object(name).is_some_and(|object| object.epoch > epoch);
        let end = Instant::now() + REFRESH_TIMEOUT;
        let mut changes = self.active.changes();
        while !is_newer() && Instant::now() < end {
            let asked = self.with_look(name, |look| look.asked);
            if asked + REFRESH_PAUSE <= Instant::now() {
                let _ = tokio::time::timeout_at(end, self.look(name)).await;
                continue;
            }
            let next = (asked + REFRESH_PAUSE).min(end);
            let _ = tokio::time::timeout_at(next, changes.changed()).await;
        }
    }

    fn with_look<T>(&self, name: &str, act: impl FnOnce(&mut Look) -> T) -> T {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let long_ago = now.checked_sub(REFRESH_PAUSE).unwrap_or(now);
        let look = looks.entry(name.to_owned()).or_insert_with(|| Look {
            etag: None,
            confirmed: now,
            asked: long_ago,
            behind_since: None,
        });
        act(look)
    }

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
            let is_inside = move |keys: &Keys| object.moves(keys);
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
            self.writes.in_range(name, &|keys: &Keys| object.moves(keys))
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

/// Of an object that may be none.
fn name_of(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    Some(value.get("map")?.as_str()?.to_owned())
}

/// An object of the store with its etag.
///
/// # Errors
/// When the store does not answer, or breaks off.
pub async fn read(results: &dyn Results, key: &str) -> Result<Option<(Bytes, String)>, StoreError> {
    let Some(object) = results.get(key, None).await? else { return Ok(None) };
    let body = Limited::new(object.body, OBJECT_BYTES_MAX + 1).collect().await;
    let body =
        body.map_err(|error| StoreError { name: "read-failed", detail: error.to_string() })?;
    Ok(Some((body.to_bytes(), object.etag)))
}
