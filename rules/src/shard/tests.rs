use super::*;
use crate::document::{self, Hold, KeyType, Range, Shard};
use crate::problem::Problem;
use proptest::prelude::*;

fn map(bounds: &[i64], until: Option<i64>) -> ShardMap {
    let name = |index: usize| format!("s{index}");
    let ranges = bounds.iter().enumerate();
    let ranges = ranges
        .map(|(index, from)| Range { from: Some(from.to_string()), shard: name(index) })
        .collect();
    let shards = (0..bounds.len()).map(|index| (name(index), Shard { upstream: None })).collect();
    let until = until.map(|until| until.to_string());
    let (outside, live, hold) = (None, false, Hold::default());
    let key_type = KeyType::Int;
    let document =
        document::ShardMapSection { key_type, ranges, until, outside, shards, live, hold };
    ShardMap::new("m", &document).expect("ascending bounds")
}

#[test]
fn two_spellings_of_one_integer_are_not_two_keys() {
    let parse = |text| ShardKey::parse(KeyType::Int, text);
    assert_eq!(parse("15000"), Some(ShardKey::Int(15000)));
    assert_eq!(parse("-7"), Some(ShardKey::Int(-7)));
    for text in ["", "+1", "01", "-0", "1e4", "1.0", " 1", "9223372036854775808", "１"] {
        assert_eq!(parse(text), None, "{text}");
    }
}

#[test]
fn timestamps_with_different_offsets_are_one_key() {
    let parse = |text| ShardKey::parse(KeyType::Timestamp, text);
    assert_eq!(parse("2024-03-01T00:30:00+01:00"), parse("2024-02-29T23:30:00Z"));
    assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(ShardKey::Timestamp(1_500_000)));
    assert_eq!(
        parse("2024-02-29T23:30:00Z").map(|key| key.to_string()).as_deref(),
        Some("2024-02-29T23:30:00.000000Z")
    );
    for text in
        ["2023-02-29T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01", "2024-13-01T00:00:00Z"]
    {
        assert_eq!(parse(text), None, "{text}");
    }
}

#[test]
fn a_uuid_is_one_key_in_either_case() {
    let text = "0188F2A4-7C3B-7D10-8000-0123456789AB";
    let key = ShardKey::parse(KeyType::Uuid, text);
    assert_eq!(key.as_ref().map(ShardKey::to_string), Some(text.to_ascii_lowercase()));
    assert_eq!(ShardKey::parse(KeyType::Uuid, "0188f2a47c3b7d1080000123456789ab"), None);
}

#[test]
fn metrics_name_a_range_by_its_bound_and_no_text_that_may_be_a_name() {
    for (key_type, from) in [(KeyType::Int, "-7"), (KeyType::Timestamp, "2024-02-29T23:30:00Z")] {
        assert_eq!(range_label(key_type, Some(from)), from);
    }
    // As `printf %s adam | sha256sum` says.
    assert_eq!(range_label(KeyType::Text, Some("adam")), "f7f376a1");
    assert_eq!(range_label(KeyType::Text, None), "-");
}

#[test]
fn a_range_knows_its_place_in_the_map() {
    let map = map(&[1, 10_001], Some(20_001));
    assert_eq!(map.ranges().map(|range| range.place).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(map.ranges().map(|range| &*range.label).collect::<Vec<_>>(), ["1", "10001"]);
}

#[test]
fn a_key_below_the_first_or_above_the_last_range_is_unmapped() {
    let map = map(&[1, 10_001, 20_001], Some(30_001));
    let shard = |key| map.lookup(&ShardKey::Int(key)).map(|own| (&*own.shard, own.text.as_str()));
    assert_eq!(shard(10_000), Ok(("s0", "[1,10001)")));
    assert_eq!(shard(10_001), Ok(("s1", "[10001,20001)")));
    assert_eq!(shard(30_000), Ok(("s2", "[20001,30001)")));
    assert_eq!(shard(0), Err(Problem::KeyUnmapped));
    assert_eq!(shard(30_001), Err(Problem::KeyUnmapped));
}

proptest! {
    #[test]
    fn the_owner_is_the_last_range_that_begins_at_or_below_the_key(
        mut bounds in proptest::collection::vec(-1000_i64..1000, 1..20), key in -1100_i64..1100,
    ) {
        bounds.sort_unstable();
        bounds.dedup();
        let expected = bounds.iter().rposition(|from| *from <= key).map(|index| format!("s{index}"));
        let map = map(&bounds, None);
        let found = map.lookup(&ShardKey::Int(key)).ok().map(|own| own.shard.to_string());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_timestamp_is_its_own_canonical_form(micros in -62_135_596_800_000_000_i64..253_402_300_799_000_000) {
        let text = ShardKey::Timestamp(micros).to_string();
        prop_assert_eq!(ShardKey::parse(KeyType::Timestamp, &text), Some(ShardKey::Timestamp(micros)));
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        for key_type in [KeyType::Int, KeyType::Text, KeyType::Uuid, KeyType::Timestamp] {
            if let Some(key) = ShardKey::parse(key_type, &text) {
                prop_assert_eq!(ShardKey::parse(key_type, &key.to_string()), Some(key));
            }
        }
    }
}
