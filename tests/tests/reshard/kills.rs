//! A tool that is killed, at each of its steps and anywhere: whoever goes on ends the move, and nothing is lost.

use crate::clients::Writers;
use crate::world::World;
use std::time::Duration;

const STEPS: [&str; 6] = ["gated", "copying", "copied", "indexed", "following", "verified"];

#[tokio::test]
async fn a_run_that_is_killed_after_each_step_is_gone_on_with() {
    let world = World::start().await;
    let shape = world.shape(&world.target).await;
    let writers = Writers::begin(&world.source);
    for step in STEPS {
        assert!(world.kill_at(step).await, "it did not come to {step}");
    }
    world.run().await;
    assert!(writers.end().await > 100);
    world.succeeds(&["verify", "--source", "b"]).await;
    world.assert_same().await;
    let mut with_gate = world.shape(&world.target).await;
    with_gate.retain(|line| !line.contains("zz_spillway"));
    assert_eq!(with_gate, shape);
}

#[tokio::test]
async fn a_run_that_is_killed_at_any_time_is_gone_on_with() {
    let world = World::start().await;
    let writers = Writers::begin(&world.source);
    let (mut kills, mut wait) = (0, 5);
    while !world.kill_after(Duration::from_millis(wait), &["--no-switch"]).await {
        kills += 1;
        wait += 61;
    }
    eprintln!("{kills} kills");
    assert!(kills >= 10, "{kills} kills");
    assert!(writers.end().await > 100);
    world.succeeds(&["verify", "--source", "b"]).await;
    world.assert_same().await;
}

#[tokio::test]
async fn a_move_can_be_undone_wherever_its_run_was_killed() {
    let world = World::start().await;
    let shape = world.shape(&world.target).await;
    for step in STEPS {
        assert!(world.kill_at(step).await, "it did not come to {step}");
        world.succeeds(&["abort", "--yes", "--take-over", "--source", "b"]).await;
        assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new(), "{step}");
        assert_eq!(world.shape(&world.target).await, shape, "{step}");
        assert_eq!(world.rows(&world.target).await, Vec::<String>::new(), "{step}");
        assert_eq!(world.leftovers(&world.source).await.len(), 3, "{step}");
    }
}

#[tokio::test]
async fn a_comparison_goes_on_where_a_killed_run_was() {
    let world = World::start().await;
    world.run().await;
    // As a run leaves it that is killed after the first of two tables.
    let killed =
        r#"UPDATE spillway.move SET step = 'following', compared = compared - '"public"."orders"'"#;
    world.source.sql(killed).await;
    let said = world.run().await;
    assert!(said.contains("public.prices: 0 rows compared in 0 chunks, 1 chunks were"), "{said}");
    assert!(said.contains("public.orders: 500 rows compared in 1 chunks\n"), "{said}");
    // A copy that begins again is compared as a whole; so is everything before the end.
    let lost = "UPDATE spillway.move SET step = 'copying', compared = '{}'";
    world.source.sql(lost).await;
    let said = world.switch().await;
    assert!(said.contains("public.prices: 2500 rows compared in 1 chunks\n"), "{said}");
    let said = world.succeeds(&["finish", "--yes", "--source", "b"]).await;
    assert!(said.contains("public.prices: 2500 rows compared in 1 chunks\n"), "{said}");
}
