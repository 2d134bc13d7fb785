//! Live maps: how they change, and what requests find in them.

use super::change::{BY_HAND, ChangeRefusal, MoveDriver, MovePlan, first};
use super::object::{Changed, MapObject, Unusable};
use super::protocol::{Adoption, adoption};
use super::*;
use crate::UnixMillis;
use crate::document::KeyType;
use crate::problem::Problem;
use crate::{Head, NoFields, Rules, edge, sidecar};
use proptest::prelude::*;
use std::sync::Arc;

/// A rules file with a live map of three shards, up to key 300.
const LIVE: &str = r#"
[[route]]
name = "orders"
match = { path = "/orders/{id}" }
shard = { map = "m", from = ["path:id"] }
cache = { edge = "1m", sidecar = "1m" }
[shard_map.m]
key_type = "int"
live = true
ranges = [{ from = 1, shard = "a" }, { from = 100, shard = "b" }]
until = 300
shards = { a = {}, b = {}, c = {} }
"#;

const KEY: &[u8] = b"a key";

fn rules() -> Rules {
    Rules::from_toml(LIVE).expect("good rules")
}

fn changed() -> Changed {
    Changed { by: "test".to_owned(), at: UnixMillis(7), why: "a test".to_owned() }
}

fn seed() -> MapObject {
    first("m", &rules().document.shard_maps["m"], changed())
}

fn plan(from: i64, until: i64, target: &str) -> MovePlan {
    let (id, driver) = ("1".to_owned(), BY_HAND.to_owned());
    let bound = |key: i64| Some(key.to_string());
    MovePlan { id, from: bound(from), until: bound(until), target: target.to_owned(), driver }
}

/// Ranges in one line: `1 a2`, owner since epoch 2.
fn shown(object: &MapObject) -> String {
    let range = |own: &object::StoredRange| {
        let mark = match own.state {
            RangeState::Active => "",
            RangeState::Announced => "?",
            RangeState::Fenced => "!",
        };
        format!("{}:{}{}{mark}", own.from.as_deref().unwrap_or("-"), own.shard, own.since)
    };
    object.ranges.iter().map(range).collect::<Vec<_>>().join(" ")
}

fn in_force(object: MapObject) -> Rules {
    object.check().expect("consistent");
    let rules = rules();
    let document = &rules.document.shard_maps["m"];
    let map = ShardMap::live(&"m".into(), document, &Arc::new(object)).expect("a map");
    rules.with_map(Arc::new(map))
}

fn decided(rules: &Rules, target: &str) -> Result<Resolved, Problem> {
    let (scheme, host) = ("http", "h");
    let head = Head { method: "GET", scheme, host, target, fields: &NoFields };
    match sidecar::decide(rules, &head).action {
        sidecar::SidecarAction::Proceed(proceed) => {
            Ok(proceed.shard.resolved().expect("a key").clone())
        }
        sidecar::SidecarAction::Refuse(problem) => Err(problem),
        _ => panic!("neither"),
    }
}

fn cache_key(rules: &Rules, target: &str) -> String {
    let (scheme, host) = ("http", "h");
    let head = Head { method: "GET", scheme, host, target, fields: &NoFields };
    let sidecar::SidecarAction::Proceed(proceed) = sidecar::decide(rules, &head).action else {
        panic!("refused")
    };
    match proceed.cache {
        Ok(plan) => plan.key.clone(),
        Err(why) => panic!("not cached: {}", why.as_str()),
    }
}

#[test]
fn a_move_cuts_its_range_out_and_an_abort_puts_it_back() {
    let object = seed();
    assert_eq!(shown(&object), "1:a1 100:b1");
    let announced = object.announce(plan(150, 200, "c"), changed()).expect("announced");
    assert_eq!(shown(&announced), "1:a1 100:b1 150:b1? 200:b1");
    let fenced = announced.fence("1", MoveDriver::Named(BY_HAND), changed()).expect("fenced");
    assert_eq!(shown(&fenced), "1:a1 100:b1 150:b1! 200:b1");
    let aborted = fenced.abort("1", MoveDriver::Named(BY_HAND), changed()).expect("aborted");
    assert_eq!((shown(&aborted).as_str(), aborted.epoch), ("1:a1 100:b1", 5));
    let committed = fenced.commit("1", MoveDriver::Named(BY_HAND), changed()).expect("committed");
    assert_eq!(shown(&committed), "1:a1 100:b1 150:c5 200:b1");
    for object in [announced, fenced, aborted, committed] {
        object.check().expect("consistent");
    }
}

