//! The coordinator of live maps: everything but moves.

use super::super::bindings::open_results;
use super::super::settings;
use super::super::stop::Stop;
use super::arguments::{Changing, ShardsSettings};
use super::events::{Events, listed};
use crate::clock::{Clock, System};
use crate::operate::reload;
use crate::secrets::Purpose;
use crate::shards::keys;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::https::{self, HttpsClient};
use rules::Rules;
use rules::document::{KeyType, ShardMapSection};
use rules::shard::change::{ChangeRefusal, first};
use rules::shard::coordinate::not_retired;
use rules::shard::object::{Changed, MapObject};
use rules::shard::{RangeState, Resolved, ShardKey, ShardKeys, ShardMap, interval, range_label};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use stores::results::Results;

/// A map as the store has it.
pub(super) struct StoredMap {
    pub object: MapObject,
    pub etag: String,
}

/// Prints the key that signs maps: it needs no store.
///
/// # Errors
/// Code 78 when there is no secret.
pub(super) fn say_key(settings: &ShardsSettings, events: &Events) -> Result<(), Stop> {
    let keys = map_keys(settings).map_err(Stop::config)?;
    let key = keys.first().map(|key| STANDARD.encode(key)).unwrap_or_default();
    events.say("key", json!({ "key": key }), &key)
}

/// What the commands work with.
pub(super) struct Coordinator<'a> {
    pub settings: &'a ShardsSettings,
    pub events: Events,
    pub results: Arc<dyn Results>,
    pub rules: Rules,
    /// Under which maps are signed; the first is the current one.
    pub keys: Vec<Vec<u8>>,
    pub client: HttpsClient,
}

impl<'a> Coordinator<'a> {
    /// # Errors
    /// Code 78 with what is missing.
    pub(super) async fn open(settings: &'a ShardsSettings, events: Events) -> Result<Self, Stop> {
        let rules = reload::load(&settings.routes).map_err(Stop::config)?;
        let Some(results) = &settings.results else {
            return Err(Stop::config("no result store: add --results s3://BUCKET or file:DIR"));
        };
        let results = open_results(results).await.map_err(Stop::config)?;
        let keys = map_keys(settings).map_err(Stop::config)?;
        Ok(Self { settings, events, results, rules, keys, client: https::client() })
    }

    /// The map in the rules file, which must be live.
    ///
    /// # Errors
    /// Code 78 when it is not.
    pub(super) fn document(&self, name: &str) -> Result<&ShardMapSection, Stop> {
        match self.rules.document.shard_maps.get(name) {
            Some(document) if document.live => Ok(document),
            Some(_) => Err(Stop::config(format!(
                "shard map {name} is that of the rules file: write `live = true` to change it while it runs"
            ))),
            None => Err(Stop::config(format!("the rules file has no [shard_map.{name}]"))),
        }
    }

    pub(super) fn signed(&self, object: MapObject) -> Result<MapObject, Stop> {
        let key = self.keys.first().ok_or_else(|| Stop::config("no key signs the map"))?;
        Ok(object.signed(key))
    }

    pub(super) fn changed(&self, changing: &Changing, what: &str) -> Changed {
        let why = if changing.why.is_empty() {
            what.to_owned()
        } else {
            format!("{what}: {}", changing.why)
        };
        Changed { by: changing.author(), at: System.now(), why }
    }

    /// Says what a change does, asks, and makes it; none for a dry run.
    ///
    /// # Errors
    /// When it is not wanted, not possible, or somebody else was first.
    pub(super) async fn change(
        &self,
        changing: &Changing,
        before: Option<&StoredMap>,
        next: Result<MapObject, ChangeRefusal>,
    ) -> Result<Option<StoredMap>, Stop> {
        let next = next.map_err(|why| Stop::run(format!("{}: {why}", why.name())))?;
        let owners = next.shards().find(|shard| {
            self.document(&changing.map).is_ok_and(|document| !document.shards.contains_key(*shard))
        });
        if let Some(shard) = owners {
            return Err(Stop::run(format!(
                "unknown-shard: the rules file declares no shard `{shard}` in [shard_map.{}]",
                changing.map
            )));
        }
        let what = format!("{}: epoch {}: {}", next.map, next.epoch, next.changed.why);
        let facts = json!({ "map": next.map, "epoch": next.epoch, "why": next.changed.why });
        self.events.say("plan", facts, &what)?;
        if changing.dry_run {
            return Ok(None);
        }
        self.events.confirm(changing.yes)?;
        let stored = self.put(before, next).await?;
        let (map, epoch) = (&stored.object.map, stored.object.epoch);
        self.events.say(
            "stored",
            json!({ "map": map, "epoch": epoch }),
            &format!("{map}: epoch {epoch} is stored"),
        )?;
        Ok(Some(stored))
    }

