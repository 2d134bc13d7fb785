//! The object that a live map is: ranges and owners, at most one move, signed.
//!
//! It lies in the result store under `shards/NAME`, and is the only authority: whoever replaces it under the
//! condition that nobody else has (`If-Match`) has changed the map.

use super::range::{FILE_EPOCH, RangeState};
use crate::document::{self, KeyType};
use crate::hex::hex;
use crate::time::UnixMillis;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// The version of the object's form, raised when a field changes its meaning; a program refuses an object of
/// another version.
pub const FORMAT: u32 = 1;
/// The largest object as JSON, in bytes. 10,000 ranges of text keys need about as much.
pub const OBJECT_BYTES_MAX: usize = 1024 * 1024;
/// The largest object after a change that adds to it. The rest is for the changes that end a move, for their WHY,
/// and for the mac.
pub const GROWN_BYTES_MAX: usize = OBJECT_BYTES_MAX - 16 * 1024;
/// The largest number of ranges; more would not fit into the object.
pub const RANGES_MAX: usize = 10_000;
/// The highest epoch: JSON readers in other languages know whole numbers up to 2^53 exactly (RFC 8259 section
/// 6).
pub const EPOCH_MAX: u64 = 1 << 53;
/// The length of a mac in bytes: 128 bits can't be guessed.
const MAC_BYTES: usize = 16;

/// A live shard map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapObject {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// Name of the map in the rules file.
    pub map: String,
    /// How its keys are read, as the rules file says, too.
    pub key_type: KeyType,
    /// The number of this version: one more with every change.
    pub epoch: u64,
    /// The ranges, ascending; each ends where the next begins.
    pub ranges: Vec<StoredRange>,
    /// Exclusive upper end of the last range; none: open.
    pub until: Option<String>,
    /// The owner of every key that no range holds; none: such requests are refused.
    pub outside: Option<OutsideOwner>,
    /// The move that is under way.
    #[serde(rename = "move")]
    pub moving: Option<Move>,
    /// Who made this version.
    pub changed: Changed,
    /// The message authentication code over [`MapObject::hash`], in hex.
    pub mac: String,
}

/// One range of the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredRange {
    /// Lowest key in canonical form; none: open below.
    pub from: Option<String>,
    /// Name of the shard that owns it.
    pub shard: String,
    /// The epoch in which the owner changed last.
    pub since: u64,
    /// What may be done in it.
    pub state: RangeState,
}

impl StoredRange {
    /// The range as the rules file has it.
    pub fn seed(range: &document::Range) -> Self {
        let (from, shard) = (range.from.clone(), range.shard.clone());
        Self { from, shard, since: FILE_EPOCH, state: RangeState::Active }
    }
}

/// The owner of every key that no range holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideOwner {
    /// Name of the shard.
    pub shard: String,
    /// The epoch in which it became the owner.
    pub since: u64,
}

/// How far a move has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveStage {
    /// Every process is told; only jobs wait.
    Announced,
    /// Writes of the range wait.
    Fenced,
}

impl MoveStage {
    /// The name in commands and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Fenced => "fenced",
        }
    }
}

/// A range on its way from one owner to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The id, which no other move has: 1 to 64 of `A-Za-z0-9-_`.
    pub id: String,
    /// Lowest key that moves; none: open below.
    pub from: Option<String>,
    /// First key above that stays; none: open above.
    pub until: Option<String>,
    /// The owner before.
    pub source: String,
    /// The owner after a commit.
    pub target: String,
    /// How far the move has come.
    pub stage: MoveStage,
    /// Who may end it: `hand`, or the tool that moves the data, such as `reshard:7`.
    pub driver: String,
    /// Whether the only way is forwards: an abort would give the range to an owner that no longer takes it.
    pub no_return: bool,
    /// Whether the announce cut the range that lies below in two.
    pub cut_from: bool,
    /// Whether the announce cut the range that lies above in two.
    pub cut_until: bool,
    /// When it was announced.
    pub at: UnixMillis,
}

/// Who made a version of the map, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// A person, machine or tool.
    pub by: String,
    /// When it was made.
    pub at: UnixMillis,
    /// The command in words, with its `WHY`.
    pub why: String,
}

/// Why an object is not taken. The name is the metric label and the log field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// It is larger than [`OBJECT_BYTES_MAX`].
    TooLarge,
    /// It is no JSON of this form.
    Unreadable(String),
    /// Another version of the program wrote it.
    Format(u64),
    /// It is the object of another map.
    OtherMap(String),
    /// None of our keys made its mac.
    Signature,
    /// What it says contradicts itself.
    Contradiction(String),
    /// It names a shard that the rules file does not.
    UnknownShard(String),
}

