//! A shard map ready for look-ups: which range holds a key, and who owns the range.

use super::key::ShardKey;
use super::object::{MapObject, StoredRange};
use super::range::{FILE_EPOCH, OUTSIDE, RangeState, interval, range_label};
use crate::document::{self, KeyType};
use crate::problem::Problem;
use std::sync::Arc;

/// One range of one version of a map. Made once per version; requests share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRange {
    /// Name of the shard map.
    pub map: Arc<str>,
    /// Epoch of the map that this range is of.
    pub epoch: u64,
    /// Whether the map is a live one ([`document::ShardMapSection::live`]).
    pub is_live: bool,
    /// The half-open interval, as written in `X-Shard-Range`: `[10001,20001)`, `-` for an open end; `outside`
    /// for the keys that no range holds.
    pub text: String,
    /// Its name in metrics ([`super::range_label`]).
    pub label: String,
    /// Its position in [`ShardMap::ranges`].
    pub place: usize,
    /// Name of the shard that owns the range.
    pub shard: Arc<str>,
    /// The epoch in which the owner changed last. A cached answer belongs to it.
    pub since: u64,
    /// What may be done in it.
    pub state: RangeState,
    /// Binding name of the shard's upstream; none: the local application serves it.
    pub upstream: Option<Arc<str>>,
}

/// A shard map, indexed.
#[derive(Debug, Clone)]
pub struct ShardMap {
    name: Arc<str>,
    key_type: KeyType,
    /// The ranges, ascending by lower bound; `None` sorts before every key. Each range ends where the next
    /// begins.
    ranges: Vec<(Option<ShardKey>, Arc<OwnedRange>)>,
    until: Option<ShardKey>,
    outside: Option<Arc<OwnedRange>>,
    epoch: u64,
    standing: Standing,
}

/// Where the ranges of a map come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// The rules file says them.
    File,
    /// The map is live, and this process has not seen its object yet.
    Unknown,
    /// The object in the result store says them.
    Live(Arc<MapObject>),
}

impl ShardMap {
    /// The map of a rules file: its own ranges, or for a live map nothing until the object is known.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it; nothing is with one that `check` has compiled.
    pub fn new(name: &str, document: &document::ShardMapSection) -> Result<Self, String> {
        let name: Arc<str> = name.into();
        if document.live {
            return Ok(Self {
                name,
                key_type: document.key_type,
                ranges: Vec::new(),
                until: None,
                outside: None,
                epoch: 0,
                standing: Standing::Unknown,
            });
        }
        let stored: Vec<_> = document.ranges.iter().map(StoredRange::seed).collect();
        let outside = document.outside.as_ref().map(|shard| (shard.as_str(), FILE_EPOCH));
        let version = Version { name: &name, epoch: FILE_EPOCH, is_live: false, document };
        version.index(&stored, document.until.as_deref(), outside, Standing::File)
    }

    /// A live map as its object says. `object` must have passed [`MapObject::check`].
    ///
    /// # Errors
    /// One sentence for an object that is not a map of these shards.
    pub fn live(
        name: &Arc<str>,
        document: &document::ShardMapSection,
        object: &Arc<MapObject>,
    ) -> Result<Self, String> {
        let version = Version { name, epoch: object.epoch, is_live: true, document };
        let outside = object.outside.as_ref().map(|own| (own.shard.as_str(), own.since));
        let standing = Standing::Live(Arc::clone(object));
        version.index(&object.ranges, object.until.as_deref(), outside, standing)
    }

    /// Its name in the rules file.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How this map reads its keys.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// [`FILE_EPOCH`] for a map of the rules file, the object's for a live one, 0 while that is unknown.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the authority is the object in the result store.
    pub fn is_live(&self) -> bool {
        self.standing != Standing::File
    }

    /// The object that a live map was made from; none for one of the file, and while it is unknown.
    pub fn object(&self) -> Option<&Arc<MapObject>> {
        match &self.standing {
            Standing::Live(object) => Some(object),
            Standing::File | Standing::Unknown => None,
        }
    }

    /// All ranges in ascending order, then the one outside of them if there is one.
    pub fn ranges(&self) -> impl Iterator<Item = &Arc<OwnedRange>> {
        self.ranges.iter().map(|(_, range)| range).chain(&self.outside)
    }

    /// The range that holds a key. Allocates nothing.
    ///
    /// # Errors
    /// `key-unmapped` when no range holds it and the map names no shard for everything else; `map-unknown`
    /// for a live map whose object this process has not seen.
    pub fn lookup(&self, key: &ShardKey) -> Result<&Arc<OwnedRange>, Problem> {
        if self.standing == Standing::Unknown {
            return Err(Problem::MapUnknown);
        }
        let above =
            self.ranges.partition_point(|(from, _)| from.as_ref().is_none_or(|from| from <= key));
        let is_below_the_end = self.until.as_ref().is_none_or(|until| key < until);
        let holder = above.checked_sub(1).filter(|_| is_below_the_end);
        let range = holder.and_then(|at| self.ranges.get(at)).map(|(_, range)| range);
        range.or(self.outside.as_ref()).ok_or(Problem::KeyUnmapped)
    }
}

/// What the ranges of one version of a map have in common.
struct Version<'a> {
    name: &'a Arc<str>,
    epoch: u64,
    is_live: bool,
    document: &'a document::ShardMapSection,
}

impl Version<'_> {
    fn index(
        &self,
        stored: &[StoredRange],
        until: Option<&str>,
        outside: Option<(&str, u64)>,
        standing: Standing,
    ) -> Result<ShardMap, String> {
        let key_type = self.document.key_type;
        let parse = |text: &str| {
            ShardKey::parse(key_type, text).ok_or_else(|| format!("`{text}` is not a key"))
        };
        let mut ranges = Vec::with_capacity(stored.len());
        for (at, range) in stored.iter().enumerate() {
            let from = range.from.as_deref().map(parse).transpose()?;
            let next = stored.get(at + 1).and_then(|next| next.from.as_deref()).or(until);
            let text = interval(range.from.as_deref(), next);
            let label = range_label(key_type, range.from.as_deref());
            let owner = (&*range.shard, range.since);
            let owned = self.owned((text, label), at, owner, range.state);
            ranges.push((from, Arc::new(owned)));
        }
        if !ranges.is_sorted_by(|left, right| left.0 < right.0) {
            return Err("ranges are not ascending".to_owned());
        }
        let outside = outside.map(|owner| {
            let names = (OUTSIDE.to_owned(), OUTSIDE.to_owned());
            Arc::new(self.owned(names, ranges.len(), owner, RangeState::Active))
        });
        let until = until.map(parse).transpose()?;
        let (name, epoch) = (Arc::clone(self.name), self.epoch);
        Ok(ShardMap { name, key_type, ranges, until, outside, epoch, standing })
    }

    fn owned(
        &self,
        (text, label): (String, String),
        place: usize,
        (shard, since): (&str, u64),
        state: RangeState,
    ) -> OwnedRange {
        let upstream = self.document.shards.get(shard).and_then(|own| own.upstream.as_deref());
        OwnedRange {
            map: Arc::clone(self.name),
            epoch: self.epoch,
            is_live: self.is_live,
            text,
            label,
            place,
            shard: shard.into(),
            since,
            state,
            upstream: upstream.map(Arc::from),
        }
    }
}
