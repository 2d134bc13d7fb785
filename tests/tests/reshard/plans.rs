//! Plans: what would move is printed, read by a colleague, and done as it was read.

use crate::world::{MOVED, World};

const TABLES: &str = "prices:instrument_id,orders:instrument_id";

#[tokio::test]
async fn a_plan_of_two_moves_is_done_one_after_the_other() {
    let world = World::start().await;
    let asked = |range: &'static str| {
        ["plan", "--map", "market", "--range", range, "--to", "d", "--tables", TABLES]
    };
    world.source.sql("ANALYZE").await;
    let said = world.succeeds(&asked("100..200")).await;
    assert!(said.contains("[100,200) of market moves from b to d"), "{said}");
    let mut lines = String::new();
    for range in ["100..200", "205..300"] {
        lines += &world.succeeds(&[&asked(range)[..], &["--json"]].concat()).await;
    }
    let rows = serde_json::from_str::<serde_json::Value>(lines.lines().next().expect("a line"));
    // 2,500 prices and 500 orders, by the planner's estimate.
    let rows = rows.expect("JSON")["rows"].as_u64().expect("a number");
    assert!((2_700..3_300).contains(&rows), "{rows}");
    let file = world.file("plan", &lines);
    let more = ["--plan", &file, "--measure", "1", "--accept", "members-unknown"];
    let run = [&["run", "--yes"], &more[..]].concat();
    let said = world.succeeds(&run).await;
    assert!(said.contains("moves of the plan that are left: 1"), "{said}");
    // Until the first is finished, nothing else begins.
    let said = world.succeeds(&run).await;
    assert!(said.contains("goes on with move 1, which is switched"), "{said}");
    world.succeeds(&["finish", "--yes", "--source", "b"]).await;
    // The target has rows of its own by now.
    world.succeeds(&run).await;
    world.succeeds(&["finish", "--yes", "--source", "b"]).await;
    let left = "SELECT count(*) FROM prices WHERE instrument_id BETWEEN 100 AND 199 OR instrument_id >= 205";
    let row = world.source.client().await.query_one(left, &[]).await.expect("a row");
    assert_eq!(row.get::<_, i64>(0), 0);
    let ended = world.reshard(&run).await;
    assert!(ended.errors.contains("plan-is-done: "), "{}", ended.errors);
}

#[tokio::test]
async fn a_plan_that_is_out_of_date_or_unreadable_is_refused() {
    let world = World::start().await;
    let planned = world.succeeds(&[&["plan", "--json"], &MOVED[..]].concat()).await;
    let stale = world.file("stale", &planned.replace(r#""from":"b""#, r#""from":"c""#));
    let broken = world.file("broken", "{}");
    for (file, code, why) in
        [(&stale, 1, "plan-is-stale: "), (&broken, 78, "line 1: missing field")]
    {
        let ended = world.reshard(&["preflight", "--plan", file]).await;
        assert_eq!(ended.code, Some(code), "{}", ended.errors);
        assert!(ended.errors.contains(why), "{}", ended.errors);
    }
    let both = world.reshard(&["plan", "--plan", &stale, "--map", "market"]).await;
    assert_eq!(both.code, Some(64), "{}", both.errors);
}
