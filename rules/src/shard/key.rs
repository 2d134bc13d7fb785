//! Shard keys: one canonical form for each, ordered as the ranges of a map are.

use crate::document::KeyType;
use std::fmt;

/// A shard key in the canonical form of its type, so that two spellings are one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShardKey {
    /// See [`KeyType::Int`].
    Int(i64),
    /// See [`KeyType::Text`].
    Text(String),
    /// See [`KeyType::Uuid`].
    Uuid(u128),
    /// A point in time, in microseconds since 1970 UTC.
    Timestamp(i64),
}

/// The largest text key in bytes; a longer text is not a key but data.
const TEXT_BYTES_MAX: usize = 256;

impl ShardKey {
    /// Parses a key; `None` when the text is not exactly a key of that type: no sign `+`, no leading zeros,
    /// no exponent, no overflow, no local time.
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

impl fmt::Display for ShardKey {
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

/// The shard keys of a request: one, or a list whose keys all lie on one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardKeys {
    /// One key, as nearly all requests have; numbers need no allocation.
    One(ShardKey),
    /// A list such as `ids=1,2,3`, without immediate repetitions.
    Many(Vec<ShardKey>),
}

impl ShardKeys {
    /// The keys in the order of the request.
    pub fn as_slice(&self) -> &[ShardKey] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

impl fmt::Display for ShardKeys {
    /// The keys in canonical form with commas between them.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, key) in self.as_slice().iter().enumerate() {
            if at > 0 {
                out.write_str(",")?;
            }
            key.fmt(out)?;
        }
        Ok(())
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

/// Parses RFC 3339 with an offset; the result is in microseconds since 1970 UTC.
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

/// The offset of `Z` or `+01:00` in seconds east of UTC.
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

/// The number of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
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
