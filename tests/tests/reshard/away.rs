//! A database that is away for good, or has lost the way back: the move ends without it.

use crate::moves::refused;
use crate::world::{JOURNAL, World};
use support::{Postgres, eventually};

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

#[tokio::test]
async fn a_move_is_finished_although_its_way_back_is_lost() {
    let world = World::start().await;
    world.switch().await;
    // As after a failover of the target: the replica that was promoted has no slot.
    world.source.sql("ALTER SUBSCRIPTION spillway_back_1 DISABLE").await;
    let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE NOT active AND database = current_database()";
    let client = world.target.client().await;
    eventually("the slot is not in use", || async {
        client.query_opt(drop, &[]).await.expect("an answer")
    })
    .await;
    for command in ["finish", "rollback"] {
        let ended = world.reshard(&[command, "--yes", "--source", "b"]).await;
        assert_eq!(ended.code, Some(1), "{}", ended.output);
        assert!(
            ended.errors.contains("slot-lost: the slot of the move is gone"),
            "{}",
            ended.errors
        );
    }
    world.succeeds(&["finish", "--yes", "--source", "b", "--without-comparison"]).await;
    assert_eq!(world.owner().await, "d");
    assert_eq!(world.rows(&world.source).await, Vec::<String>::new());
    assert_eq!(world.leftovers(&world.source).await, JOURNAL);
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_statements_of_the_documentation_end_a_move_whose_source_is_away_for_good() {
    let page = include_str!("../../../docs/resharding.md");
    let block = page.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next());
    let (source, target) = (Postgres::start(&[]), Postgres::start_taker(&[]));
    let world = World::between(&source, &target).await;
    world.switch().await;
    let rows = world.rows(&world.target).await;
    drop(source);
    let client = world.target.client().await;
    for sql in block.expect("statements").replace('7', "1").split_inclusive(';') {
        client.batch_execute(sql).await.expect(sql);
    }
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
    assert_eq!(world.rows(&world.target).await, rows);
    let insert = "INSERT INTO prices (instrument_id, price) VALUES (150, 1)";
    assert_eq!(refused(&world.target, insert).await, "taken");
}
