//! Versions of a map in the result store: read, replaced under a condition, kept in the log.

use super::super::stop::Stop;
use super::coordinator::{Coordinator, StoredMap};
use crate::shards::keys;
use crate::shards::store::read;
use rules::shard::object::{Changed, MapObject};
use stores::results::{Condition, PutError, StoreError};

/// Entries of the log that are listed in one call.
const LOG_PAGE: usize = 1_000;

fn failed(error: &StoreError) -> Stop {
    Stop::run(format!("the result store did not do it: {error}"))
}

/// A change whose answer was lost, and of which nobody could say what became.
fn unsure(map: &str, why: &dyn std::fmt::Display) -> Stop {
    Stop::run(format!(
        "it is not known whether the map was changed: {why}; look with `spillway shards show {map}` before anything else"
    ))
}

impl Coordinator<'_> {
    /// The map, if the store has one that may be followed.
    ///
    /// # Errors
    /// When the store does not answer, or its object is not to be used.
    pub(super) async fn find(&self, name: &str) -> Result<Option<StoredMap>, Stop> {
        let Some((object, etag)) = self.found(name).await? else { return Ok(None) };
        Ok(Some(StoredMap { object: object?, etag }))
    }

    /// What lies there, or why it may not be followed, with its etag.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn found(
        &self,
        name: &str,
    ) -> Result<Option<(Result<MapObject, Stop>, String)>, Stop> {
        let found =
            read(self.results.as_ref(), &keys::map(name)).await.map_err(|it| failed(&it))?;
        Ok(found.map(|(bytes, etag)| (self.admitted(name, &bytes), etag)))
    }

    /// An object that may be followed.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn admitted(&self, name: &str, bytes: &[u8]) -> Result<MapObject, Stop> {
        let refused =
            |why: rules::shard::object::Unusable| Stop::run(format!("{}: {why}", why.name()));
        let object = MapObject::read(bytes).map_err(refused)?;
        let document = self.document(name)?;
        object.admit(name, document, &self.keys).map_err(refused)?;
        Ok(object)
    }

    /// The map, which must be there.
    ///
    /// # Errors
    /// When it is not, as [`Coordinator::find`].
    pub(super) async fn stored(&self, name: &str) -> Result<StoredMap, Stop> {
        let found = self.find(name).await?;
        found.ok_or_else(|| {
            Stop::run(format!(
                "the store has no shard map {name}: make it with `spillway shards init {name}`, or put a lost one back with `spillway shards restore {name}`"
            ))
        })
    }

    /// Puts the next version of a map into the store, then its copy into the log. A put whose answer was lost is
    /// settled by reading: either the object is what was meant, or somebody else was first.
    ///
    /// # Errors
    /// When somebody else was first, or the store does not answer.
    pub(super) async fn put(
        &self,
        before: Option<&StoredMap>,
        next: MapObject,
    ) -> Result<StoredMap, Stop> {
        let name = next.map.clone();
        if let Some(before) = before.filter(|before| before.object.epoch > 0) {
            // Whoever made it may have ended before its copy was written.
            self.keep_copy(&before.object).await?;
        }
        let object = self.signed(next)?;
        let condition = match before {
            Some(before) => Condition::IfMatch(before.etag.clone()),
            None => Condition::IfAbsent,
        };
        let body = object.json().into_bytes().into();
        let etag = match self.results.put(&keys::map(&name), body, condition).await {
            Ok(etag) => etag,
            Err(why) => {
                let found = self.find(&name).await.map_err(|why| unsure(&name, &why.reason))?;
                let is_ours = |own: &StoredMap| own.object.hash() == object.hash();
                match (found, why) {
                    (Some(own), _) if is_ours(&own) => own.etag,
                    (Some(other), PutError::Precondition) => {
                        let Changed { by, why, .. } = &other.object.changed;
                        return Err(Stop::run(format!(
                            "somebody else was first: {by} made epoch {} ({why}); look again",
                            other.object.epoch
                        )));
                    }
                    (_, PutError::Failed(error)) => return Err(unsure(&name, &error)),
                    (None, PutError::Precondition) => {
                        return Err(Stop::run("the map has vanished meanwhile; look again"));
                    }
                }
            }
        };
        // The map has changed. A copy that is missing is written with the next change.
        if let Err(why) = self.keep_copy(&object).await {
            let facts =
                serde_json::json!({ "map": name, "epoch": object.epoch, "why": why.reason });
            let sentence = format!("{name}: no copy in the log yet: {}", why.reason);
            self.events.say("log-behind", facts, &sentence)?;
        }
        Ok(StoredMap { object, etag })
    }

    async fn keep_copy(&self, object: &MapObject) -> Result<(), Stop> {
        let key = keys::log(&object.map, object.epoch);
        let body = object.json().into_bytes().into();
        match self.results.put(&key, body, Condition::IfAbsent).await {
            Ok(_) | Err(PutError::Precondition) => Ok(()),
            Err(PutError::Failed(error)) => Err(failed(&error)),
        }
    }

    /// Replaces a version in the log by the same one under the first key: what is put back must be good after
    /// the old key is gone, too.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn sign_copy(&self, object: &MapObject) -> Result<(), Stop> {
        let key = keys::log(&object.map, object.epoch);
        let body = self.signed(object.clone())?.json().into_bytes().into();
        match self.results.put(&key, body, Condition::Always).await {
            Ok(_) | Err(PutError::Precondition) => Ok(()),
            Err(PutError::Failed(error)) => Err(failed(&error)),
        }
    }

    /// All versions in the log, oldest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn versions(&self, name: &str) -> Result<Vec<MapObject>, Stop> {
        let (prefix, mut after, mut found) = (keys::logs(name), String::new(), Vec::new());
        loop {
            let page =
                self.results.list(&prefix, &after, LOG_PAGE).await.map_err(|it| failed(&it))?;
            let Some(last) = page.last() else { return Ok(found) };
            after.clone_from(&last.key);
            for entry in &page {
                let read =
                    read(self.results.as_ref(), &entry.key).await.map_err(|it| failed(&it))?;
                // One that a later key of a rotation signed is still a version.
                found.extend(read.and_then(|(bytes, _)| MapObject::read(&bytes).ok()));
            }
        }
    }

    /// Proves that the store obeys conditions: without them two coordinators would both be right.
    ///
    /// # Errors
    /// `store-ignores-conditions`; when the store does not answer.
    pub(super) async fn prove_conditions(&self, name: &str) -> Result<(), Stop> {
        let key = keys::member(name, "init", "probe");
        let put = |condition| self.results.put(&key, "probe".into(), condition);
        let put_failed = |why: PutError| match why {
            PutError::Failed(error) => failed(&error),
            PutError::Precondition => {
                Stop::run("the probe of the store met a condition it did not set")
            }
        };
        put(Condition::Always).await.map_err(put_failed)?;
        let obeyed =
            put(Condition::IfMatch("\"0123456789abcdef0123456789abcdef\"".to_owned())).await;
        let _ = self.results.delete(&key).await;
        match obeyed {
            Err(PutError::Precondition) => Ok(()),
            Ok(_) => Err(Stop::run(
                "store-ignores-conditions: a write with a wrong If-Match was taken; a live map needs a store that refuses it (Amazon S3 does)",
            )),
            Err(why) => Err(put_failed(why)),
        }
    }

    /// Removes what members told of earlier moves.
    pub(super) async fn forget_members(&self, name: &str, but: &str) {
        let prefix = keys::all_members(name);
        let kept = keys::members(name, but);
        let listed = self.results.list(&prefix, "", LOG_PAGE).await.unwrap_or_default();
        for entry in listed.iter().filter(|entry| !entry.key.starts_with(&kept)) {
            if let Err(error) = self.results.delete(&entry.key).await {
                tracing::debug!(key = entry.key, %error, "not removed");
            }
        }
    }
}