impl Unusable {
    /// The name in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::Unreadable(_) => "unreadable",
            Self::Format(_) => "format",
            Self::OtherMap(_) => "other-map",
            Self::Signature => "signature",
            Self::Contradiction(_) => "contradiction",
            Self::UnknownShard(_) => "unknown-shard",
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(out, "the object has more than {OBJECT_BYTES_MAX} bytes"),
            Self::Unreadable(why) => write!(out, "the object is no shard map: {why}"),
            Self::Format(format) => write!(
                out,
                "the object has format {format}, and this program knows {FORMAT}: update it"
            ),
            Self::OtherMap(name) => write!(out, "the object is that of the map `{name}`"),
            Self::Signature => out.write_str(
                "none of the root keys signed the object: give every process the same secret, and call \
                 `spillway shards sign` before a key is removed",
            ),
            Self::Contradiction(why) => write!(out, "the object contradicts itself: {why}"),
            Self::UnknownShard(name) => write!(
                out,
                "the object names shard `{name}`, which the rules file does not: add it to `shards`"
            ),
        }
    }
}

impl std::error::Error for Unusable {}

/// The field that tells the form of all the others.
#[derive(Deserialize)]
struct AnyFormat {
    format: u64,
}

impl MapObject {
    /// Reads an object and checks everything that needs no secret: see [`MapObject::check`].
    ///
    /// # Errors
    /// Why it can't be a map.
    pub fn read(bytes: &[u8]) -> Result<Self, Unusable> {
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(Unusable::TooLarge);
        }
        let unreadable = |error: serde_json::Error| Unusable::Unreadable(error.to_string());
        let AnyFormat { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if format != u64::from(FORMAT) {
            return Err(Unusable::Format(format));
        }
        let object: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        object.check().map_err(Unusable::Contradiction)?;
        Ok(object)
    }

    /// Whether this process may follow it: the map it asked for, signed by one of our keys, of shards that
    /// the rules file declares.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(
        &self,
        name: &str,
        document: &document::ShardMapSection,
        keys: &[Vec<u8>],
    ) -> Result<(), Unusable> {
        if self.map != name {
            return Err(Unusable::OtherMap(self.map.clone()));
        }
        if !keys.iter().any(|key| self.is_signed_by(key)) {
            return Err(Unusable::Signature);
        }
        self.fits(document)
    }

    /// Whether its keys and shards are those of the rules file.
    ///
    /// # Errors
    /// Why not.
    pub fn fits(&self, document: &document::ShardMapSection) -> Result<(), Unusable> {
        if self.key_type != document.key_type {
            let (own, other) = (document.key_type.as_str(), self.key_type.as_str());
            let why = format!("its keys are {other}, those of the rules file {own}");
            return Err(Unusable::Contradiction(why));
        }
        match self.shards().find(|shard| !document.shards.contains_key(*shard)) {
            Some(unknown) => Err(Unusable::UnknownShard(unknown.to_owned())),
            None => Ok(()),
        }
    }

    /// Names of all shards that it names, with repetitions.
    pub fn shards(&self) -> impl Iterator<Item = &str> {
        let owners = self.ranges.iter().map(|range| range.shard.as_str());
        let outside = self.outside.iter().map(|own| own.shard.as_str());
        let moving = self.moving.iter().flat_map(|own| [own.source.as_str(), own.target.as_str()]);
        owners.chain(outside).chain(moving)
    }

    /// SHA-256, in hex, of the canonical JSON without the mac.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.unsigned().as_bytes()))
    }

    /// The canonical JSON: fields in the order of [`MapObject`], no white space.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn unsigned(&self) -> String {
        Self { mac: String::new(), ..self.clone() }.json()
    }

    /// The same object with a mac under this key.
    pub fn signed(mut self, key: &[u8]) -> Self {
        self.mac = mac(key, &self.hash());
        self
    }

    /// Whether this key signed it.
    pub fn is_signed_by(&self, key: &[u8]) -> bool {
        let own = mac(key, &self.hash());
        let differ = own.bytes().zip(self.mac.bytes()).fold(0, |sum, (own, its)| sum | (own ^ its));
        own.len() == self.mac.len() && differ == 0
    }
}

fn mac(key: &[u8], hash: &str) -> String {
    // HMAC takes keys of any length, so the error can't happen.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(hash.as_bytes());
    let bytes = mac.finalize().into_bytes();
    hex(bytes.get(..MAC_BYTES).unwrap_or(&bytes))
}
