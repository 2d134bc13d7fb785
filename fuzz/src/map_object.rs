//! Any bytes as the object of a live shard map, and any changes of one: what is read is consistent, reads back as
//! itself, and stays consistent whatever is done with it.
//!
//! The first line is the object; the bytes below it choose the changes. Where no line is an object, all bytes
//! choose, and the map is one of the seeds: bytes alone seldom get beyond the syntax.

use arbitrary::{Result, Unstructured};
use rules::UnixMillis;
use rules::document::{Hold, KeyType, Shard, ShardMapSection};
use rules::problem::Problem;
use rules::shard::change::{MoveDriver, MovePlan};
use rules::shard::object::{Changed, MapObject};
use rules::shard::{Resolved, ShardKey, ShardKeys, ShardMap, interval};
use std::sync::Arc;

/// A map of each type of keys. One is in the middle of a move, one has an owner for what no range holds.
const SEEDS: [&[u8]; 4] = [
    include_bytes!("../seeds/map_object/int"),
    include_bytes!("../seeds/map_object/text"),
    include_bytes!("../seeds/map_object/uuid"),
    include_bytes!("../seeds/map_object/timestamp"),
];
const SHARDS: [&str; 3] = ["a", "b", "c"];
/// Ids of moves: a good one, which comes twice as often, and two that no object may have.
const IDS: [&str; 4] = ["1", "1", "", "a b"];
/// The changes of one object: each is checked as a whole, which takes the most of the time.
const CHANGES_MAX: usize = 12;

pub fn run(data: &[u8]) {
    let (line, below) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => data.split_at(at),
        None => (data, &[][..]),
    };
    let (object, choices) = match MapObject::read(line) {
        Ok(object) => (Some(object), below),
        Err(_) => (None, data),
    };
    // What ran out before anything was chosen changes nothing.
    let _ = changes(object, &mut Unstructured::new(choices));
}

fn changes(object: Option<MapObject>, drawn: &mut Unstructured<'_>) -> Result<()> {
    let mut object = match object {
        Some(object) => object,
        None => {
            let seed = drawn.choose(&SEEDS)?.trim_ascii_end();
            let line = seed.split(|byte| *byte == b'\n').next().unwrap_or(seed);
            MapObject::read(line).expect("a seed is a map")
        }
    };
    holds(&object);
    finds(&Arc::new(object.clone()), drawn)?;
    for _ in 0..CHANGES_MAX {
        if drawn.is_empty() {
            break;
        }
        let Some(next) = change(&object, drawn)? else { continue };
        assert_eq!(next.epoch, object.epoch + 1);
        holds(&next);
        finds(&Arc::new(next.clone()), drawn)?;
        object = next;
    }
    Ok(())
}

/// One change that is drawn; none where it is refused.
fn change(object: &MapObject, drawn: &mut Unstructured<'_>) -> Result<Option<MapObject>> {
    let changed = Changed { by: "f".to_owned(), at: UnixMillis(0), why: String::new() };
    let shard = (*drawn.choose(&SHARDS)?).to_owned();
    let moving = object.moving.as_ref().filter(|_| drawn.ratio(7, 8).unwrap_or_default());
    let id = moving.map_or(*drawn.choose(&IDS)?, |moving| &moving.id).to_owned();
    let driver = match drawn.ratio(1, 4)? {
        true => MoveDriver::Named("hand"),
        false => MoveDriver::Any,
    };
    let made = match drawn.int_in_range(0..=8)? {
        0 => object.split(&bound(object, drawn)?.unwrap_or_default(), changed),
        1 => object.merge(&bound(object, drawn)?.unwrap_or_default(), changed),
        2 => object.extend_above(bound(object, drawn)?, shard, changed),
        3 => object.extend_below(bound(object, drawn)?, shard, changed),
        4 => object.fence(&id, driver, changed),
        5 => object.pass_return(&id, driver, changed),
        6 => object.commit(&id, driver, changed),
        7 => object.abort(&id, driver, changed),
        _ => {
            let (from, until) = (bound(object, drawn)?, bound(object, drawn)?);
            let driver = "hand".to_owned();
            object.announce(MovePlan { id, from, until, target: shard, driver }, changed)
        }
    };
    Ok(made.ok())
}

