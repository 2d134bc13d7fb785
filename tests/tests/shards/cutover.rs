//! A range moves back and forth under load through six sidecars: no client sees it.

use crate::load::{Load, MOVING, check};
use crate::world::{Step, World};
use std::time::Duration;

#[tokio::test]
async fn a_range_moves_ten_times_and_no_client_sees_it() {
    let world = World::start().await;
    let still = Load::begin(&world, "still");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let still = still.end().await;
    assert_eq!(still.failed, Vec::<String>::new());
    let load = Load::begin(&world, "moved");
    for turn in 0..10 {
        let (source, target) = if turn % 2 == 0 { ("a", "b") } else { ("b", "a") };
        world.moves(MOVING, source, target).await;
    }
    let mut seen = load.end().await;
    assert_eq!(seen.failed, Vec::<String>::new());
    assert_eq!(world.owners.refused(), 0, "a write met a closed gate");
    assert!(seen.kept.len() > 1_000, "{} writes", seen.kept.len());
    eprintln!(
        "{} writes; slowest elsewhere {:?} (without a move {:?}), in the range {:?}",
        seen.kept.len(),
        seen.slowest[0],
        still.slowest[0],
        seen.slowest[1]
    );
    seen.kept.extend(still.kept);
    check(&world, &seen).await;
    let (mut held, mut seconds) = (0.0, 0.0);
    for sidecar in world.running() {
        held += sidecar.metric(r#"spillway_shard_held_seconds_count{map="market"}"#).await;
        seconds += sidecar.metric(r#"spillway_shard_held_seconds_sum{map="market"}"#).await;
    }
    assert!(held > 0.0, "no write was ever held: the test shows nothing");
    eprintln!("{held} writes were held, {:.0} ms each on average", 1000.0 * seconds / held);
}

#[tokio::test]
async fn a_commit_whose_success_was_not_heard_is_said_again_and_an_aborted_move_is_none() {
    let world = World::start().await;
    for step in [Step::Announce, Step::Fence, Step::NoReturn, Step::NoReturn, Step::Commit] {
        world.step(step, MOVING, "a", "b").await;
    }
    let again = world.shards(&["commit", "market"]).await;
    assert!(again.contains("committed already"), "{again}");
    world.shards(&["split", "market", "--at", "9001"]).await;
    let again = world.shards(&["commit", "market"]).await;
    assert!(again.contains("committed already"), "{again}");
    let other = world.try_shards(&["commit", "market", "--driver", "reshard:7"]).await;
    assert!(other.errors.contains("no-such-move"), "{}", other.errors);
    world.step(Step::Announce, MOVING, "b", "a").await;
    world.shards(&["abort", "market"]).await;
    let aborted = world.try_shards(&["commit", "market"]).await;
    assert!(aborted.errors.contains("no-such-move"), "{}", aborted.errors);
}
