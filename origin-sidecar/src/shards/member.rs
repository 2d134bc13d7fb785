//! What this process tells the coordinator of a move through the result store: that it is there, and how far it
//! has followed. A process that no name of the coordinator's leads to is heard so, too.

use super::keys;
use super::live_maps::LiveMaps;
use rules::shard::object::MoveStage;
use std::collections::BTreeMap;
use stores::results::Condition;

/// What was told last of each map: move, epoch, and whether writes were left.
#[derive(Default)]
pub struct Member {
    told: BTreeMap<String, Told>,
}

#[derive(Clone, PartialEq, Eq)]
struct Told {
    move_id: String,
    epoch: u64,
    has_writes: bool,
}

impl Member {
    /// Writes what has changed since the last time; what was told of a move that has ended is removed.
    pub async fn report(&mut self, maps: &LiveMaps, name: &str) {
        let Some(results) = &maps.results else { return };
        let object = maps.object(name);
        let moving = object.as_ref().and_then(|object| object.moving.as_ref());
        let ended = self
            .told
            .get(name)
            .filter(|told| moving.is_none_or(|moving| moving.id != told.move_id));
        if let Some(ended) = ended {
            let key = keys::member(name, &ended.move_id, &maps.pod);
            if let Err(error) = results.delete(&key).await {
                tracing::debug!(key, %error, "not removed; the next move's announce removes it");
            }
            self.told.remove(name);
        }
        let Some(moving) = moving else { return };
        let ack = maps.standing(name);
        let is_fenced = moving.stage == MoveStage::Fenced;
        let writes = ack.in_flight + ack.adopted.len() as u64 + ack.jobs.len() as u64;
        let told = Told {
            move_id: moving.id.clone(),
            epoch: ack.epoch,
            has_writes: is_fenced && writes > 0,
        };
        if self.told.get(name) == Some(&told) {
            return;
        }
        let key = keys::member(name, &moving.id, &maps.pod);
        let body = serde_json::to_vec(&ack).unwrap_or_default();
        match results.put(&key, body.into(), Condition::Always).await {
            Ok(_) => {
                self.told.insert(name.to_owned(), told);
            }
            // The next look tries again.
            Err(error) => tracing::warn!(key, ?error, "could not register as a member of the move"),
        }
    }

    /// Removes what was told: this process ends.
    pub async fn leave(&mut self, maps: &LiveMaps) {
        let Some(results) = &maps.results else { return };
        for (name, told) in std::mem::take(&mut self.told) {
            let _ = results.delete(&keys::member(&name, &told.move_id, &maps.pod)).await;
        }
    }
}