/// A bound of the map, a key beside one, any text, or an open end.
fn bound(object: &MapObject, drawn: &mut Unstructured<'_>) -> Result<Option<String>> {
    Ok(match drawn.int_in_range(0..=5)? {
        0 => None,
        1 => Some(drawn.arbitrary::<&str>()?.to_owned()),
        2 | 3 => Some(key(object.key_type, drawn)?),
        _ => {
            let from = drawn.choose(&object.ranges)?.from.clone();
            if drawn.ratio(1, 4)? { object.until.clone() } else { from }
        }
    })
}

/// A key of the map's type in canonical form; near the bounds of the seeds, or anywhere.
fn key(key_type: KeyType, drawn: &mut Unstructured<'_>) -> Result<String> {
    let near = drawn.int_in_range(0..=400_u16)?;
    let is_near = drawn.ratio(3, 4)?;
    let key = match key_type {
        KeyType::Int if is_near => ShardKey::Int(near.into()),
        KeyType::Int => ShardKey::Int(drawn.arbitrary()?),
        KeyType::Text if is_near => ShardKey::Text(format!("k{near:03}")),
        KeyType::Text => ShardKey::Text(drawn.arbitrary::<&str>()?.to_owned()),
        KeyType::Uuid if is_near => ShardKey::Uuid(near.into()),
        KeyType::Uuid => ShardKey::Uuid(drawn.arbitrary()?),
        KeyType::Timestamp if is_near => ShardKey::Timestamp(i64::from(near) * 1_000_000),
        // Centuries to either side: years have four digits.
        KeyType::Timestamp => ShardKey::Timestamp(i64::from(drawn.arbitrary::<i32>()?) * 1_000_000),
    };
    Ok(key.to_string())
}

fn holds(object: &MapObject) {
    assert_eq!(object.check(), Ok(()));
    let again = MapObject::read(object.json().as_bytes());
    assert_eq!(again.as_ref(), Ok(object), "it is not read back as it was written");
    let hash = object.hash();
    assert_eq!(again.map(|again| again.hash()).as_ref(), Ok(&hash));
    let signed = object.clone().signed(b"key");
    assert!(signed.is_signed_by(b"key") && !signed.is_signed_by(b"other"));
    assert_eq!(signed.hash(), hash, "the hash is not of the map alone");
}

/// A key is found where a look at every range finds it.
fn finds(object: &Arc<MapObject>, drawn: &mut Unstructured<'_>) -> Result<()> {
    let shard = |name: &str| (name.to_owned(), Shard { upstream: None });
    let document = ShardMapSection {
        key_type: object.key_type,
        ranges: Vec::new(),
        until: None,
        outside: None,
        shards: object.shards().map(shard).collect(),
        live: true,
        hold: Hold::default(),
    };
    let map = ShardMap::live(&object.map.as_str().into(), &document, object);
    let map = map.expect("a consistent map");
    for _ in 0..3 {
        let text = bound(object, drawn)?.unwrap_or_default();
        let Some(key) = ShardKey::parse(object.key_type, &text) else { continue };
        let found = Resolved::find(&map, ShardKeys::One(key.clone()));
        let own = found.as_ref().map(|found| (found.range.text.clone(), &**found.shard()));
        assert_eq!(own, holder(object, &key), "{text}");
    }
    Ok(())
}

/// The interval that holds the key, and its owner.
fn holder<'a>(
    object: &'a MapObject,
    key: &ShardKey,
) -> std::result::Result<(String, &'a str), &'static Problem> {
    let parse = |text: &str| ShardKey::parse(object.key_type, text).expect("a checked bound");
    let ends = object.ranges.iter().skip(1).map(|range| range.from.as_deref());
    let ends = ends.chain([object.until.as_deref()]);
    for (range, until) in object.ranges.iter().zip(ends) {
        let from = range.from.as_deref();
        let is_above = from.is_none_or(|from| parse(from) <= *key);
        if is_above && until.is_none_or(|until| *key < parse(until)) {
            return Ok((interval(from, until), &range.shard));
        }
    }
    let outside = object.outside.as_ref().ok_or(&Problem::KeyUnmapped)?;
    Ok(("outside".to_owned(), &outside.shard))
}
