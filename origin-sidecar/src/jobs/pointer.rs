//! Evaluates JSON pointers over bodies that are too large for memory, by streaming.

use super::intake::{Intake, NO_MEMORY, NotRead, ROOM_WAIT};
use super::payload::Payload;
use rules::document::KeySource;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

/// The buffer for the longest value or name doubles as it grows, so it may use this many times its
/// size.
const BUFFER_PART: u64 = 2;

/// Values by their pointers.
pub(super) type Pointed = BTreeMap<String, String>;

/// The values of these sources in a spooled body. Other bodies are evaluated in memory.
pub(super) async fn pointed<const N: usize>(
    intake: &Intake,
    body: &Payload,
    sources: [&Option<KeySource>; N],
) -> Result<Pointed, NotRead> {
    let mut found = Pointed::new();
    let pointers = sources.into_iter().filter_map(|source| match source {
        Some(KeySource::Body(pointer)) => Some(pointer),
        _ => None,
    });
    for pointer in pointers {
        let Payload::Spooled(_) = body else { break };
        let room = intake.copying(body.length() * BUFFER_PART, ROOM_WAIT).await;
        let _room = room.ok_or(NotRead::NoRoom(NO_MEMORY))?;
        let own = pointer.clone();
        let value = body.read(move |body| find(body, &own)).await;
        let value = value.map_err(|error| NotRead::unreadable(&error))?;
        found.extend(value.map(|value| (pointer.clone(), value)));
    }
    Ok(found)
}

/// The value at a pointer, as `rules::offload::value` finds it in memory.
fn find(body: &mut dyn Read, pointer: &str) -> Option<String> {
    let path: Vec<String> = match pointer.strip_prefix('/') {
        None if pointer.is_empty() => Vec::new(),
        None => return None,
        // The path is unescaped according to RFC 6901 section 4.
        Some(path) => {
            path.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
        }
    };
    let mut json = serde_json::Deserializer::from_reader(body);
    let value = At(&path).deserialize(&mut json).ok()?;
    json.end().ok()?;
    value
}

/// Deserialises the value at the end of a path.
struct At<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl At<'_> {
    /// The value, if the path ends here.
    fn here<E>(&self, value: impl FnOnce() -> String) -> Result<Option<String>, E> {
        Ok(self.0.is_empty().then(value))
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<String>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        self.here(|| value.to_owned())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        self.here(|| value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        self.here(|| value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        self.here(|| value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        let number = serde_json::Number::from_f64(value).map(|number| number.to_string());
        Ok(number.filter(|_| self.0.is_empty()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            match self.0.split_first() {
                // Of several members with one name the last one counts.
                Some((first, rest)) if *first == name => found = map.next_value_seed(At(rest))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let wanted = self.0.split_first().and_then(|(first, rest)| {
            let is_index = first == "0" || !first.starts_with(['0', '+']);
            Some((first.parse::<u64>().ok().filter(|_| is_index)?, rest))
        });
        let (mut found, mut index) = (None, 0);
        loop {
            let more = match wanted {
                Some((wanted, rest)) if wanted == index => {
                    list.next_element_seed(At(rest))?.map(|value| found = value)
                }
                _ => list.next_element::<IgnoredAny>()?.map(drop),
            };
            if more.is_none() {
                return Ok(found);
            }
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::head::Head;

    #[test]
    fn a_large_body_is_read_as_a_small_one_is() {
        let bodies = [
            r#"{"a": 1, "b": {"c~/": ["x", -2, 2.50, true, null, {}]}, "a": "last"}"#,
            r#"{"a": 1e400}"#,
            r#"{"a": 1} x"#,
            r#"["first", 18446744073709551615, 18446744073709551616]"#,
            r#""only""#,
            "no JSON",
            "",
        ];
        let pointers = [
            "",
            "/a",
            "/b/c~0~1/0",
            "/b/c~0~1/1",
            "/b/c~0~1/2",
            "/b/c~0~1/3",
            "/b/c~0~1/4",
            "/b/c~0~1/5",
            "/b/c~0~1/6",
            "/b/c~0~1/01",
            "/b/c~0~1/+1",
            "/b",
            "/b/d",
            "/0",
            "/1",
            "/2",
            "/a/b",
            "a",
        ];
        let none: Vec<(String, String)> = Vec::new();
        let head = Head { method: "POST", scheme: "http", host: "h", target: "/", fields: &none };
        for body in bodies {
            for pointer in pointers {
                let source = KeySource::Body(pointer.to_owned());
                let small = rules::offload::value(&source, &head, &[], body.as_bytes());
                assert_eq!(find(&mut body.as_bytes(), pointer), small, "{pointer} of {body}");
            }
        }
    }
}
