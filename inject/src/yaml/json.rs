//! JSON where a manifest begins with it. Most of it is YAML, too, but not all: a character beyond the
//! first 65,536 is two escapes there, and documents need nothing between them.

use super::node::Node;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer as Json, Value};
use std::borrow::Cow;
use std::fmt;

/// What stands in for half a character, as kubectl reads it; as long as what it takes the place of.
const REPLACEMENT: &str = "\\ufffd";
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The documents at the beginning of a text, each with where it ends; none where it begins with no
/// JSON. What follows the last one is something else.
pub fn documents(text: &str) -> Vec<(Node, usize)> {
    let start = text.len() - before(text).len();
    let text = whole_characters(text);
    let (mut found, mut at) = (Vec::new(), start);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let skipped = rest.len() - blank(rest).len();
        if !blank(rest).starts_with('{') {
            break;
        }
        let mut stream = Json::from_str(blank(rest)).into_iter::<Node>();
        let Some(Ok(node)) = stream.next() else { break };
        at += skipped + stream.byte_offset();
        found.push((node, at));
    }
    found
}

fn blank(text: &str) -> &str {
    text.trim_start_matches(|letter: char| {
        letter.is_ascii_whitespace() || letter == BYTE_ORDER_MARK
    })
}

/// Without the lines that may stand above a document: marks and comments.
fn before(text: &str) -> &str {
    let mut text = blank(text);
    while let Some(line) = text.lines().next() {
        let is_mark = line.starts_with('#')
            || line.strip_prefix("---").is_some_and(|rest| {
                rest.trim().is_empty()
                    || rest.trim_start().starts_with('#') && rest.starts_with(' ')
            });
        if !is_mark {
            break;
        }
        text = blank(text.get(line.len()..).unwrap_or_default());
    }
    text
}

/// The same text with a replacement for each half of a character; every place in it stays.
fn whole_characters(text: &str) -> Cow<'_, str> {
    let mut halves = Vec::new();
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        let unit = escape(text, at);
        at += match unit {
            Some(0xd800..=0xdbff) if is_low(escape(text, at + REPLACEMENT.len())) => {
                2 * REPLACEMENT.len()
            }
            Some(0xd800..=0xdfff) => {
                halves.push(at);
                REPLACEMENT.len()
            }
            // Of the escaped character, its first byte: no other one is a backslash.
            _ => 2,
        };
        while at < text.len() && !text.is_char_boundary(at) {
            at += 1;
        }
    }
    if halves.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut whole = text.to_owned();
    for at in halves {
        whole.replace_range(at..at + REPLACEMENT.len(), REPLACEMENT);
    }
    Cow::Owned(whole)
}

/// The code unit of the escape that begins there.
fn escape(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + REPLACEMENT.len())?.strip_prefix("\\u")?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
    u16::from_str_radix(digits, 16).ok()
}

fn is_low(unit: Option<u16>) -> bool {
    matches!(unit, Some(0xdc00..=0xdfff))
}

struct Read;

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Read)
    }
}

impl<'de> Visitor<'de> for Read {
    type Value = Node;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = all.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Node, A::Error> {
        let mut fields: Vec<(String, Node)> = Vec::new();
        while let Some((key, value)) = all.next_entry::<String, Node>()? {
            // The reader of YAML says where.
            if fields.iter().any(|(own, _)| *own == key) {
                return Err(A::Error::custom("a key stands twice"));
            }
            fields.push((key, value));
        }
        Ok(Node::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Vec<Value> {
        documents(text).iter().map(|(node, _)| node.to_json()).collect()
    }

    #[test]
    fn characters_of_two_escapes_are_one_and_halves_are_replaced() {
        assert_eq!(read(r#"{"a": "\ud83d\ude80"}"#), [json!({ "a": "🚀" })]);
        assert_eq!(
            read(r#"{"a": "\uD83Dx", "b": "\ude80"}"#),
            [json!({ "a": "\u{fffd}x", "b": "\u{fffd}" })]
        );
        assert_eq!(read(r#"{"a": "\ud83d\ud83d\ude80"}"#), [json!({ "a": "\u{fffd}🚀" })]);
        assert_eq!(
            read(r#"{"a": "\\ud83d", "b": "é\\"}"#),
            [json!({ "a": "\\ud83d", "b": "é\\" })]
        );
    }

    #[test]
    fn documents_need_nothing_between_them_and_may_have_marks_above() {
        assert_eq!(read("{}{}\n {\"a\":1}\n"), [json!({}), json!({}), json!({ "a": 1 })]);
        assert_eq!(read("\u{feff}# why\n--- # one\n\n{}\n\u{feff}{}"), [json!({}), json!({})]);
        assert_eq!(read("{\"a\":1}\na: 2"), [json!({ "a": 1 })]);
        for text in
            ["", "a: 1", "{a: 1}", "{\"a\":1,}", "[1]", "--- {}", "----\n{}", "{\"a\":1,\"a\":2}"]
        {
            assert!(read(text).is_empty(), "{text}");
        }
        let (_, end) = documents("{\"a\":1} b").remove(0);
        assert_eq!(end, 7);
    }
}