#[test]
fn a_move_past_its_return_can_only_be_committed() {
    let led = MoveDriver::Named("reshard:7");
    let plan = MovePlan { driver: "reshard:7".to_owned(), ..plan(1, 100, "c") };
    let announced = seed().announce(plan, changed()).expect("announced");
    let by_hand = announced.fence("1", MoveDriver::Named(BY_HAND), changed());
    assert_eq!(by_hand, Err(ChangeRefusal::OtherDriver("reshard:7".to_owned())));
    let early = announced.pass_return("1", led, changed());
    assert_eq!(early.map_err(|it| it.name()), Err("wrong-stage"));
    let fenced = announced.fence("1", led, changed()).expect("fenced");
    let past = fenced.pass_return("1", led, changed()).expect("past");
    assert_eq!(past.abort("1", MoveDriver::Any, changed()), Err(ChangeRefusal::PastReturn));
    assert_eq!(shown(&past.commit("1", led, changed()).expect("done")), "1:c6 100:b1");
}

#[test]
fn a_map_grows_only_as_far_as_every_process_takes_it_after_the_move_too() {
    let key = |number: usize| format!("{number:0250}");
    let mut object = MapObject { key_type: KeyType::Text, until: None, ..seed() };
    let range = object.ranges.remove(0);
    let of = |number| object::StoredRange { from: Some(key(number)), ..range.clone() };
    object.ranges = vec![of(0)];
    let (one, own) = (serde_json::to_string(&of(0)).expect("JSON").len() + 1, object.json().len());
    let room = (object::GROWN_BYTES_MAX - own) / one;
    object.ranges = (0..room).map(|number| of(2 * number)).collect();
    let grown = object.split(&key(1), changed()).expect("just room enough");
    let refused = grown.split(&key(3), changed()).map_err(|why| why.name());
    assert_eq!(refused.err(), Some("too-large"));
    let mut over = grown.clone();
    over.ranges.push(of(2 * room));
    over.merge(&key(1), changed()).expect("smaller, whatever the size");
    let merged = grown.merge(&key(1), changed()).expect("smaller");
    merged.split(&key(1), changed()).expect("room again");
    assert!(MapObject::read(grown.signed(KEY).json().as_bytes()).is_ok());
}

#[test]
fn what_is_no_range_of_one_owner_does_not_move() {
    let why = |plan| seed().announce(plan, changed()).map_err(|it| it.name()).err();
    assert_eq!(why(plan(50, 150, "c")), Some("several-owners"));
    assert_eq!(why(plan(1, 50, "a")), Some("same-owner"));
    assert_eq!(why(plan(50, 50, "c")), Some("bad-range"));
    assert_eq!(why(plan(200, 301, "c")), Some("bad-range"));
    assert_eq!(why(plan(0, 50, "c")), Some("bad-range"));
    let open = MovePlan { until: None, ..plan(200, 0, "c") };
    assert_eq!(why(open), Some("bad-range"), "the map ends at 300");
    assert_eq!(why(plan(200, 300, "c")), None);
    let nameless = MovePlan { id: "a b".to_owned(), ..plan(1, 50, "c") };
    assert_eq!(why(nameless), Some("bad-range"), "no process would take the object");
    let twice = seed().announce(plan(1, 50, "c"), changed()).expect("announced");
    let again = twice.announce(plan(60, 70, "c"), changed());
    assert_eq!(again.map_err(|it| it.name()).err(), Some("move-under-way"));
}

#[test]
fn a_map_grows_at_its_ends_splits_and_merges_without_a_move() {
    let shard = || "c".to_owned();
    let above = seed().extend_above(Some("400".to_owned()), shard(), changed()).expect("grown");
    assert_eq!(
        (shown(&above).as_str(), above.until.as_deref()),
        ("1:a1 100:b1 300:c3", Some("400"))
    );
    let open = above.extend_above(None, shard(), changed()).expect("open");
    assert_eq!((shown(&open).as_str(), open.until), ("1:a1 100:b1 300:c3 400:c4", None));
    let below = above.extend_below(None, shard(), changed()).expect("grown");
    assert_eq!(shown(&below), "-:c4 1:a1 100:b1 300:c3");
    assert!(below.extend_below(None, shard(), changed()).is_err());
    assert!(seed().extend_above(Some("300".to_owned()), shard(), changed()).is_err());
    let split = seed().split("50", changed()).expect("split");
    assert_eq!(shown(&split), "1:a1 50:a1 100:b1");
    assert_eq!(shown(&split.merge("50", changed()).expect("merged")), "1:a1 100:b1");
    assert_eq!(split.merge("100", changed()), Err(ChangeRefusal::SeveralOwners));
}

