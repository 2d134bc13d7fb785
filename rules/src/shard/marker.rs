//! The text of the marker (`X-Shard-Hop`) of a request that one sidecar sends on to another. Who signed it is for
//! the sidecar to find out.

use super::protocol::Marker;
use super::range::FILE_EPOCH;
use crate::time::{Millis, UnixMillis};

/// How long a marker is recent: clock differences between nodes plus the way.
const GOOD_FOR: Millis = Millis(60_000);
const V1: &str = "v1";
const V2: &str = "v2";

/// A marker as it was written: nobody has looked at its signature yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenMarker<'a> {
    /// What is signed, in order: the first form has no version and no epoch in it.
    signed: [&'a str; 5],
    /// As it is written behind the parts.
    pub signature: &'a str,
    is_second: bool,
}

impl<'a> WrittenMarker<'a> {
    /// Reads `v2.TIME.EPOCH.MAP.SHARD.SIGNATURE`, or `v1.TIME.MAP.SHARD.SIGNATURE` of a sidecar that has no live
    /// maps: while a deployment replaces it, both forms are on their way. Names have no dots (`bad-name`), so the
    /// parts can't be taken for each other.
    pub fn read(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        match *parts.as_slice() {
            [V2, time, epoch, map, shard, signature] => {
                Some(Self { signed: [V2, time, epoch, map, shard], signature, is_second: true })
            }
            [V1, time, map, shard, signature] => {
                Some(Self { signed: [V1, time, "", map, shard], signature, is_second: false })
            }
            _ => None,
        }
    }

    /// The parts that the signature is of.
    pub fn signed(&self) -> Vec<&'a [u8]> {
        let [version, time, epoch, map, shard] = self.signed.map(str::as_bytes);
        if self.is_second { vec![version, time, epoch, map, shard] } else { vec![time, map, shard] }
    }

    /// What it says, once its signature is known to be ours; none where time or epoch are no numbers.
    pub fn said(&self, now: UnixMillis) -> Option<Marker> {
        let [_, time, epoch, map, shard] = self.signed;
        let made = UnixMillis(time.parse().ok()?);
        Some(Marker {
            knows_stale: self.is_second,
            map: map.to_owned(),
            shard: shard.to_owned(),
            epoch: if self.is_second { epoch.parse().ok()? } else { FILE_EPOCH },
            is_recent: (made - now).max(now - made) <= GOOD_FOR,
        })
    }
}

/// Writes a marker of the second form; `sign` is given the parts that are signed.
pub fn written(
    (map, shard): (&str, &str),
    epoch: u64,
    now: UnixMillis,
    sign: impl FnOnce(&[&[u8]]) -> String,
) -> String {
    let (time, epoch) = (now.0.to_string(), epoch.to_string());
    let signature = sign(&[V2, &time, &epoch, map, shard].map(str::as_bytes));
    format!("{V2}.{time}.{epoch}.{map}.{shard}.{signature}")
}
