//! The answer of S3 to ListObjectsV2.

use crate::results::{Listed, StoreError};
use http_body_util::{BodyExt, Limited};
use net::boxed::ObjectBody;
use rules::UnixMillis;
use rules::document::KeyType;
use rules::shard::ShardKey;
use rusty_s3::actions::ListObjectsV2;

/// The largest number of keys that S3 names in one answer.
pub(super) const KEYS_MAX: usize = 1000;

/// The largest document in bytes: a thousand entries of less than 2 KiB.
const ANSWER_BYTES_MAX: usize = 2 << 20;

/// The listed keys without the prefix of our part of the bucket.
pub(super) async fn read(body: ObjectBody, prefix: &str) -> Result<Vec<Listed>, StoreError> {
    let document = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let document = document.map_err(|error| senseless(&error))?.to_bytes();
    let document = String::from_utf8_lossy(&document);
    let parsed = ListObjectsV2::parse_response(&document).map_err(|error| senseless(&error))?;
    let entries = parsed.contents.iter().map(|entry| {
        let entry = listed(&entry.key, entry.last_modified.as_deref(), prefix);
        entry.ok_or_else(|| senseless(&"no key or time"))
    });
    entries.collect()
}

fn listed(key: &str, written: Option<&str>, prefix: &str) -> Option<Listed> {
    let key = key.strip_prefix(prefix)?.to_owned();
    let written = ShardKey::parse(KeyType::Timestamp, written?)?;
    let ShardKey::Timestamp(micros) = written else { return None };
    Some(Listed { key, written: UnixMillis(u64::try_from(micros / 1000).ok()?) })
}

fn senseless(why: &dyn std::fmt::Display) -> StoreError {
    StoreError {
        name: "refused",
        detail: format!("S3 answered with a listing without sense: {why}"),
    }
}
