//! What the rules file and those who follow the map say.

use super::evidence::Evidence;
use super::fault::{Fault, FaultKind};
use crate::map::Member;
use crate::moved::Move;
use std::time::Duration;

/// Of the time that writes are held: left for the commit and for the processes to hear of it.
const COMMIT_SHARE: Duration = Duration::from_secs(1);

pub(super) fn faults(moved: &Move, evidence: &Evidence) -> Vec<Fault> {
    let (map, target) = (&evidence.map, moved.target.as_str());
    let spot = (target, "map");
    let mut found = Vec::new();
    if !map.shards.iter().any(|own| own == target) {
        found.push(Fault::new(
            FaultKind::TargetUndeclared,
            spot,
            format!("the rules file declares no shard `{target}` for the map `{}`", moved.map),
            format!("bind the shard everywhere (--upstream), add `{target}` to [shard_map.{}] shards, then roll the file out", moved.map),
        ));
    }
    let longest = map.hold.saturating_sub(COMMIT_SHARE);
    if evidence.drain > longest {
        found.push(Fault::new(
            FaultKind::DrainOverHold,
            spot,
            format!(
                "--drain is {:?}, and a write that waits is refused after {:?}, of which {COMMIT_SHARE:?} belong to the commit",
                evidence.drain, map.hold
            ),
            format!("--drain {} or less, or a longer [shard_map.{}.hold] time", longest.as_secs(), moved.map),
        ));
    }
    let Some(members) = &map.members else {
        found.push(Fault::new(
            FaultKind::MembersUnknown,
            spot,
            "no sidecar was asked whether it knows the target",
            "--sidecars HOST:PORT of all sidecars and consumers",
        ));
        return found;
    };
    if members.is_empty() {
        found.push(Fault::new(
            FaultKind::MembersUnknown,
            spot,
            "no sidecar answered to the addresses of --sidecars",
            "correct --sidecars: a name must lead to every sidecar and consumer",
        ));
    }
    for Member { pod, hindrance } in members {
        let Some(why) = hindrance else { continue };
        found.push(Fault::new(
            FaultKind::MemberUnfit,
            spot,
            format!("{pod} {why}"),
            format!("`spillway shards members {}` says how far each is; mend it with a rollout, or wait", moved.map),
        ));
    }
    found
}