#[test]
fn an_abort_does_not_undo_a_split() {
    let split = seed().split("150", changed()).expect("split");
    let announced = split.announce(plan(150, 200, "c"), changed()).expect("announced");
    let aborted = announced.abort("1", MoveDriver::Any, changed()).expect("aborted");
    assert_eq!(shown(&aborted), shown(&split));
}

#[test]
fn the_keys_of_a_map_that_nobody_has_seen_are_refused_and_others_are_not() {
    assert_eq!(decided(&rules(), "/orders/15"), Err(Problem::MapUnknown));
    assert_eq!(decided(&rules(), "/orders/x"), Err(Problem::KeyInvalid));
}

#[test]
fn only_writes_of_a_fenced_range_wait_and_no_job_of_a_moving_one_starts() {
    let announced = seed().announce(plan(150, 200, "c"), changed()).expect("announced");
    let fenced = announced.fence("1", MoveDriver::Any, changed()).expect("fenced");
    let waits = |object: &MapObject, target: &str| {
        let own = decided(&in_force(object.clone()), target).expect("a shard");
        (own.must_wait(true), own.must_wait(false), !own.may_start_job())
    };
    assert_eq!(waits(&announced, "/orders/150"), (false, false, true));
    assert_eq!(waits(&fenced, "/orders/150"), (true, false, true));
    assert_eq!(waits(&fenced, "/orders/200"), (false, false, false));
}

#[test]
fn a_cutover_changes_the_cache_keys_of_the_moved_range_alone() {
    let announced = seed().announce(plan(150, 200, "c"), changed()).expect("announced");
    let fenced = announced.fence("1", MoveDriver::Any, changed()).expect("fenced");
    let committed = fenced.commit("1", MoveDriver::Any, changed()).expect("committed");
    let (before, after) = (in_force(seed()), in_force(committed));
    let is_same = |target: &str| cache_key(&before, target) == cache_key(&after, target);
    assert!(is_same("/orders/149") && is_same("/orders/200") && is_same("/orders/1"));
    assert!(!is_same("/orders/150"));
    // And an abort changes none.
    let aborted = in_force(fenced.abort("1", MoveDriver::Any, changed()).expect("aborted"));
    assert_eq!(cache_key(&before, "/orders/150"), cache_key(&aborted, "/orders/150"));
}

#[test]
fn the_edge_judges_only_the_form_of_a_live_maps_key() {
    let rules = rules();
    let decision = |target: &str| {
        let (scheme, host) = ("https", "h");
        let head = Head { method: "GET", scheme, host, target, fields: &NoFields };
        match edge::decide(&rules, &head).action {
            edge::EdgeAction::Cache(plan) => Ok(plan.key.clone()),
            edge::EdgeAction::Refuse(problem) => Err(problem),
            _ => panic!("neither"),
        }
    };
    assert!(decision("/orders/9999").is_ok(), "a sidecar knows whether a range holds it");
    assert_ne!(decision("/orders/1"), decision("/orders/2"));
    assert_eq!(decision("/orders/x"), Err(Problem::KeyInvalid));
}

#[test]
fn an_object_is_taken_only_if_it_is_ours_whole_and_newer() {
    let document = &rules().document.shard_maps["m"];
    let object = seed().signed(KEY);
    let read = MapObject::read(object.json().as_bytes()).expect("an object");
    assert_eq!(read.admit("m", document, &[b"new".to_vec(), KEY.to_vec()]), Ok(()));
    assert_eq!(read.admit("m", document, &[b"new".to_vec()]), Err(Unusable::Signature));
    let other = read.admit("n", document, &[KEY.to_vec()]).map_err(|it| it.name());
    assert_eq!(other, Err("other-map"));
    let tampered = MapObject { epoch: 3, ..object.clone() };
    assert_eq!(tampered.admit("m", document, &[KEY.to_vec()]), Err(Unusable::Signature));
    let mut unknown = object.clone();
    unknown.ranges[0].shard = "z".to_owned();
    let unknown = unknown.signed(KEY).admit("m", document, &[KEY.to_vec()]);
    assert_eq!(unknown, Err(Unusable::UnknownShard("z".to_owned())));
    let again = seed().signed(b"another");
    assert_eq!(object.hash(), again.hash(), "who signs it does not change it");
}

