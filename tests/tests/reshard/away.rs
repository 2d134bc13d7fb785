//! A target that is away for good: the move is undone without it.

use crate::world::{JOURNAL, World};
use support::Postgres;

#[tokio::test]
async fn a_move_is_undone_at_the_source_alone_when_the_target_is_away_for_good() {
    let (source, target) = (Postgres::start(&[]), Postgres::start_taker(&[]));
    let world = World::between(&source, &target).await;
    let (shape, rows) = (world.shape(&world.source).await, world.rows(&world.source).await);
    world.run().await;
    target.crash();
    let ended = world.reshard(&["abort", "--yes", "--source", "b"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(ended.errors.contains("shard `d`"), "{}", ended.errors);
    let said = world.succeeds(&["abort", "--yes", "--source", "b", "--without-target"]).await;
    for part in ["if shard `d` comes back", "DROP SUBSCRIPTION", "DROP SCHEMA spillway CASCADE"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(world.leftovers(&world.source).await, JOURNAL);
    assert_eq!(world.shape(&world.source).await, shape);
    assert_eq!(world.rows(&world.source).await, rows);
}
