//! A range is given to another database, and back, while clients write; killed anywhere, nothing is lost.

use crate::clients::Strays;
use crate::moves::refused;
use crate::world::{JOURNAL, MOVED, World};
use support::{Postgres, eventually};

#[tokio::test]
async fn a_range_changes_its_owner_while_clients_write_and_the_move_is_finished() {
    let world = World::start().await;
    let strays = Strays::begin(&world);
    let said = world.switch().await;
    assert!(said.contains("writes waited for some"), "{said}");
    assert_eq!(world.owner().await, "d");
    let said = world.succeeds(&["status", "--source", "b"]).await;
    let room = r#"the source's sequence of "public"."prices".id has "#;
    let left = said.split(room).nth(1).and_then(|rest| rest.split_whitespace().next());
    let left: u64 = left.and_then(|left| left.parse().ok()).expect(&said);
    // Clients that write beside the range may have taken some since.
    assert!((900..=1_000).contains(&left), "{left}");
    world.succeeds(&["verify", "--source", "b"]).await;
    world.succeeds(&["finish", "--yes", "--source", "b"]).await;
    let kept = strays.end_at(&world.target).await;
    assert!(kept > 100, "{kept} writes");
    assert_eq!(world.rows(&world.source).await, Vec::<String>::new());
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
    assert_eq!(world.leftovers(&world.source).await, JOURNAL);
    let beside = "SELECT count(*) FROM prices WHERE instrument_id < 100 OR instrument_id >= 200";
    let row = world.source.client().await.query_one(beside, &[]).await.expect("a row");
    assert_eq!(row.get::<_, i64>(0), 500, "rows beside the range are untouched");
    // What goes past the map is refused by the database, except for keys that nobody owns.
    for (database, key, taken) in [
        (&world.source, 150, "23514"),
        (&world.source, 99, "taken"),
        (&world.source, 5_000, "taken"),
        (&world.target, 150, "taken"),
        (&world.target, 99, "23514"),
    ] {
        let insert = format!("INSERT INTO prices (instrument_id, price) VALUES ({key}, 1)");
        assert_eq!(refused(database, &insert).await, taken, "{key}");
    }
}

#[tokio::test]
async fn a_range_is_rolled_back_with_what_was_written_since() {
    let world = World::start().await;
    let shape = world.shape(&world.target).await;
    let strays = Strays::begin(&world);
    world.switch().await;
    let aborted = world.reshard(&["abort", "--yes", "--source", "b"]).await;
    assert!(aborted.errors.contains("reshard rollback"), "{}", aborted.errors);
    let fresh = "SELECT count(*) FROM prices WHERE note LIKE 'stray %'";
    let client = world.target.client().await;
    let before: i64 = client.query_one(fresh, &[]).await.expect("a row").get(0);
    eventually("clients write at the new owner", || async {
        let now: i64 = client.query_one(fresh, &[]).await.expect("a row").get(0);
        (now > before + 20).then_some(())
    })
    .await;
    world.succeeds(&["rollback", "--yes", "--source", "b"]).await;
    assert_eq!(world.owner().await, "b");
    strays.end_at(&world.source).await;
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
    assert_eq!(world.leftovers(&world.source).await, JOURNAL);
    assert_eq!(world.shape(&world.target).await, shape);
    assert_eq!(world.rows(&world.target).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_switch_that_is_killed_at_each_step_is_ended_by_the_next_run() {
    let world = World::start().await;
    let strays = Strays::begin(&world);
    for step in ["verified", "prepared", "fencing", "committed", "switched"] {
        assert!(world.kill_at(step).await, "it did not come to {step}");
    }
    world.switch().await;
    world.succeeds(&["finish", "--yes", "--take-over", "--source", "b"]).await;
    strays.end_at(&world.target).await;
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_switch_that_was_killed_while_writes_wait_can_be_undone() {
    let world = World::start().await;
    let strays = Strays::begin(&world);
    assert!(world.kill_at("fencing").await);
    world.succeeds(&["abort", "--yes", "--take-over", "--source", "b"]).await;
    assert_eq!(world.owner().await, "b");
    strays.end_at(&world.source).await;
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
    assert_eq!(world.leftovers(&world.source).await, JOURNAL);
}

#[tokio::test]
async fn a_transaction_of_the_range_that_does_not_end_undoes_the_switch_by_name() {
    // Servers of its own: an open transaction is in the way of every move from its cluster.
    let (source, target) = (Postgres::start(&[]), Postgres::start_taker(&[]));
    let world = World::between(&source, &target).await;
    world.run().await;
    let client = world.source.client().await;
    client
        .batch_execute("BEGIN; UPDATE prices SET price = 5 WHERE instrument_id = 150")
        .await
        .expect("begun");
    let other = world.source.client().await;
    other
        .batch_execute("BEGIN; UPDATE prices SET price = 5 WHERE instrument_id = 99")
        .await
        .expect("begun");
    let run = [&["run", "--yes", "--drain", "1"], &MOVED[..]].concat();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a row").get(0);
    let mut run = world.starts(&run);
    let named = "the switch was undone: undrained: transactions that wrote in the range did not end in time: pid";
    assert!(run.says(&format!("{named} {pid}")).await);
    // Before it tries again.
    run.kill().await;
    assert_eq!(world.owner().await, "b");
    // The owner takes writes again, and the transaction goes on.
    world.source.sql("INSERT INTO prices (instrument_id, price) VALUES (150, 1)").await;
    client
        .batch_execute("UPDATE prices SET price = 6 WHERE instrument_id = 150; COMMIT")
        .await
        .expect("committed");
    // One of another range neither delays the switch nor is touched by it.
    world.switch().await;
    assert_eq!(world.owner().await, "d");
    other
        .batch_execute("UPDATE prices SET price = 6 WHERE instrument_id = 99; COMMIT")
        .await
        .expect("committed");
    let sixes = "SELECT count(*) FROM prices WHERE instrument_id = 150 AND price = 6";
    let row = world.target.client().await.query_one(sixes, &[]).await.expect("a row");
    assert!(row.get::<_, i64>(0) > 10);
}