#[test]
fn objects_that_contradict_themselves_are_refused_by_name() {
    let text = seed().signed(KEY).json();
    let why = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in {text}");
        MapObject::read(text.replacen(from, to, 1).as_bytes()).map_err(|it| it.name()).err()
    };
    assert_eq!(why("\"format\":1", "\"format\":2"), Some("format"));
    assert_eq!(why("\"format\":1", "\"format\":1,\"x\":1"), Some("unreadable"));
    assert_eq!(why("\"epoch\":2", "\"epoch\":18446744073709551615"), Some("contradiction"));
    assert_eq!(why("\"epoch\":2", "\"epoch\":1"), Some("contradiction"));
    assert_eq!(why("\"from\":\"100\"", "\"from\":\"1\""), Some("contradiction"));
    assert_eq!(why("\"from\":\"100\"", "\"from\":\"0100\""), Some("contradiction"));
    assert_eq!(why("\"state\":\"active\"", "\"state\":\"fenced\""), Some("contradiction"));
    assert_eq!(why("\"state\":\"active\"", "\"state\":\"resting\""), Some("unreadable"));
    assert_eq!(
        MapObject::read(&text.as_bytes()[..40]).map_err(|it| it.name()).err(),
        Some("unreadable")
    );
    let long = format!("{text}{}", " ".repeat(1024 * 1024));
    assert_eq!(MapObject::read(long.as_bytes()), Err(Unusable::TooLarge));
}

#[test]
fn a_map_never_goes_back_and_one_epoch_is_one_map() {
    assert_eq!(adoption(None, (5, "x")), Adoption::Take);
    assert_eq!(adoption(Some((4, "w")), (5, "x")), Adoption::Take);
    assert_eq!(adoption(Some((5, "x")), (5, "x")), Adoption::Same);
    assert_eq!(adoption(Some((5, "x")), (5, "y")), Adoption::Conflict);
    assert_eq!(adoption(Some((6, "z")), (5, "x")), Adoption::Older);
}

proptest! {
    #[test]
    fn no_object_panics(text in "\\PC*", cut in 0_usize..600) {
        let _ = MapObject::read(text.as_bytes());
        let own = seed().signed(KEY).json();
        let _ = MapObject::read(&own.as_bytes()[..cut.min(own.len())]);
    }

    /// Whatever moves, splits and merges: each key has an owner, and only a commit changes it.
    #[test]
    fn only_a_commit_changes_an_owner(
        steps in proptest::collection::vec((0_u8..6, 1_i64..300, 1_i64..300, 0_u8..3), 1..40),
    ) {
        let mut object = seed();
        let owner = |object: &MapObject, key: i64| {
            let rules = in_force(object.clone());
            rules.shard_maps["m"].lookup(&ShardKey::Int(key)).expect("an owner").shard.to_string()
        };
        for (step, from, until, target) in steps {
            let target = ["a", "b", "c"][usize::from(target)];
            let moving = object.moving.clone();
            let id = moving.as_ref().map_or("", |own| own.id.as_str());
            let next = match step {
                0 => object.announce(plan(from, until, target), changed()),
                1 => object.fence(id, MoveDriver::Any, changed()),
                2 => object.commit(id, MoveDriver::Any, changed()),
                3 => object.abort(id, MoveDriver::Any, changed()),
                4 => object.split(&from.to_string(), changed()),
                _ => object.merge(&from.to_string(), changed()),
            };
            let Ok(next) = next else { continue };
            prop_assert_eq!(next.check(), Ok(()));
            prop_assert_eq!(next.epoch, object.epoch + 1);
            for key in [1, from, from.max(2) - 1, until, until.max(2) - 1, 299] {
                let (before, after) = (owner(&object, key), owner(&next, key));
                let key = ShardKey::Int(key);
                let bound = |text: &Option<String>| object.key(text.as_deref().expect("closed"));
                let moved = moving.as_ref().filter(|own| step == 2
                    && bound(&own.from).expect("a key") <= key
                    && key < bound(&own.until).expect("a key"));
                prop_assert_eq!(after, moved.map_or(before, |own| own.target.clone()));
            }
            object = next;
        }
    }
}