    /// A change that needs no ack: the processes are told, and find it by themselves otherwise.
    async fn change_and_tell(
        &self,
        changing: &Changing,
        before: Option<&StoredMap>,
        next: Result<MapObject, ChangeRefusal>,
    ) -> Result<(), Stop> {
        let Some(stored) = self.change(changing, before, next).await? else { return Ok(()) };
        let heard = self.heard(&stored.object, Duration::ZERO).await?;
        self.say_members(&stored.object, &heard)
    }

    pub(super) async fn init(&self, own: &Changing) -> Result<(), Stop> {
        let document = self.document(&own.map)?;
        if let Some(found) = self.find(&own.map).await? {
            return Err(Stop::run(format!(
                "shard map {} is live already: epoch {}",
                own.map, found.object.epoch
            )));
        }
        if let Some(last) = self.versions(&own.map).await?.pop() {
            return Err(Stop::run(format!(
                "the store has lost the map {}, which was at epoch {}: `spillway shards restore {}`",
                own.map, last.epoch, own.map
            )));
        }
        self.prove_conditions(&own.map).await?;
        let object = first(&own.map, document, self.changed(own, "init"));
        self.change_and_tell(own, None, object.checked()).await
    }

    pub(super) async fn restore(&self, own: &Changing) -> Result<(), Stop> {
        self.document(&own.map)?;
        let found = self.found(&own.map).await?;
        let mut known = self.versions(&own.map).await?;
        known.extend(self.of_members(&own.map).await);
        known.retain(|object| {
            object.admit(&own.map, &self.rules.document.shard_maps[&own.map], &self.keys).is_ok()
        });
        let Some(newest) = known.into_iter().max_by_key(|object| object.epoch) else {
            return Err(Stop::run(
                "neither log nor processes know the map: `spillway shards init`",
            ));
        };
        // What lies there and can't be read is replaced, too: nobody follows it.
        let stored = found.map(|(read, etag)| match read {
            Ok(object) => StoredMap { object, etag },
            Err(_) => StoredMap { object: MapObject { epoch: 0, ..newest.clone() }, etag },
        });
        if stored.as_ref().is_some_and(|stored| stored.object.epoch >= newest.epoch) {
            return Err(Stop::run("the store has the newest version that anybody knows"));
        }
        let what = format!("restore of epoch {}", newest.epoch);
        let epoch = newest.epoch + 1;
        let next = MapObject { epoch, changed: self.changed(own, &what), ..newest };
        self.change_and_tell(own, stored.as_ref(), Ok(next)).await
    }

    pub(super) async fn sign(&self, own: &Changing) -> Result<(), Stop> {
        let stored = self.stored(&own.map).await?;
        let object = stored.object.clone();
        self.change_and_tell(own, Some(&stored), Ok(object)).await?;
        if own.dry_run { Ok(()) } else { self.sign_copy(&stored.object).await }
    }

