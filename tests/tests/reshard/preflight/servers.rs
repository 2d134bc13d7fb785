//! Faults of the servers: settings, room, state, what is open there, and of the map.

use super::pair::{Pair, Servers, named};
use reshard::map::Member;
use std::time::Duration;
use support::{Database, Postgres, eventually};

#[tokio::test]
async fn a_setting_that_leaves_no_room_is_a_fault() {
    let target = Postgres::start(&[]);
    for (settings, faults) in [
        (&["wal_level = replica"][..], "b: wal-level"),
        (&["max_wal_senders = 1"], "b: no-free-sender"),
        (&["max_wal_senders = 0"], "b: no-free-sender"),
        (&["max_logical_replication_workers = 0"], "b: no-free-worker"),
        (&["default_transaction_read_only = on"], "b: read-only"),
    ] {
        let own = Postgres::start(settings);
        let pair = Pair::simple(own.database().await, target.database().await).await;
        assert_eq!(pair.found().await, named(faults), "{settings:?}");
    }
}

#[tokio::test]
async fn a_server_without_free_slots_has_no_free_origins_either_before_18() {
    let servers = Servers::start(&["max_replication_slots = 0"], &[]).await;
    let pair = servers.simple().await;
    let client = pair.source.client().await;
    let apart =
        "SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'max_active_replication_origins')";
    let are_apart: bool = client.query_one(apart, &[]).await.expect("an answer").get(0);
    let faults = if are_apart { "b: no-free-slot" } else { "b: no-free-slot, b: no-free-origin" };
    assert_eq!(pair.found().await, named(faults));
}

#[tokio::test]
async fn a_truncate_that_the_server_remembers_is_said() {
    let statements = "shared_preload_libraries = 'pg_stat_statements'";
    let servers = Servers::start(&[statements], &[]).await;
    let pair = servers.simple().await;
    let create = "CREATE SCHEMA \"Stat\"; CREATE EXTENSION pg_stat_statements SCHEMA \"Stat\"";
    pair.source.sql(create).await;
    assert_eq!(pair.found().await, named(""));
    pair.source.sql("CREATE TABLE shop.other (); TRUNCATE shop.other").await;
    assert_eq!(pair.found().await, named(""), "another table");
    pair.source.sql("TRUNCATE shop.t").await;
    assert_eq!(pair.found().await, named("b: truncate-seen"));
}

#[tokio::test]
async fn a_limit_of_wal_that_the_move_would_pass_is_a_fault() {
    let servers = Servers::start(&["max_slot_wal_keep_size = '64MB'"], &[]).await;
    let pair = servers.pair().await;
    assert_eq!(pair.found().await, named(""), "nothing is written");
    let writer = pair.source.client().await;
    let writing = tokio::spawn(async move {
        let sql = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000))";
        while writer.batch_execute(sql).await.is_ok() {}
    });
    eventually("the WAL grows", || async {
        pair.found().await.contains("b: slot-wal-limit").then_some(())
    })
    .await;
    writing.abort();
}

#[tokio::test]
async fn a_server_in_recovery_is_a_fault() {
    let mut servers = Servers::start(&[], &[]).await;
    let pair = servers.simple().await;
    pair.source.sql("CHECKPOINT").await;
    servers.source.crash();
    servers.source.put("standby.signal", "");
    servers.source.restart();
    assert_eq!(pair.found().await, named("b: in-recovery"));
}

#[tokio::test]
async fn a_transaction_that_stays_open_anywhere_in_the_cluster_is_named() {
    let servers = Servers::start(&[], &[]).await;
    let (pair, elsewhere) = (servers.pair().await, servers.pair().await);
    let client = elsewhere.source.client().await;
    client.batch_execute("BEGIN; INSERT INTO shop.market (k) VALUES (1)").await.expect("open");
    // The copy of another move ends its transaction with the chunk.
    client.batch_execute("SET application_name = 'reshard move 7'").await.expect("a name");
    assert_eq!(pair.faults().await, []);
    client.batch_execute("SET application_name = 'market'").await.expect("a name");
    let found = pair.faults().await;
    let names: Vec<&str> = found.iter().map(|own| own.kind.name()).collect();
    assert_eq!(names, ["open-transaction"]);
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid");
    let pid = format!("pid {}", pid.get::<_, i32>(0));
    assert!(found[0].what.contains(&pid) && found[0].what.contains(&elsewhere.source.name));
    client.batch_execute("PREPARE TRANSACTION 'left over'").await.expect("prepared");
    let found = pair.faults().await;
    let names: Vec<&str> = found.iter().map(|own| own.kind.name()).collect();
    assert_eq!(names, ["prepared-transaction"]);
    assert!(found[0].what.contains("left over"), "{}", found[0]);
    client.batch_execute("ROLLBACK PREPARED 'left over'").await.expect("rolled back");
    assert_eq!(pair.faults().await, []);
}

#[tokio::test]
async fn databases_that_are_one_or_of_different_encodings_are_faults() {
    let servers = Servers::start(&[], &[]).await;
    let mut pair = servers.pair().await;
    pair.target = Database { port: pair.source.port, name: pair.source.name.clone() };
    // The target is the source, so it has the rows of the range, and the same sequences.
    assert_eq!(pair.found().await, named("d: same-database, d: rows-in-range"));
    let how = "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    let (own, other) = (&servers.source, &servers.target);
    let pair = Pair::simple(own.database().await, other.database_with(how).await).await;
    assert_eq!(pair.found().await, named("d: encoding-differs"));
    let pair = servers.simple().await;
    assert_eq!(pair.found().await, named(""));
    let money = format!("ALTER DATABASE {} SET lc_monetary = 'C.UTF-8'", pair.target.name);
    pair.target.sql(&money).await;
    assert_eq!(pair.found().await, named("d: money-format-differs"));
}

#[tokio::test]
async fn a_map_that_does_not_know_the_target_and_members_that_do_not_follow_are_faults() {
    let servers = Servers::start(&[], &[]).await;
    let mut pair = servers.simple().await;
    pair.map.shards = vec!["b".to_owned()];
    assert_eq!(pair.found().await, named("d: target-undeclared"));
    pair.map.shards.push("d".to_owned());
    pair.drain = Duration::from_secs(5);
    assert_eq!(pair.found().await, named("d: drain-over-hold"));
    pair.drain = Duration::from_secs(4);
    pair.map.members = None;
    assert_eq!(pair.found().await, named("d: members-unknown"));
    let unfit = Member { pod: "app-1".to_owned(), hindrance: Some("is silent".to_owned()) };
    pair.map.members = Some(vec![unfit]);
    assert_eq!(pair.found().await, named("d: member-unfit"));
}
