//! JSON values as expressions of CEL, in which some texts are computed.
//!
//! The sidecar is described once, in `sidecar`. For the admission policy its texts contain
//! expressions between two marks, and become concatenations here.
//!
//! Kubernetes wants all values of a map or a list to have one type. `dyn()` gives them that.

use serde_json::Value;

/// Private characters, so that no manifest contains them by chance.
const OPEN: char = '\u{e000}';
const SPLICE: char = '\u{e001}';
const CLOSE: char = '\u{e002}';

/// A text that the expression computes; may stand inside a longer one.
pub fn computed(expression: &str) -> String {
    format!("{OPEN}{expression}{CLOSE}")
}

/// In a list: not one item, but all of the list that the expression computes.
pub fn spliced(expression: &str) -> String {
    format!("{SPLICE}{expression}{CLOSE}")
}

/// The value as an expression, its fields on lines of their own at this depth.
pub fn expression(value: &Value, depth: usize) -> String {
    match value {
        Value::String(text) => string(text),
        Value::Array(items) => list(items, depth),
        Value::Object(fields) => {
            let is_text = fields.values().all(Value::is_string);
            let field = |(key, value): (&String, &Value)| {
                let value = expression(value, depth + 1);
                let value = if is_text { value } else { format!("dyn({value})") };
                format!("{}: {value}", quoted(key))
            };
            braced('{', fields.iter().map(field).collect(), '}', depth)
        }
        other => other.to_string(),
    }
}

fn list(items: &[Value], depth: usize) -> String {
    let mut parts = Vec::new();
    let mut own = Vec::new();
    for item in items {
        match item.as_str().and_then(|text| text.strip_prefix(SPLICE)) {
            Some(inner) => {
                parts.push(braced('[', std::mem::take(&mut own), ']', depth));
                parts.push(inner.trim_end_matches(CLOSE).to_owned());
            }
            None if item.is_string() => own.push(expression(item, depth + 1)),
            None => own.push(format!("dyn({})", expression(item, depth + 1))),
        }
    }
    parts.push(braced('[', own, ']', depth));
    parts.join(" + ")
}

fn braced(open: char, parts: Vec<String>, close: char, depth: usize) -> String {
    if parts.is_empty() {
        return format!("{open}{close}");
    }
    let (inner, outer) = ("  ".repeat(depth + 1), "  ".repeat(depth));
    format!("{open}\n{inner}{}\n{outer}{close}", parts.join(&format!(",\n{inner}")))
}

/// A text with its computed parts put together.
fn string(text: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (inner, end) = after.split_once(CLOSE).unwrap_or((after, ""));
        if !before.is_empty() {
            parts.push(quoted(before));
        }
        parts.push(inner.to_owned());
        rest = end;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(quoted(rest));
    }
    parts.join(" + ")
}

/// A literal text.
pub fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_become_expressions_of_one_type_per_level() {
        let value = json!({ "n": 1, "t": format!("a{}b'", computed("x.y")) });
        assert_eq!(expression(&value, 0), "{\n  'n': dyn(1),\n  't': dyn('a' + x.y + 'b\\'')\n}");
        let list = json!(["a", spliced("xs"), "b"]);
        assert_eq!(expression(&list, 0), "[\n  'a'\n] + xs + [\n  'b'\n]");
        assert_eq!(expression(&json!({ "a": "b" }), 0), "{\n  'a': 'b'\n}");
        assert_eq!(expression(&json!([{}]), 0), "[\n  dyn({})\n]");
    }
}
