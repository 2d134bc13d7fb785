//! Header lines of requests and answers as JSON, for messages and records.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The value of one line, in any bytes. In JSON it is a string; bytes that are not UTF-8, such as
/// older encodings, become `{"base64": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Value(Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes { base64: String },
}

impl From<Value> for Written {
    fn from(value: Value) -> Self {
        match String::from_utf8(value.0) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Bytes { base64: STANDARD.encode(error.as_bytes()) },
        }
    }
}

/// Invalid base64 becomes a value that no field can have, so that its line is left out.
impl From<Written> for Value {
    fn from(written: Written) -> Self {
        match written {
            Written::Text(text) => Self(text.into_bytes()),
            Written::Bytes { base64 } => Self(STANDARD.decode(base64).unwrap_or_else(|_| vec![0])),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&HeaderValue> for Value {
    fn from(value: &HeaderValue) -> Self {
        Self(value.as_bytes().to_vec())
    }
}

impl Value {
    pub fn as_text(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
    }
}

/// Lines in their order, with names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(pub Vec<(String, Value)>);

/// The lines of one name: a single value, or a list of several.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(Value),
    More(Vec<Value>),
}

impl Lines {
    pub fn push(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// The lines as one object, so that a plain consumer can read `headers["content-type"]`.
    pub fn to_json(&self) -> String {
        let mut object: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for (name, value) in &self.0 {
            object.entry(name).or_default().push(value);
        }
        let object: BTreeMap<&str, OneOrMore> = object
            .into_iter()
            .map(|(name, values)| match values.as_slice() {
                [one] => (name, OneOrMore::One((*one).clone())),
                more => (name, OneOrMore::More(more.iter().map(|it| (*it).clone()).collect())),
            })
            .collect();
        // Text, and lists of text, always serialise.
        serde_json::to_string(&object).unwrap_or_default()
    }

    /// Parses the JSON form.
    ///
    /// # Errors
    /// It is not such an object.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let object: BTreeMap<String, OneOrMore> = serde_json::from_str(text)?;
        let mut lines = Self::default();
        for (name, values) in object {
            match values {
                OneOrMore::One(value) => lines.0.push((name, value)),
                OneOrMore::More(values) => {
                    lines.0.extend(values.into_iter().map(|value| (name.clone(), value)));
                }
            }
        }
        Ok(lines)
    }

    /// Replaces fields of the same names in the map; invalid fields are left out.
    pub fn put_into(&self, headers: &mut HeaderMap) {
        let fields = self.0.iter().filter_map(|(name, value)| {
            let name = HeaderName::try_from(name.as_str()).ok()?;
            Some((name, HeaderValue::from_bytes(&value.0).ok()?))
        });
        let fields: Vec<(HeaderName, HeaderValue)> = fields.collect();
        for (name, _) in &fields {
            headers.remove(name);
        }
        for (name, value) in fields {
            headers.append(name, value);
        }
    }
}

impl rules::Fields for Lines {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (own, value) in &self.0 {
            if own.eq_ignore_ascii_case(name) {
                visit(&value.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_in_whatever_bytes_and_number_they_came() {
        let mut lines = Lines::default();
        lines.push("accept", "text/html");
        lines.push("cookie", "a=1");
        lines.push("cookie", "b=J\u{fc}rgen");
        lines.push("x-name", &HeaderValue::from_bytes(b"J\xfcrgen").expect("a value"));
        let json = lines.to_json();
        let expected = "{\"accept\":\"text/html\",\"cookie\":[\"a=1\",\"b=J\u{fc}rgen\"],\"x-name\":{\"base64\":\"SvxyZ2Vu\"}}";
        assert_eq!(json, expected);
        assert_eq!(Lines::from_json(&json).expect("an object"), lines);
        let mut headers = HeaderMap::from_iter([(http::header::COOKIE, HeaderValue::from(0))]);
        lines.put_into(&mut headers);
        assert_eq!(headers.get_all("cookie").iter().count(), 2);
        assert_eq!(headers["x-name"].as_bytes(), b"J\xfcrgen");
    }

    #[test]
    fn what_can_be_no_field_is_left_out() {
        let json = r#"{"a b":"1","c":"x\r\ny: z","d":{"base64":"*"},"e":["1",""]}"#;
        let mut headers = HeaderMap::new();
        Lines::from_json(json).expect("an object").put_into(&mut headers);
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert!(Lines::from_json(r#"{"a":1}"#).is_err());
    }
}
