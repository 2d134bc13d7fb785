//! A range comes to another database while clients write, and goes away again without a trace.

use crate::clients::Writers;
use crate::world::{JOURNAL, MOVED, TABLES, World, numbered};
use serde_json::Value;
use std::time::Duration;
use support::{Database, Postgres, far};

/// The code of an error, or that there was none.
pub async fn refused(database: &Database, statement: &str) -> String {
    let done = database.client().await.batch_execute(statement).await;
    done.err()
        .map_or_else(|| "taken".to_owned(), |error| error.code().expect("a code").code().to_owned())
}

/// One way between databases that are far from each other.
const LATENCY: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_range_is_the_same_in_both_databases_while_clients_write() {
    let world = World::start().await;
    let shape = world.shape(&world.target).await;
    let writers = Writers::begin(&world.source);
    let said = world.run().await;
    assert!(said.contains("both databases have the same rows"), "{said}");
    assert!(writers.end().await > 100);
    let again = world.succeeds(&["verify", "--source", "b"]).await;
    assert!(again.contains("rows compared"), "{again}");
    world.assert_same().await;
    let beside = "SELECT count(*) FROM prices WHERE instrument_id < 100 OR instrument_id >= 200";
    let row = world.target.client().await.query_one(beside, &[]).await.expect("a row");
    assert_eq!(row.get::<_, i64>(0), 0, "rows beside the range came, too");
    let mut with_gate = world.shape(&world.target).await;
    with_gate.retain(|line| !line.contains("zz_spillway"));
    assert_eq!(with_gate, shape, "keys and indexes are back");
    let status = world.succeeds(&["status", "--source", "b"]).await;
    assert!(status.contains("verified") && status.contains("bytes behind"), "{status}");
}

#[tokio::test]
async fn an_aborted_move_leaves_both_databases_as_they_were() {
    let world = World::start().await;
    let shapes = [world.shape(&world.source).await, world.shape(&world.target).await];
    let rows = world.rows(&world.source).await;
    world.run().await;
    world.abort().await;
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
    let journal = ["i move_pkey", "r move", "schema spillway"];
    assert_eq!(world.leftovers(&world.source).await, journal);
    assert_eq!([world.shape(&world.source).await, world.shape(&world.target).await], shapes);
    assert_eq!(world.rows(&world.source).await, rows);
    assert_eq!(world.rows(&world.target).await, Vec::<String>::new());
    assert_eq!(refused(&world.source, "TRUNCATE prices CASCADE").await, "taken");
    let none = world.reshard(&["abort", "--yes", "--source", "b"]).await;
    assert!(none.errors.contains("no-such-move"), "{}", none.errors);
    // Another move of the same range is a new one.
    world.source.sql("INSERT INTO prices (instrument_id, price) SELECT 150, n FROM generate_series(1, 2000) n").await;
    world.run().await;
    world.assert_same().await;
}

#[tokio::test]
async fn only_one_of_the_two_takes_writes_of_the_range_at_any_time() {
    let world = World::start().await;
    world
        .source
        .sql("CREATE ROLE app_role LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO app_role")
        .await;
    world.run().await;
    let insert = |key: i64| {
        format!("INSERT INTO prices (instrument_id, id, price) VALUES ({key}, 900000 + {key}, 1)")
    };
    for (key, at_source, at_target) in [
        (99, "taken", "taken"),
        (100, "taken", "55006"),
        (199, "taken", "55006"),
        (200, "taken", "taken"),
    ] {
        assert_eq!(refused(&world.source, &insert(key)).await, at_source, "{key}");
        assert_eq!(refused(&world.target, &insert(key)).await, at_target, "{key}");
    }
    let old = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM prices; INSERT INTO prices (instrument_id, price) VALUES (150, 1)";
    assert_eq!(refused(&world.target, old).await, "55006");
    for (statement, code) in [
        ("UPDATE prices SET instrument_id = 300 WHERE instrument_id = 150", "55006"),
        ("UPDATE prices SET instrument_id = 150 WHERE instrument_id = 99", "55006"),
        ("TRUNCATE prices CASCADE", "55006"),
        (
            "UPDATE prices SET instrument_id = 151 WHERE instrument_id = 150 AND id % 2 = 0 AND id % 5 <> 0",
            "taken",
        ),
        ("DELETE FROM prices WHERE instrument_id = 99", "taken"),
        (
            "SET ROLE app_role; INSERT INTO prices (instrument_id, id, price) VALUES (150, 800000, 1)",
            "taken",
        ),
    ] {
        assert_eq!(refused(&world.source, statement).await, code, "{statement}");
    }
    for statement in [
        "UPDATE prices SET price = 0 WHERE instrument_id = 150",
        "DELETE FROM prices WHERE instrument_id = 150",
    ] {
        assert_eq!(refused(&world.target, statement).await, "55006", "{statement}");
    }
    world.succeeds(&["verify", "--source", "b"]).await;
    world.source.sql("DROP OWNED BY app_role; DROP ROLE app_role").await;
}