    pub(super) async fn retire(&self, own: &Changing) -> Result<(), Stop> {
        let stored = self.stored(&own.map).await?;
        let seed = first(&own.map, self.document(&own.map)?, stored.object.changed.clone());
        let owners = |object: &MapObject| {
            let ranges = object.ranges.iter().map(|own| (own.from.clone(), own.shard.clone()));
            (ranges.collect::<Vec<_>>(), object.until.clone())
        };
        if stored.object.moving.is_some() || owners(&seed) != owners(&stored.object) {
            return Err(Stop::run(format!(
                "the rules file does not say the ranges of the live map yet: write there what `spillway shards export {}` prints, and roll it out",
                own.map
            )));
        }
        self.all_start_with_these_ranges(&stored.object).await?;
        // Another coordinator that has read the map can't begin a move any more.
        let epoch = stored.object.epoch + 1;
        let changed = self.changed(own, "retire: its object is removed");
        let last = MapObject { epoch, changed, ..stored.object.clone() };
        if self.change(own, Some(&stored), Ok(last)).await?.is_none() {
            return Ok(());
        }
        self.results.delete(&keys::map(&own.map)).await.map_err(Stop::run)?;
        for version in self.versions(&own.map).await? {
            self.results.delete(&keys::log(&own.map, version.epoch)).await.map_err(Stop::run)?;
        }
        self.events.say(
            "retired",
            json!({ "map": own.map }),
            &format!(
                "{} is live no longer: now roll out the rules file without `live = true`",
                own.map
            ),
        )
    }

    /// A process whose file has other ranges would send requests of a range that has moved to its old owner.
    async fn all_start_with_these_ranges(&self, object: &MapObject) -> Result<(), Stop> {
        self.check_members_are_named()?;
        let heard = self.heard(object, Duration::ZERO).await?;
        let document = &self.rules.document;
        let (map_rules, seed) = (document.map_rules(&object.map), document.map_seed(&object.map));
        let laggards = not_retired(object, &map_rules, &seed, &heard);
        if laggards.is_empty() {
            return Ok(());
        }
        Err(Stop::run(format!("members-behind: nothing was changed:\n{}", listed(&laggards))))
    }

    pub(super) async fn extend(
        &self,
        own: &Changing,
        (from, until, open): (Option<&str>, Option<&str>, bool),
        shard: &str,
    ) -> Result<(), Stop> {
        let stored = self.stored(&own.map).await?;
        let (object, shard) = (&stored.object, shard.to_owned());
        let next = match (from, until) {
            (Some(from), _) => {
                let from = self.bound(&own.map, from)?;
                let what = format!("extend below from {from} on {shard}");
                object.extend_below(Some(from), shard, self.changed(own, &what))
            }
            (None, Some(until)) => {
                let until = self.bound(&own.map, until)?;
                let what = format!("extend above until {until} on {shard}");
                object.extend_above(Some(until), shard, self.changed(own, &what))
            }
            (None, None) if open => {
                let what = format!("extend above without an end on {shard}");
                object.extend_above(None, shard, self.changed(own, &what))
            }
            (None, None) => return Err(Stop::config("say which end: --until, --open or --from")),
        };
        self.change_and_tell(own, Some(&stored), next).await
    }

    pub(super) async fn split(&self, own: &Changing, at: &str) -> Result<(), Stop> {
        let (stored, at) = (self.stored(&own.map).await?, self.bound(&own.map, at)?);
        let next = stored.object.split(&at, self.changed(own, &format!("split at {at}")));
        self.change_and_tell(own, Some(&stored), next).await
    }

    pub(super) async fn merge(&self, own: &Changing, at: &str) -> Result<(), Stop> {
        let (stored, at) = (self.stored(&own.map).await?, self.bound(&own.map, at)?);
        let next = stored.object.merge(&at, self.changed(own, &format!("merge at {at}")));
        self.change_and_tell(own, Some(&stored), next).await
    }

    /// A bound in the canonical form of the map's keys.
    ///
    /// # Errors
    /// When it is no key.
    pub(super) fn bound(&self, map: &str, text: &str) -> Result<String, Stop> {
        let key_type = self.document(map)?.key_type;
        let key = ShardKey::parse(key_type, text);
        key.map(|key| key.to_string()).ok_or_else(|| {
            Stop::config(format!("`{text}` is not a key of type {}", key_type.as_str()))
        })
    }

