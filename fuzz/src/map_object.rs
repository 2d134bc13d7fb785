//! Any bytes as the object of a live shard map, and any changes of one: what is read is consistent, reads back as
//! itself, and stays consistent whatever is done with it.

use arbitrary::Unstructured;
use rules::shard::change::{MoveDriver, MovePlan};
use rules::shard::object::{Changed, MapObject};
use rules::shard::{Resolved, ShardKey, ShardKeys, ShardMap};
use rules::{Rules, UnixMillis};
use std::sync::Arc;

/// The rules file whose shards the changes name.
const RULES: &str = r#"
    [[route]]
    name  = "r"
    match = { path = "/" }
    shard = { map = "m", from = ["query:id"] }

    [shard_map.m]
    live     = true
    key_type = "int"
    ranges   = [ { from = 1, shard = "a" }, { from = 100, shard = "b" }, { from = 200, shard = "a" } ]
    until    = 300
    shards   = { a = {}, b = {}, c = {} }
"#;
const SHARDS: [&str; 3] = ["a", "b", "c"];
/// Bounds and keys of the changes: those of the map, of its ends, and some that are none.
const KEYS: [&str; 9] = ["1", "50", "100", "150", "200", "299", "300", "1000", "x"];

pub fn run(data: &[u8]) {
    if let Ok(object) = MapObject::read(data) {
        holds(&object);
    }
    let Some((0, choices)) = data.split_first() else { return };
    let rules = Rules::from_toml(RULES).expect("good rules");
    let document = rules.document.shard_maps.get("m").expect("its map");
    let mut object = rules::shard::change::first("m", document, changed());
    let mut drawn = Unstructured::new(choices);
    while !drawn.is_empty() {
        let Ok(Some(next)) = change(&object, &mut drawn) else { continue };
        assert_eq!(next.epoch, object.epoch + 1);
        holds(&next);
        found(&Arc::new(next.clone()), document);
        object = next;
    }
}

fn changed() -> Changed {
    Changed { by: "f".to_owned(), at: UnixMillis(0), why: String::new() }
}

/// One change that is drawn; none where it is refused.
fn change(
    object: &MapObject,
    drawn: &mut Unstructured<'_>,
) -> arbitrary::Result<Option<MapObject>> {
    let at = *drawn.choose(&KEYS)?;
    let other = *drawn.choose(&KEYS)?;
    let shard = (*drawn.choose(&SHARDS)?).to_owned();
    let (from, until) = (Some(at.to_owned()), Some(other.to_owned()));
    let driver = MoveDriver::Named("hand");
    let made = match drawn.int_in_range(0..=8)? {
        0 => object.split(at, changed()),
        1 => object.merge(at, changed()),
        2 => object.extend_above(until.filter(|_| other != "x"), shard, changed()),
        3 => object.extend_below(from, shard, changed()),
        4 => object.fence("1", driver, changed()),
        5 => object.pass_return("1", driver, changed()),
        6 => object.commit("1", driver, changed()),
        7 => object.abort("1", driver, changed()),
        _ => {
            let (id, driver) = ("1".to_owned(), "hand".to_owned());
            object.announce(MovePlan { id, from, until, target: shard, driver }, changed())
        }
    };
    Ok(made.ok())
}

fn holds(object: &MapObject) {
    assert_eq!(object.check(), Ok(()));
    let again = MapObject::read(object.json().as_bytes());
    assert_eq!(again.as_ref(), Ok(object), "it is not read back as it was written");
    let signed = object.clone().signed(b"key");
    assert!(signed.is_signed_by(b"key") && !signed.is_signed_by(b"other"));
    assert_eq!(signed.hash(), object.hash(), "the hash is not of the map alone");
}

/// Who is found for a key has a range that begins at or below it.
fn found(object: &Arc<MapObject>, document: &rules::document::ShardMapSection) {
    let map = ShardMap::live(&"m".into(), document, object).expect("a consistent map");
    for text in KEYS {
        let Some(key) = ShardKey::parse(object.key_type, text) else { continue };
        let Ok(found) = Resolved::find(&map, ShardKeys::One(key.clone())) else { continue };
        let above = |bound: &Option<String>| {
            let bound = bound.as_deref().and_then(|text| ShardKey::parse(object.key_type, text));
            bound.is_some_and(|bound| bound > key)
        };
        let holder = object.ranges.iter().rev().find(|range| !above(&range.from));
        assert_eq!(holder.map(|range| range.shard.as_str()), Some(&**found.shard()), "{text}");
    }
}
