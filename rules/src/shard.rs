//! From a request to the shard that holds its data.
//!
//! A map is an ordered list of lower bounds: each range ends where the next begins, so a gap or
//! an overlap can't be written down.

use crate::document::{self, KeySource, KeyType, ShardRule};
use crate::head::{Head, cookie, first, text_of};
use crate::path;
use crate::problem::Problem;
use std::fmt;

/// A shard key in the canonical form of its type, so that two spellings are one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// See [`KeyType::Int`].
    Int(i64),
    /// See [`KeyType::Text`].
    Text(String),
    /// See [`KeyType::Uuid`].
    Uuid(u128),
    /// Microseconds since 1970 UTC.
    Timestamp(i64),
}

/// A longer text is not a key but data.
const TEXT_BYTES_MAX: usize = 256;

impl Key {
    /// `None` when the text is not exactly a key of that type: no sign `+`, no leading zeros, no
    /// exponent, no overflow, no local time.
    pub fn parse(key_type: KeyType, text: &str) -> Option<Self> {
        match key_type {
            KeyType::Int => parse_int(text).map(Self::Int),
            KeyType::Text => {
                let legal = !text.is_empty() && text.len() <= TEXT_BYTES_MAX;
                (legal && !text.chars().any(char::is_control)).then(|| Self::Text(text.to_owned()))
            }
            KeyType::Uuid => parse_uuid(text).map(Self::Uuid),
            KeyType::Timestamp => parse_timestamp(text).map(Self::Timestamp),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(out, "{number}"),
            Self::Text(text) => out.write_str(text),
            Self::Uuid(uuid) => {
                let hex = format!("{uuid:032x}");
                let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
                write!(
                    out,
                    "{}-{}-{}-{}-{}",
                    part(0, 8),
                    part(8, 12),
                    part(12, 16),
                    part(16, 20),
                    part(20, 32)
                )
            }
            Self::Timestamp(micros) => {
                let (days, rest) =
                    (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
                let (year, month, day) = civil(days);
                let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
                let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                write!(
                    out,
                    "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z"
                )
            }
        }
    }
}

fn parse_int(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_canonical = !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'))
        && text != "-0";
    if is_canonical { text.parse().ok() } else { None }
}

fn parse_uuid(text: &str) -> Option<u128> {
    let dashes: Vec<usize> =
        text.bytes().enumerate().filter(|(_, byte)| *byte == b'-').map(|(at, _)| at).collect();
    if text.len() != 36 || dashes != [8, 13, 18, 23] {
        return None;
    }
    let hex = text.replace('-', "");
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&hex, 16).ok()
}

/// RFC 3339 with an offset; microseconds since 1970 UTC.
fn parse_timestamp(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok()
    };
    let separator = |at: usize, legal: &str| legal.contains(text.get(at..at + 1)?).then_some(());
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    for (at, legal) in [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")] {
        separator(at, legal)?;
    }
    let mut rest = text.get(19..)?;
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 6 {
            return None;
        }
        micros = fraction.get(..digits)?.parse::<i64>().ok()? * 10_i64.pow(6 - digits as u32);
        rest = fraction.get(digits..)?;
    }
    let offset = parse_offset(rest)?;
    let days_in_month = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let last = *days_in_month.get(usize::try_from(month - 1).ok()?)?;
    if day < 1 || day > last || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(seconds * 1_000_000 + micros)
}

/// Seconds east of UTC of `Z` or `+01:00`.
fn parse_offset(text: &str) -> Option<i64> {
    if text == "Z" || text == "z" {
        return Some(0);
    }
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    (hours < 24 && minutes < 60).then(|| sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A shard map ready for look-ups.
#[derive(Debug)]
pub struct ShardMap {
    key_type: KeyType,
    /// Ascending; `None` sorts before every key.
    ranges: Vec<(Option<Key>, String)>,
    until: Option<Key>,
    outside: Option<String>,
    /// Raised with every change of the live map; the file's seed is epoch 1.
    pub epoch: u64,
    document: document::ShardMap,
}

/// Where a request's data lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Name of the shard map.
    pub map: String,
    /// The key in the canonical form of its type.
    pub key: String,
    /// Name of the shard that holds the key.
    pub shard: String,
    /// [`ShardMap::epoch`] at the time of the decision.
    pub epoch: u64,
    /// Half-open, as written in `X-Shard-Range`: `[10001,20001)`, `-` for an open end.
    pub range: String,
    /// Binding name of the shard's upstream; `None` = annotate for the local app.
    pub upstream: Option<String>,
}

impl ShardMap {
    /// Indexes the map of a document, as epoch 1.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it; nothing is with one that `check` has compiled.
    pub fn new(document: document::ShardMap) -> Result<Self, String> {
        let parse = |text: &String| {
            Key::parse(document.key_type, text).ok_or_else(|| format!("`{text}` is not a key"))
        };
        let mut ranges = Vec::with_capacity(document.ranges.len());
        for range in &document.ranges {
            ranges.push((range.from.as_ref().map(parse).transpose()?, range.shard.clone()));
        }
        if !ranges.is_sorted_by(|left, right| left.0 < right.0) {
            return Err("ranges are not ascending".to_owned());
        }
        let until = document.until.as_ref().map(parse).transpose()?;
        let (key_type, outside) = (document.key_type, document.outside.clone());
        Ok(Self { key_type, ranges, until, outside, epoch: 1, document })
    }

    /// How this map reads its keys.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// Names of all shards, also of those that no range names.
    pub fn shard_names(&self) -> impl Iterator<Item = &str> {
        self.document.shards.keys().map(String::as_str)
    }

    /// The shard and range of a key.
    ///
    /// # Errors
    /// `key-unmapped` when no range holds it and the map names no shard for everything else.
    pub fn lookup(&self, name: &str, key: &Key) -> Result<Resolved, Problem> {
        let above =
            self.ranges.partition_point(|(from, _)| from.as_ref().is_none_or(|from| from <= key));
        let inside = self.until.as_ref().is_none_or(|until| key < until);
        let owner =
            above.checked_sub(1).filter(|_| inside).and_then(|at| Some((at, self.ranges.get(at)?)));
        let bound = |key: Option<&Key>| key.map_or_else(|| "-".to_owned(), Key::to_string);
        let (shard, range) = match owner {
            Some((at, (from, shard))) => {
                let to = self.ranges.get(at + 1).and_then(|(from, _)| from.as_ref());
                let to = to.or(self.until.as_ref());
                (shard, format!("[{},{})", bound(from.as_ref()), bound(to)))
            }
            None => (self.outside.as_ref().ok_or(Problem::KeyUnmapped)?, "outside".to_owned()),
        };
        Ok(Resolved {
            map: name.to_owned(),
            key: key.to_string(),
            shard: shard.clone(),
            epoch: self.epoch,
            range,
            upstream: self.document.shards.get(shard).and_then(|shard| shard.upstream.clone()),
        })
    }
}

/// What could be said of a request's shard from its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The route has no shard rule, or it is off.
    None,
    /// It is known.
    Resolved(Box<Resolved>),
    /// The key lies in the body: read up to `limit` bytes and ask [`crate::Rules::shard_in_body`].
    NeedsBody {
        /// Bytes; the route's `body_limit`.
        limit: u64,
    },
}

