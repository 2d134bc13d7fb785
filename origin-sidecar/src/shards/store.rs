//! The objects of live maps in the result store, as this process has seen them.

use super::keys;
use super::live_maps::{LiveMaps, NotTaken};
use super::looks::REFRESH_PAUSE;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use rules::shard::object::OBJECT_BYTES_MAX;
use std::time::Duration;
use stores::results::{Results, StoreError};
use tokio::time::Instant;

/// How long a request waits for a refresh.
pub const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a store may show an older map than ours before it is said: a read may be late, not that late.
const BEHIND_AFTER: Duration = Duration::from_secs(60);

/// What the store says of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreAnswer {
    /// It is in force.
    Current,
    /// There is none.
    Missing,
    /// There is one that was not taken.
    Refused,
}

impl LiveMaps {
    /// Asks the store for a map and takes it if it is newer.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn look(&self, name: &str) -> Result<StoreAnswer, StoreError> {
        let Some(results) = &self.results else { return Ok(StoreAnswer::Missing) };
        let _alone = self.store.asking.lock().await;
        let key = keys::map(name);
        let known = self.store.with(name, |look| {
            look.asked = Instant::now();
            look.etag.clone()
        });
        let found = results.head(&key).await?;
        let Some((etag, _)) = found else {
            self.metrics
                .shards
                .lost
                .with_label_values(&[name])
                .set(self.object(name).is_some().into());
            return Ok(StoreAnswer::Missing);
        };
        self.metrics.shards.lost.with_label_values(&[name]).set(0);
        if known.as_ref() == Some(&etag) {
            self.confirm(name);
            return Ok(StoreAnswer::Current);
        }
        let Some((bytes, etag)) = read(results.as_ref(), &key).await? else {
            return Ok(StoreAnswer::Missing);
        };
        match self.offer(&bytes) {
            Ok(_) => {
                self.store.with(name, |look| look.etag = Some(etag));
                self.confirm(name);
                Ok(StoreAnswer::Current)
            }
            Err(NotTaken::Older(_)) => {
                self.note_behind(name);
                Ok(StoreAnswer::Refused)
            }
            Err(_) => Ok(StoreAnswer::Refused),
        }
    }

    fn confirm(&self, name: &str) {
        self.store.with(name, |look| {
            (look.confirmed, look.behind_since) = (Instant::now(), None);
        });
        self.show_age(name);
    }

    /// A store that shows an older map for a minute has lost what was written.
    fn note_behind(&self, name: &str) {
        let since =
            self.store.with(name, |look| *look.behind_since.get_or_insert_with(Instant::now));
        if since.elapsed() >= BEHIND_AFTER {
            let reason = "map-store-behind";
            self.metrics.shards.refused.with_label_values(&[name, reason]).inc();
            tracing::error!(
                map = name,
                reason,
                "the result store shows an older shard map than the one in force: `spillway shards restore`"
            );
        }
    }

    /// How long ago the store confirmed the map, as metrics have it.
    pub fn show_age(&self, name: &str) {
        let age = self.store.with(name, |look| look.confirmed.elapsed().as_secs());
        let age = i64::try_from(age).unwrap_or(i64::MAX);
        self.metrics.shards.age_seconds.with_label_values(&[name]).set(age);
    }

    /// Looks for a map that is newer than `epoch`, unless somebody just has. Returns when one is in force, or
    /// after [`REFRESH_TIMEOUT`].
    pub async fn refresh(&self, name: &str, epoch: u64) {
        let is_newer = || self.object(name).is_some_and(|object| object.epoch > epoch);
        let end = Instant::now() + REFRESH_TIMEOUT;
        let mut changes = self.active.changes();
        while !is_newer() && Instant::now() < end {
            // Who finds that it is time asks for all: the others wait for what it finds, not for their turn.
            let (is_mine, asked) = self.store.with(name, |look| {
                let is_mine = look.asked + REFRESH_PAUSE <= Instant::now();
                if is_mine {
                    look.asked = Instant::now();
                }
                (is_mine, look.asked)
            });
            if is_mine {
                let _ = tokio::time::timeout_at(end, self.look(name)).await;
                continue;
            }
            let next = (asked + REFRESH_PAUSE).min(end);
            let _ = tokio::time::timeout_at(next, changes.changed()).await;
        }
    }
}

/// An object of the store with its etag.
///
/// # Errors
/// When the store does not answer, or breaks off.
pub async fn read(results: &dyn Results, key: &str) -> Result<Option<(Bytes, String)>, StoreError> {
    let Some(object) = results.get(key, None).await? else { return Ok(None) };
    let body = Limited::new(object.body, OBJECT_BYTES_MAX + 1).collect().await;
    let body =
        body.map_err(|error| StoreError { name: "read-failed", detail: error.to_string() })?;
    Ok(Some((body.to_bytes(), object.etag)))
}
