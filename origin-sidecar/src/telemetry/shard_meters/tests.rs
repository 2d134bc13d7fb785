use super::*;
use prometheus::{Encoder, TextEncoder};
use rules::shard::change::first;
use rules::shard::object::{Changed, MapObject};
use rules::shard::{ShardKey, ShardKeys};
use rules::{Rules, UnixMillis};

/// A live map `m`, and what counts its requests.
struct World {
    registry: Registry,
    meters: ShardMeters,
    rules: Rules,
    object: MapObject,
    map: ShardMap,
}

const RULES: &str = "[shard_map.m]\nlive = true\nkey_type = \"int\"\n\
     ranges = [{ from = 0, shard = \"a\" }]\nshards = { a = {}, b = {} }\n";

fn changed() -> Changed {
    Changed { by: "test".to_owned(), at: UnixMillis(0), why: "test".to_owned() }
}

impl World {
    fn new() -> Self {
        let (rules, registry) = (Rules::from_toml(RULES).expect("good rules"), Registry::new());
        let object = first("m", &rules.document.shard_maps["m"], changed());
        let meters = ShardMeters::new(&registry).expect("one of each");
        let map = map(&rules, &object);
        meters.follow(&map);
        Self { registry, meters, rules, object, map }
    }

    fn change(&mut self, change: impl FnOnce(&MapObject) -> MapObject) {
        self.object = change(&self.object);
        self.map = map(&self.rules, &self.object);
        self.meters.follow(&self.map);
    }

    fn split(&mut self, at: u64) {
        let split = |object: &MapObject| object.split(&at.to_string(), changed()).expect("a bound");
        self.change(split);
    }

    fn resolved(&self, key: i64) -> Resolved {
        Resolved::find(&self.map, ShardKeys::One(ShardKey::Int(key))).expect("a range")
    }

    fn ask(&self, key: i64, times: usize) {
        for _ in 0..times {
            self.meters.entered(&self.resolved(key), ShardOutput::Annotate);
        }
    }

    /// The counts of ranges, as a scrape sees them.
    fn shown(&self) -> BTreeMap<String, u64> {
        self.meters.show();
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("memory");
        let text = String::from_utf8(text).expect("text");
        let ranges = text.lines().filter_map(|line| {
            let (range, count) = line
                .strip_prefix("spillway_shard_range_requests_total{map=\"m\",range=\"")?
                .split_once("\"} ")?;
            Some((range.to_owned(), count.parse().expect("a number")))
        });
        ranges.collect()
    }
}

fn map(rules: &Rules, object: &MapObject) -> ShardMap {
    let document = &rules.document.shard_maps["m"];
    ShardMap::live(&"m".into(), document, &Arc::new(object.clone())).expect("a map")
}

fn counts<const N: usize>(of: [(&str, u64); N]) -> BTreeMap<String, u64> {
    of.map(|(range, count)| (range.to_owned(), count)).into()
}

#[test]
fn a_range_keeps_its_count_through_changes_and_what_is_cut_out_begins_its_own() {
    let mut world = World::new();
    world.ask(7, 2);
    world.split(100);
    world.ask(7, 1);
    world.ask(700, 4);
    assert_eq!(world.shown(), counts([("0", 3), ("100", 4)]));
    // What a range counted since the last look is not lost with it.
    world.ask(700, 5);
    world.change(|object| object.merge("100", changed()).expect("one owner"));
    world.ask(700, 1);
    assert_eq!(world.shown(), counts([("0", 4), ("other", 5)]));
}

#[test]
fn a_request_by_another_version_of_the_map_counts_at_its_range() {
    let mut world = World::new();
    world.split(100);
    let (early, gone) = (world.resolved(7), world.resolved(700));
    world.change(|object| object.merge("100", changed()).expect("one owner"));
    for resolved in [early, gone] {
        world.meters.entered(&resolved, ShardOutput::Forward);
        world.meters.answered(&resolved, Duration::from_millis(1));
    }
    assert_eq!(world.shown(), counts([("0", 1), ("other", 1)]));
    assert_eq!(world.meters.requests.with_label_values(&["m", "a", "forward"]).get(), 2);
    assert_eq!(world.meters.seconds.with_label_values(&["m", "a"]).get_sample_count(), 2);
}

#[test]
fn of_many_ranges_those_with_the_most_load_have_series_and_no_count_is_lost_or_falls() {
    let mut world = World::new();
    for at in 1..100 {
        world.split(at * 10);
    }
    for range in 0..100 {
        world.ask(range * 10, usize::try_from(range + 1).expect("no less than 1"));
    }
    let first = world.shown();
    assert_eq!(first.len(), SERIES_MAX + 1);
    assert_eq!(
        (first.get("990"), first.get("360"), first.get("350")),
        (Some(&100), Some(&37), None)
    );
    assert_eq!(first["other"], (1..=36).sum::<u64>());
    // One of the others becomes the hottest: it begins where it is, and `other` does not fall.
    world.ask(0, 1_000);
    let second = world.shown();
    assert_eq!(second.len(), SERIES_MAX + 1);
    assert_eq!((second.get("0"), second.get("360")), (Some(&1_000), None));
    assert_eq!(second["other"], first["other"]);
    // Whoever had a series and gets one again begins anew.
    world.ask(360, 1);
    let third = world.shown();
    assert_eq!((third.get("360"), third.get("370")), (Some(&1), None));
    assert_eq!((third.len(), third["other"]), (SERIES_MAX + 1, first["other"]));
}