impl Step {
    /// The shard, where it is known.
    pub fn resolved(&self) -> Option<&Resolved> {
        match self {
            Self::Resolved(resolved) => Some(resolved),
            Self::None | Self::NeedsBody { .. } => None,
        }
    }
}

/// Looks for the key in path, query, headers and cookies; the first source present wins.
///
/// # Errors
/// `key-missing`, `key-invalid`, `key-unmapped`, or `cross-shard` when the key is repeated and
/// its values lie on several shards.
pub(crate) fn in_head(
    rule: &ShardRule,
    map: &ShardMap,
    head: &Head<'_>,
    query: Option<&str>,
    parameters: &[(String, String)],
) -> Result<Step, Problem> {
    for source in &rule.from {
        let values: Vec<String> = match source {
            KeySource::Path(name) => parameters
                .iter()
                .filter(|(own, _)| own == name)
                .map(|(_, value)| value.clone())
                .collect(),
            KeySource::Query(name) => path::query_values(query.unwrap_or_default(), name).collect(),
            KeySource::Header(name) => first(head.fields, name).into_iter().collect(),
            KeySource::Cookie(name) => cookie(head.fields, name)
                .map(|value| text_of(&value).trim_matches('"').to_owned())
                .into_iter()
                .collect(),
            KeySource::Body(_) => return Ok(Step::NeedsBody { limit: rule.body_limit }),
        };
        if !values.is_empty() {
            return one_shard(rule, map, source, &values).map(|it| Step::Resolved(Box::new(it)));
        }
    }
    Err(Problem::KeyMissing)
}

/// A list (`ids=1,2,3`) is served when all its keys lie on one shard.
fn one_shard(
    rule: &ShardRule,
    map: &ShardMap,
    source: &KeySource,
    values: &[String],
) -> Result<Resolved, Problem> {
    let is_list = matches!(source, KeySource::Query(_)) && map.key_type != KeyType::Text;
    let mut found: Option<Resolved> = None;
    for value in values {
        let mut keys: Vec<&str> =
            if is_list { value.split(',').collect() } else { vec![value.as_str()] };
        keys.dedup();
        for text in keys {
            let key = Key::parse(map.key_type, text).ok_or(Problem::KeyInvalid)?;
            let resolved = map.lookup(&rule.map, &key)?;
            match &mut found {
                None => found = Some(resolved),
                Some(first) if first.shard != resolved.shard => return Err(Problem::CrossShard),
                // The whole list is the key: two lists of one shard are two cache entries.
                Some(first) => {
                    first.key.push(',');
                    first.key.push_str(&resolved.key);
                }
            }
        }
    }
    found.ok_or(Problem::KeyMissing)
}

/// Looks for the key at the rule's JSON pointers.
///
/// # Errors
/// `key-missing` without a key, `key-invalid` for one that is not of the map's type or a body that is not JSON,
/// `key-unmapped` for one that no shard holds.
pub(crate) fn in_body(rule: &ShardRule, map: &ShardMap, body: &[u8]) -> Result<Resolved, Problem> {
    let json: serde_json::Value = serde_json::from_slice(body).map_err(|_| Problem::KeyInvalid)?;
    let pointers = rule.from.iter().filter_map(|source| match source {
        KeySource::Body(pointer) => Some(pointer),
        _ => None,
    });
    for pointer in pointers {
        let text = match json.pointer(pointer) {
            None => continue,
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Number(number)) => number.to_string(),
            Some(_) => return Err(Problem::KeyInvalid),
        };
        let key = Key::parse(map.key_type, &text).ok_or(Problem::KeyInvalid)?;
        return map.lookup(&rule.map, &key);
    }
    Err(Problem::KeyMissing)
}

#[cfg(test)]
#[path = "shard_tests.rs"]
mod tests;
