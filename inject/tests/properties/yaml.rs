//! What is written is read back as it was, whatever it is.

use inject::yaml::{Node, parse, write};
use proptest::prelude::*;
use serde_json::Value;

fn a_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-+.0-9eExob_:yYnNoOfFtTrRuUaAlLsS~]{0,6}",
        "[ -~\n]{0,40}",
        "([a-z #:-]{0,8}\n){1,4}[\n]{0,2}",
    ]
}

fn a_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        a_text().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(a_text(), inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_is_read_back(value in a_value()) {
        let text = write(&value, None);
        let read = parse(&text).map(|node| node.as_ref().map_or(Value::Null, Node::to_json));
        prop_assert_eq!(read, Ok(value), "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[-:{}\\[\\]&*!|>'\"%@`, #\na-c0-9?]{0,40}") {
        let _ = parse(&text);
    }
}
