//! A range moves back and forth under load through six sidecars: no client sees it.

use crate::load::{Load, MOVING, check};
use crate::world::World;
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
