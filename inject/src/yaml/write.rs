//! [`Value`] to text, in the order of the document that it was made from.

use super::node::Node;
use super::scalar;
use serde_json::{Map, Value};

/// The order of fields that were not there before; others follow by the alphabet.
#[rustfmt::skip]
const ORDER: [&str; 21] = [
    "apiVersion", "kind", "metadata", "name", "image", "restartPolicy", "args", "envFrom", "ports",
    "startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "resources", "securityContext",
    "volumeMounts", "requests", "limits", "path", "port", "op",
];

/// The value as YAML. Its fields stand in the order of `like`, new ones after them.
pub fn write(value: &Value, like: Option<&Node>) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => map(&mut text, fields, like, 0, false),
        Value::Array(items) if !items.is_empty() => list(&mut text, items, like, 0),
        other => {
            inline(&mut text, other, 0);
            text.push('\n');
        }
    }
    text
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

/// `is_item`: the first key follows the dash of a list on its line.
fn map(
    text: &mut String,
    fields: &Map<String, Value>,
    like: Option<&Node>,
    depth: usize,
    is_item: bool,
) {
    for (index, key) in order(fields, like).into_iter().enumerate() {
        if index > 0 || !is_item {
            indent(text, depth);
        }
        // A key can't be a block.
        if is_plain(key) {
            text.push_str(key)
        } else {
            quoted(text, key)
        }
        text.push(':');
        let like = like.and_then(|like| like.get(key));
        match fields.get(key) {
            Some(Value::Object(inner)) if !inner.is_empty() => {
                text.push('\n');
                map(text, inner, like, depth + 1, false);
            }
            Some(Value::Array(items)) if !items.is_empty() => {
                text.push('\n');
                list(text, items, like, depth);
            }
            other => {
                text.push(' ');
                inline(text, other.unwrap_or(&Value::Null), depth + 1);
                text.push('\n');
            }
        }
    }
}

fn order<'v>(fields: &'v Map<String, Value>, like: Option<&Node>) -> Vec<&'v String> {
    let old: Vec<&str> = match like {
        Some(Node::Map(old)) => old.iter().map(|(key, _)| key.as_str()).collect(),
        _ => Vec::new(),
    };
    let place = |names: &[&str], key: &str| {
        names.iter().position(|name| *name == key).unwrap_or(names.len())
    };
    let mut keys: Vec<&String> = fields.keys().collect();
    keys.sort_by_key(|key| (place(&old, key), place(&ORDER, key)));
    keys
}

fn list(text: &mut String, items: &[Value], like: Option<&Node>, depth: usize) {
    let old: &[Node] = match like {
        Some(Node::List(old)) => old,
        _ => &[],
    };
    for (index, item) in items.iter().enumerate() {
        let like = match item.get("name") {
            Some(name) => old.iter().find(|node| is_named(node, name)),
            None => old.get(index),
        };
        indent(text, depth);
        text.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => map(text, fields, like, depth + 1, true),
            Value::Array(inner) if !inner.is_empty() => {
                text.push('\n');
                list(text, inner, like, depth + 1);
            }
            other => {
                inline(text, other, depth + 1);
                text.push('\n');
            }
        }
    }
}

fn is_named(node: &Node, name: &Value) -> bool {
    matches!(node.get("name"), Some(Node::Scalar(own)) if own == name)
}

fn inline(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(own) => string(text, own, depth),
        other => text.push_str(&other.to_string()),
    }
}

fn string(text: &mut String, own: &str, depth: usize) {
    if is_plain(own) {
        text.push_str(own);
    } else if depth > 0 && is_block(own) {
        block(text, own, depth);
    } else {
        quoted(text, own);
    }
}

/// JSON's strings are YAML's, but for characters that YAML 1.1 takes for line breaks or for none
/// at all.
fn quoted(text: &mut String, own: &str) {
    for letter in Value::from(own).to_string().chars() {
        if is_printable(letter) {
            text.push(letter);
        } else {
            text.push_str(&format!("\\u{:04x}", u32::from(letter)));
        }
    }
}

fn is_printable(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

/// Whether the bare text is a string to every reader of YAML, 1.1 or 1.2.
fn is_plain(own: &str) -> bool {
    let is_start = |c: char| c.is_ascii_alphanumeric() || "/_.$".contains(c);
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "/_.$-=:+,() ".contains(c);
    let is_flag = own.strip_prefix("--").is_some_and(|flag| flag.starts_with(is_start));
    // Dates and sexagesimal numbers are more than digits in YAML 1.1.
    let is_numeric = own.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && !own.ends_with(|c: char| c.is_ascii_alphabetic());
    (own.starts_with(is_start) || is_flag)
        && own.chars().all(is_inner)
        && !own.contains(": ")
        && !own.ends_with([':', ' '])
        && !is_numeric
        && matches!(scalar::resolve(own), Value::String(_))
}

/// Whether the text can stand as it is in a literal block.
fn is_block(own: &str) -> bool {
    own.trim_end_matches('\n').contains('\n')
        && !own.starts_with([' ', '\n'])
        && own.chars().all(|letter| letter == '\n' || is_printable(letter))
}

fn block(text: &mut String, own: &str, depth: usize) {
    let body = own.trim_end_matches('\n');
    let ends = own.len() - body.len();
    text.push_str(match ends {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    for line in body.split('\n') {
        text.push('\n');
        if !line.is_empty() {
            indent(text, depth);
            text.push_str(line);
        }
    }
    text.extend(std::iter::repeat_n('\n', ends.saturating_sub(1)));
}
