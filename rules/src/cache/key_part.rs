//! How the parts of a cache key are written: each with its length before it.

use crate::head::push_number;
use crate::shard::{ShardKey, ShardKeys};

/// A text, or that there is none.
pub(super) fn push(key: &mut String, part: Option<&str>) {
    match part {
        Some(part) => {
            push_number(key, part.len() as u64);
            key.push(':');
            key.push_str(part);
        }
        None => key.push_str("-:"),
    }
}

/// Shard keys as [`push`] has their text, and for the usual ones without making it.
pub(super) fn push_keys(key: &mut String, keys: &ShardKeys) {
    match keys {
        ShardKeys::One(ShardKey::Int(number)) if !number.is_negative() => {
            push_number_part(key, number.unsigned_abs());
        }
        ShardKeys::One(ShardKey::Text(text)) => push(key, Some(text)),
        other => push(key, Some(&other.to_string())),
    }
}

/// A number as [`push`] has its text.
pub(super) fn push_number_part(key: &mut String, number: u64) {
    let digits = number.checked_ilog10().unwrap_or(0) + 1;
    push_number(key, digits.into());
    key.push(':');
    push_number(key, number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_keys_stand_in_a_cache_key_as_their_texts_would() {
        for number in [0, 9, 10, 99, 100, 12_345, u64::MAX] {
            let (mut own, mut text) = (String::new(), String::new());
            push_number_part(&mut own, number);
            push(&mut text, Some(&number.to_string()));
            assert_eq!(own, text);
        }
        let one = |key| ShardKeys::One(key);
        let many = ShardKeys::Many(vec![ShardKey::Int(1), ShardKey::Int(2)]);
        let int = |number| one(ShardKey::Int(number));
        let text = one(ShardKey::Text("a,1".to_owned()));
        for keys in [int(0), int(10_001), int(-1), int(i64::MIN), int(i64::MAX), text, many] {
            let (mut own, mut text) = (String::new(), String::new());
            push_keys(&mut own, &keys);
            push(&mut text, Some(&keys.to_string()));
            assert_eq!(own, text);
        }
    }
}