#[tokio::test]
async fn rows_that_differ_are_named_with_both_sides() {
    let world = World::start().await;
    world.run().await;
    world
        .target
        .sql(
            "SET session_replication_role = replica; UPDATE prices SET note = 'changed behind' WHERE instrument_id = 120 AND id % 3 = 0;
             DELETE FROM orders WHERE ctid = (SELECT ctid FROM orders WHERE instrument_id >= 100 ORDER BY number LIMIT 1)",
        )
        .await;
    let ended = world.reshard(&["verify", "--source", "b"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("public.orders: 1 rows differ"), "{}", ended.errors);
    assert!(ended.errors.contains("target: no row"), "{}", ended.errors);
    assert!(ended.errors.contains("changed behind"), "{}", ended.errors);
}

#[tokio::test]
async fn what_is_in_the_way_stops_a_run_by_name_before_anything_is_touched() {
    let world = World::start().await;
    world.target.sql("INSERT INTO prices (instrument_id, id, price) VALUES (150, 1, 1)").await;
    let ended = world.reshard(&[&["run", "--yes"], &MOVED[..]].concat()).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.output.contains("rows-in-range"), "{}", ended.output);
    assert_eq!(world.leftovers(&world.source).await, Vec::<String>::new());
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
    // A row that the move did not bring stays.
    assert_eq!(world.rows(&world.target).await.len(), 1);
    world.target.sql("DELETE FROM prices").await;
    assert!(world.kill_at("gated").await);
    let range = ["--range", "100..150", "--to", "d", "--tables", "prices:instrument_id"];
    let other = [&["run", "--yes", "--map", "market"], &range[..]].concat();
    let other = world.reshard(&other).await;
    assert!(other.errors.contains("move-under-way"), "{}", other.errors);
    world.abort().await;
    world.run().await;
    world.assert_same().await;
}