    pub(super) async fn show(&self, map: Option<&str>) -> Result<(), Stop> {
        let live = self.rules.document.shard_maps.iter().filter(|(_, map)| map.live);
        let names: Vec<&str> = match map {
            Some(name) => vec![name],
            None => live.map(|(name, _)| name.as_str()).collect(),
        };
        for name in names {
            let StoredMap { object, .. } = self.stored(name).await?;
            let mut text = format!(
                "{name}: epoch {}, changed by {} ({})",
                object.epoch, object.changed.by, object.changed.why
            );
            for (at, range) in object.ranges.iter().enumerate() {
                let next = object.ranges.get(at + 1).and_then(|next| next.from.as_deref());
                let bounds = interval(range.from.as_deref(), next.or(object.until.as_deref()));
                text.push_str(&format!(
                    "\n  {bounds}  {}  since epoch {}",
                    range.shard, range.since
                ));
                if object.key_type == KeyType::Text {
                    let label = range_label(object.key_type, range.from.as_deref());
                    text.push_str(&format!("  {label} in metrics"));
                }
                if range.state != RangeState::Active {
                    text.push_str(&format!("  {}", range.state.as_str()));
                }
            }
            if let Some(outside) = &object.outside {
                text.push_str(&format!("\n  everything else  {}", outside.shard));
            }
            if let Some(moving) = object.describe_move() {
                text.push_str(&format!("\n  {moving}"));
            }
            let facts = serde_json::to_value(&object).unwrap_or_default();
            self.events.say("map", facts, &text)?;
        }
        Ok(())
    }

    pub(super) async fn lookup(&self, map: &str, key: &str) -> Result<(), Stop> {
        let StoredMap { object, .. } = self.stored(map).await?;
        let bound = self.bound(map, key)?;
        let key = ShardKey::parse(object.key_type, &bound).ok_or_else(|| Stop::config("no key"))?;
        let indexed = ShardMap::live(&map.into(), self.document(map)?, &Arc::new(object));
        let found = Resolved::find(&indexed.map_err(Stop::run)?, ShardKeys::One(key));
        let found = found.map_err(|why| Stop::run(format!("{}: {}", why.name(), why.title())))?;
        let range = &found.range;
        let facts = json!({
            "map": map, "key": bound, "shard": &*range.shard, "range": range.text, "label": range.label,
            "since": range.since, "state": range.state.as_str(), "epoch": range.epoch,
        });
        let sentence =
            format!("{}  {} of {map}, {}", range.shard, range.text, range.state.as_str());
        self.events.say("lookup", facts, &sentence)
    }

    pub(super) async fn log(&self, map: &str) -> Result<(), Stop> {
        for object in self.versions(map).await? {
            let Changed { by, at, why } = &object.changed;
            let at = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(at.0));
            let facts =
                json!({ "map": map, "epoch": object.epoch, "by": by, "at": at, "why": why });
            self.events.say("version", facts, &format!("{}  {at}  {by}  {why}", object.epoch))?;
        }
        Ok(())
    }

    pub(super) async fn export(&self, map: &str) -> Result<(), Stop> {
        let StoredMap { object, .. } = self.stored(map).await?;
        let quoted = |text: &str| match object.key_type {
            KeyType::Int => text.to_owned(),
            _ => format!("{text:?}"),
        };
        let ranges = object.ranges.iter().map(|range| {
            let from = range.from.as_deref().map_or_else(|| "\"min\"".to_owned(), quoted);
            format!("  {{ from = {from}, shard = {:?} }},", range.shard)
        });
        let ranges: Vec<String> = ranges.collect();
        let until = object
            .until
            .as_deref()
            .map_or_else(String::new, |until| format!("until = {}\n", quoted(until)));
        let text =
            format!("# epoch {}\nranges = [\n{}\n]\n{until}", object.epoch, ranges.join("\n"));
        self.events.say("export", json!({ "map": map, "toml": text }), text.trim_end())
    }
}

/// The keys that sign maps: of the root secret, or the one that was given alone.
fn map_keys(settings: &ShardsSettings) -> Result<Vec<Vec<u8>>, String> {
    if let Some(path) = &settings.map_key_file {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("--map-key-file {shown}: {error}"))?;
        let key = STANDARD.decode(text.trim());
        return Ok(vec![key.map_err(|_| {
            format!("--map-key-file {shown}: write what `spillway shards key` prints")
        })?]);
    }
    let secrets = settings::secrets(settings.secret_file.as_deref())?;
    let secrets =
        secrets.ok_or("no secret: add --secret-file FILE, SPILLWAY_SECRET or --map-key-file")?;
    Ok(secrets.derived_all(Purpose::Map))
}
