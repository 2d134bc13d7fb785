//! What goes wrong in the middle of a move: whatever it is, every acknowledged write lies once where the map
//! says at the end.
//!
//! Each test lets it go wrong before one of the steps; which one depends on the commit that is tested, so that
//! all have their turn. `SPILLWAY_SHARDS_STEPS=all` lets it go wrong before each of them.

use crate::load::{Load, MOVING, check};
use crate::world::{RULES, Step, World, words};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use support::{Fault, eventually};

/// What goes wrong before a step, and is mended once the step was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Trouble {
    /// A sidecar is killed, and a new one takes its place.
    SidecarKilled,
    /// A sidecar reaches neither the store nor any coordinator.
    SidecarCutOff,
    /// A sidecar is started.
    Newcomer,
    /// All sidecars are replaced, one after the other.
    Rollout,
    /// A sidecar ends, and is to start again with the file from before the map was live.
    OldFileStarted,
    /// The file of a sidecar that runs becomes the one from before the map was live.
    OldFileReloaded,
    /// The store refuses connections.
    StoreAway,
    /// The store does what it is told, and its answers are lost.
    AnswersLost,
}

/// A sidecar of the shard that the range comes from.
const VICTIM: usize = 0;
/// Attempts after which a move must have come to its end.
const ATTEMPTS_MAX: usize = 6;

impl Trouble {
    async fn begin(self, world: &mut World) {
        match self {
            Self::SidecarKilled => {
                let own = &mut world.sidecars[VICTIM];
                own.process.take().expect("it runs").kill().await;
                let shard = own.shard;
                world.lead();
                world.add(shard).await;
            }
            Self::SidecarCutOff => world.cut_off(VICTIM),
            Self::Newcomer => world.add("b").await,
            Self::Rollout => {
                for number in 0..world.sidecars.len() {
                    let shard = world.sidecars[number].shard;
                    world.add(shard).await;
                    let old = world.sidecars[number].process.take().expect("it runs");
                    world.lead();
                    old.terminate().await;
                    old.ended().await;
                }
            }
            Self::OldFileStarted => {
                let own = &mut world.sidecars[VICTIM];
                let (old, shard) = (own.process.take().expect("it runs"), own.shard);
                world.lead();
                old.terminate().await;
                old.ended().await;
                let (setup, _to_store) = world.setup(shard).await;
                let ended = setup.with_rules(&before_it_was_live()).refused().await;
                assert_eq!(ended.code, Some(78), "{}", ended.errors);
                let said = &ended.errors;
                assert!(said.contains("map-is-live: [shard_map.market]"), "{said}");
            }
            Self::OldFileReloaded => {
                let own = world.sidecar(VICTIM);
                own.change_rules(&before_it_was_live());
                own.until_said("shard map market: a reload does not change it").await;
            }
            Self::StoreAway => world.cloud.s3().set(Fault::Refuse),
            Self::AnswersLost => world.cloud.s3().set(Fault::LoseAnswer),
        }
    }

    fn mend(self, world: &mut World) {
        match self {
            Self::SidecarCutOff => world.reconnect(VICTIM),
            Self::StoreAway | Self::AnswersLost => world.cloud.s3().clear(),
            _ => {}
        }
    }
}

/// The file that somebody rolls back to.
fn before_it_was_live() -> String {
    let old = RULES.replace("live     = true", "");
    assert_ne!(old, RULES, "the map is live by that line");
    old
}

/// A number that is the same for a test and a commit.
fn draw(trouble: Trouble) -> u64 {
    let head = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output();
    let mut hasher = DefaultHasher::new();
    (head.map(|output| output.stdout).unwrap_or_default(), trouble).hash(&mut hasher);
    hasher.finish()
}

/// The steps before which it goes wrong this time.
fn steps(trouble: Trouble) -> Vec<Step> {
    if std::env::var("SPILLWAY_SHARDS_STEPS").is_ok_and(|steps| steps == "all") {
        return Step::ALL.to_vec();
    }
    let place = usize::try_from(draw(trouble) % Step::ALL.len() as u64).expect("a small number");
    vec![Step::ALL[place]]
}

/// One attempt to move the range, with trouble before a step; whether it came to its end.
async fn attempt(
    world: &mut World,
    (source, target): (&str, &str),
    trouble: &mut Option<(Step, Trouble)>,
) -> bool {
    for step in Step::ALL {
        let now = trouble.take_if(|(at, _)| *at == step).map(|(_, trouble)| trouble);
        let command = step.command(MOVING, target);
        if let Some(trouble) = now {
            trouble.begin(world).await;
        }
        world.before(step, MOVING, source, target);
        let mut ended = world.try_shards(&words(&command)).await;
        if let Some(trouble) = now {
            trouble.mend(world);
            // What it was kept from it takes up again.
            if ended.code != Some(0) {
                ended = world.try_shards(&words(&command)).await;
            }
        }
        eprintln!("{step:?}: {:?} {}{}", ended.code, ended.output, ended.errors);
        let is_done = ended.code == Some(0)
            || (step == Step::Commit && world.owner(MOVING.0).await == target);
        if !is_done {
            give_up(world, step, (source, target)).await;
            return false;
        }
    }
    true
}