#[tokio::test]
async fn a_dry_run_prints_the_statements_and_sends_none() {
    let world = World::start().await;
    let said = world.succeeds(&[&["run", "--dry-run"], &MOVED[..]].concat()).await;
    for part in [
        "CREATE SEQUENCE",
        "CREATE OR REPLACE TRIGGER",
        "CREATE PUBLICATION",
        "SNAPSHOT 'export'",
        "FORMAT binary",
        "CREATE SUBSCRIPTION \"spillway_0\"",
        "DROP CONSTRAINT IF EXISTS prices_pkey",
        "ADD CONSTRAINT prices_pkey",
        "CREATE SUBSCRIPTION \"spillway_back_0\"",
        "SET step = 'switched'",
        "spillway shards fence market --driver=reshard:0",
        "SELECT setval('\"spillway\".\"gate_0\"', 2)",
        "setval('public.prices_id_seq'::regclass, greatest(pg_sequence_last_value('public.prices_id_seq'::regclass), 3000) + 1000)",
        "ALTER SUBSCRIPTION \"spillway_back_0\" ENABLE",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(world.leftovers(&world.source).await, Vec::<String>::new());
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_copy_stands_still_when_it_is_asked_to_from_elsewhere_and_goes_on() {
    let world = World::start().await;
    assert!(world.kill_at("gated").await);
    world.succeeds(&["pause", "--source", "b"]).await;
    let run = [&["run", "--yes", "--no-switch", "--take-over"], &MOVED[..]].concat();
    let mut running = world.starts(&run);
    assert!(running.says("reshard resume").await, "it did not stand still");
    world.succeeds(&["resume", "--source", "b"]).await;
    let ended = running.end().await;
    assert!(ended.output.contains("the copy goes on"), "{}", ended.output);
    assert!(ended.output.contains("verified"), "{}{}", ended.output, ended.errors);
    world.assert_same().await;
    let late = world.reshard(&["pause", "--source", "b"]).await;
    assert!(late.errors.contains("wrong-step"), "{}", late.errors);
}

#[tokio::test]
async fn moves_from_two_sources_to_one_target_do_not_share_a_number() {
    let world = World::start().await;
    world.run().await;
    // The target is a source, too: its own journal has had no move yet.
    let other =
        World::of(world.target.clone(), Postgres::shared(0).database().await, &numbered()).await;
    other.target.sql("CREATE TYPE other AS ENUM ('a')").await;
    other.target.sql(TABLES).await;
    let moved = MOVED.map(|part| if part == "100..200" { "300..400" } else { part });
    let accept = ["run", "--yes", "--no-switch", "--accept", "other-gate"];
    other.succeeds(&[&accept[..], &moved[..]].concat()).await;
    let status = other.succeeds(&["status", "--source", "b"]).await;
    assert!(status.contains("move 2: [300,400) of market"), "{status}");
    other.abort().await;
    world.switch().await;
    world.succeeds(&["finish", "--yes", "--source", "b"]).await;
    assert_eq!(world.owner().await, "d");
}

#[tokio::test]
async fn rows_that_clients_change_all_the_time_are_not_taken_for_different_ones() {
    let world = World::start().await;
    // So that a change of the row is on its way at any time.
    let way = Database { port: far(world.source.port, LATENCY).await, ..world.source.clone() };
    let by = format!("b={}", way.url("postgres"));
    let writing = (150..152).map(|key: i64| {
        let database = world.source.clone();
        tokio::spawn(async move {
            let client = database.client().await;
            let sql = "UPDATE prices SET price = price + 1 WHERE instrument_id = $1 AND id % 5 = 0";
            loop {
                client.execute(sql, &[&key]).await.expect("the source takes writes");
                // Some hundred changes a second, with which the target keeps up.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    });
    let writing: Vec<_> = writing.collect();
    let run = ["run", "--yes", "--no-switch", "--replicate-from", &by];
    world.succeeds(&[&run[..], &MOVED].concat()).await;
    for _ in 0..3 {
        world.succeeds(&["verify", "--source", "b"]).await;
    }
    for writer in &writing {
        assert!(!writer.is_finished(), "clients write all the while");
        writer.abort();
    }
    // What really differs is found beside them.
    world.target.sql("SET session_replication_role = replica; UPDATE prices SET note = 'other' WHERE instrument_id = 160").await;
    let ended = world.reshard(&["verify", "--source", "b"]).await;
    assert!(ended.errors.contains("public.prices: 25 rows differ"), "{}", ended.errors);
}

#[tokio::test]
async fn a_table_whose_key_no_index_begins_with_is_compared_in_one_pass() {
    let world = World::start().await;
    let table = "CREATE TABLE events (id bigint, instrument_id bigint, note text, PRIMARY KEY (id, instrument_id))";
    world.source.sql(table).await;
    world.target.sql(table).await;
    let fill =
        "INSERT INTO events SELECT n, n % 300, md5(n::text) FROM generate_series(1, 60000) n";
    world.source.sql(fill).await;
    let moved = MOVED.map(|part| match part.starts_with("prices") {
        true => "events:instrument_id",
        false => part,
    });
    let ended =
        world.succeeds(&[&["run", "--yes", "--no-switch", "--json"], &moved[..]].concat()).await;
    let lines = ended.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let compared = lines.into_iter().find(|line| line["event"] == "compared").expect("it was");
    assert_eq!(compared["rows"], 20_000, "{compared}");
    // A bucket for each of the range's hundred keys, but for those that share one.
    let chunks = compared["chunks"].as_u64().expect("a number");
    assert!((80..=100).contains(&chunks), "{compared}");
    let spoil =
        "SET session_replication_role = replica; UPDATE events SET note = 'other' WHERE id = 4350;
        DELETE FROM events WHERE id = 4351; INSERT INTO events VALUES (1, 150, 'new')";
    world.target.sql(spoil).await;
    let ended = world.reshard(&["verify", "--source", "b"]).await;
    assert!(ended.errors.contains("public.events: 3 rows differ"), "{}", ended.errors);
}

#[tokio::test]
async fn a_move_whose_number_another_one_has_ends_without_touching_that() {
    let world = World::start().await;
    assert!(world.kill_at("gated").await);
    // As when two moves to one target begin at the same moment.
    world.source.sql("UPDATE spillway.move SET step = 'planned'").await;
    world.target.sql("COMMENT ON SEQUENCE spillway.gate_1 IS 'another move'").await;
    let theirs = world.leftovers(&world.target).await;
    let run = [&["run", "--yes", "--take-over"], &MOVED[..]].concat();
    let ended = world.reshard(&run).await;
    assert!(ended.errors.contains("number-taken: "), "{}", ended.errors);
    assert!(ended.errors.contains("another move"), "{}", ended.errors);
    world.abort().await;
    assert_eq!(world.leftovers(&world.target).await, theirs);
    assert_eq!(world.leftovers(&world.source).await, JOURNAL);
}