/// Leaves the range with its source: data and gates first, then the map.
async fn give_up(world: &World, step: Step, (source, target): (&str, &str)) {
    assert_ne!(step, Step::Commit, "there is no way back here");
    if step == Step::NoReturn {
        world.owners.copy(target, source, MOVING);
        world.owners.open(source, MOVING);
    }
    // Most have been aborted by the step that failed.
    world.try_shards(&["abort", "market"]).await;
}

async fn survived(trouble: Trouble) {
    for step in steps(trouble) {
        eprintln!("{trouble:?} before {step:?}");
        let mut world = World::start().await;
        let load = Load::begin(&world, "load");
        let mut coming = Some((step, trouble));
        let mut attempts = 0;
        while !attempt(&mut world, ("a", "b"), &mut coming).await {
            attempts += 1;
            assert!(attempts < ATTEMPTS_MAX, "the move comes to no end");
        }
        let seen = load.end().await;
        assert!(seen.kept.len() > 100, "{} writes", seen.kept.len());
        check(&world, &seen).await;
        // Whoever runs follows in the end, and serves the range.
        for sidecar in world.running() {
            let (client, write) = (sidecar.client(), format!("after-{}", sidecar.id()));
            eventually("the new owner takes writes", || async {
                let answer = client.post("/entries?id=2500", write.clone()).await;
                (answer.status == 200).then_some(())
            })
            .await;
        }
        if matches!(trouble, Trouble::Newcomer | Trouble::OldFileReloaded) {
            assert_eq!(seen.failed, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_sidecar_is_killed() {
    survived(Trouble::SidecarKilled).await;
}

#[tokio::test]
async fn a_sidecar_is_cut_off_from_store_and_coordinator() {
    survived(Trouble::SidecarCutOff).await;
}

#[tokio::test]
async fn a_sidecar_is_started() {
    survived(Trouble::Newcomer).await;
}

#[tokio::test]
async fn all_sidecars_are_replaced() {
    survived(Trouble::Rollout).await;
}

#[tokio::test]
async fn the_file_from_before_the_map_was_live_is_rolled_back_and_starts_nowhere() {
    survived(Trouble::OldFileStarted).await;
}

#[tokio::test]
async fn the_file_from_before_the_map_was_live_is_rolled_back_under_a_sidecar_that_runs() {
    survived(Trouble::OldFileReloaded).await;
}

/// Events of a coordinator: what it says before it puts a step into the store, and after.
const SAID: [&str; 2] = ["plan", "stored"];

#[tokio::test]
async fn the_coordinator_is_killed_at_every_step_and_another_goes_on_from_elsewhere() {
    let mut world = World::start().await;
    let load = Load::begin(&world, "load");
    let (mut owners, mut killed) = (("a", "b"), BTreeSet::new());
    for event in SAID {
        for step in Step::ALL {
            let command = step.command(MOVING, owners.1);
            world.before(step, MOVING, owners.0, owners.1);
            if world.kill_shards_at(&words(&command), event).await {
                killed.insert((event, step.command(MOVING, "")));
            }
            world.shards(&words(&command)).await;
        }
        assert_eq!(world.owner(MOVING.0).await, owners.1);
        owners = (owners.1, owners.0);
    }
    let seen = load.end().await;
    assert_eq!(seen.failed, Vec::<String>::new());
    check(&world, &seen).await;
    // A step whose members are waited for can't have come to its end before.
    for step in [Step::Announce, Step::Fence] {
        let at = (SAID[0], step.command(MOVING, ""));
        assert!(killed.contains(&at), "{at:?} was not killed: {killed:?}");
    }
}

#[tokio::test]
async fn the_store_is_away() {
    survived(Trouble::StoreAway).await;
}

#[tokio::test]
async fn the_stores_answers_are_lost() {
    survived(Trouble::AnswersLost).await;
}

/// Of Debian's package `faketime`: the system's clock as a program sees it, and nothing else, is set forward.
const CLOCK_SHIM: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

#[tokio::test]
async fn clocks_are_an_hour_apart() {
    let shim = support::system(CLOCK_SHIM, "SPILLWAY_FAKETIME_LIBRARY");
    assert!(shim.exists(), "{} is not there: apt install faketime", shim.display());
    let mut world = World::new(RULES).await;
    world.shards(&["init", "market"]).await;
    for (shard, clock) in
        [("a", "+0"), ("a", "+1h"), ("b", "-1h"), ("b", "+0"), ("c", "+1h"), ("c", "-1h")]
    {
        world
            .add_with(shard, |setup| {
                setup
                    .env("LD_PRELOAD", &shim.display().to_string())
                    .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                    .env("FAKETIME", clock)
            })
            .await;
    }
    let load = Load::begin(&world, "load");
    world.moves(MOVING, "a", "b").await;
    world.moves(MOVING, "b", "a").await;
    let seen = load.end().await;
    assert_eq!(seen.failed, Vec::<String>::new());
    check(&world, &seen).await;
    let mut old_markers = 0.0;
    for sidecar in world.running() {
        old_markers += sidecar.metric(r#"spillway_shard_stale_total{side="clock"}"#).await;
    }
    assert!(old_markers > 0.0, "no clock was ever wrong: the test shows nothing");
}
