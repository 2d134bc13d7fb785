//! Transactions and statements of clients, and tables that are changed, while a range is given to another database.

use crate::moves::refused;
use crate::world::{MOVED, World};
use bytes::Bytes;
use support::{Database, Postgres, eventually};
use tokio_postgres::Client;

async fn count(database: &Database, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM prices WHERE {condition}");
    database.client().await.query_one(&sql, &[]).await.expect("a row").get(0)
}

/// The code of the error that the statement ends with.
async fn code(client: &Client, statement: &str) -> String {
    let failed = client.batch_execute(statement).await.expect_err("it is refused");
    failed.code().expect("a code").code().to_owned()
}

#[tokio::test]
async fn a_transaction_sees_the_gate_as_it_is_and_not_as_its_snapshot_was() {
    let world = World::start().await;
    world.run().await;
    let mut clients = Vec::new();
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        for statement in [
            "INSERT INTO prices (instrument_id, price) VALUES (150, 1)",
            "UPDATE prices SET price = 1 WHERE instrument_id = 150",
            "DELETE FROM prices WHERE instrument_id = 150",
        ] {
            let client = world.source.client().await;
            let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM prices");
            client.batch_execute(&begin).await.expect("begun");
            clients.push((client, statement));
        }
    }
    world.switch().await;
    for (client, statement) in &clients {
        assert_eq!(code(client, statement).await, "55006", "{statement}");
    }
}

#[tokio::test]
async fn transactions_that_have_written_before_the_gate_closes_are_waited_for() {
    let mut world = World::start().await;
    world.run().await;
    world.hold("fence");
    let run = world.runs(&[]);
    world.is_held().await;
    let mut clients = Vec::new();
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let client = world.source.client().await;
        let first = format!(
            "BEGIN ISOLATION LEVEL {level}; INSERT INTO prices (instrument_id, price, note) VALUES (150, 1, 'straddles');
             SAVEPOINT s; UPDATE prices SET note = 'undone' WHERE note = 'straddles'; ROLLBACK TO s; SAVEPOINT t"
        );
        client.batch_execute(&first).await.expect("the range is open");
        clients.push(client);
    }
    world.let_go();
    let other = world.source.client().await;
    let waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1";
    eventually("the run waits for the transactions", || async {
        other.query_opt(waits, &[]).await.expect("an answer")
    })
    .await;
    for client in &clients {
        // The gate is closed for these transactions, too; a savepoint survives that.
        let late = "INSERT INTO prices (instrument_id, price, note) VALUES (150, 2, 'late')";
        assert_eq!(code(client, late).await, "55006");
        client.batch_execute("ROLLBACK TO t; COMMIT").await.expect("committed");
    }
    let ended = run.end().await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.output, ended.errors);
    assert!(!ended.output.contains("undone"), "{}", ended.output);
    assert_eq!(count(&world.target, "note = 'straddles'").await, 3);
    assert_eq!(count(&world.target, "note IN ('late', 'undone')").await, 0);
    world.succeeds(&["verify", "--source", "b"]).await;
}

#[tokio::test]
async fn a_prepared_transaction_of_the_range_is_named_and_the_owner_stays() {
    // Of its own: others could create no slot meanwhile.
    let (source, target) = (Postgres::start(&[]), Postgres::start_taker(&[]));
    let world = World::between(&source, &target).await;
    world.run().await;
    let gid = format!("it''s {}", world.source.name);
    let prepare = format!(
        "BEGIN; UPDATE prices SET note = 'prepared' WHERE instrument_id = 150; PREPARE TRANSACTION '{gid}'"
    );
    world.source.sql(&prepare).await;
    let mut run = world.starts(&[&["run", "--yes", "--drain", "1"], &MOVED[..]].concat());
    let named = format!(
        "undrained: transactions that wrote in the range did not end in time: the prepared transaction '{gid}'"
    );
    assert!(run.says(&named).await);
    let insert = "INSERT INTO prices (instrument_id, price) VALUES (151, 1)";
    assert_eq!(refused(&world.source, insert).await, "taken");
    world.source.sql(&format!("COMMIT PREPARED '{gid}'")).await;
    let ended = run.end().await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.output, ended.errors);
    assert_eq!(world.owner().await, "d");
    assert!(count(&world.target, "note = 'prepared'").await > 20);
}

/// What clients send beside the simplest statements.
const STATEMENTS: [&str; 4] = [
    "INSERT INTO prices (instrument_id, id, price, note) VALUES (150, 7000000, 1, 'upsert')
     ON CONFLICT (instrument_id, id) DO UPDATE SET price = prices.price + 1, note = excluded.note",
    "MERGE INTO prices p USING (VALUES (150, 7000000), (150, 7000001)) v (k, id) ON p.instrument_id = v.k AND p.id = v.id
     WHEN MATCHED AND p.price > 3 THEN DELETE WHEN MATCHED THEN UPDATE SET price = p.price + 1
     WHEN NOT MATCHED THEN INSERT (instrument_id, id, price, note) VALUES (v.k, v.id, 1, 'merge')",
    "WITH gone AS (DELETE FROM prices WHERE instrument_id = 150 AND id = 7000001 RETURNING *)
     INSERT INTO prices (instrument_id, price, note) SELECT instrument_id, price, note FROM gone",
    "UPDATE prices SET instrument_id = 151 WHERE instrument_id = 150 AND id = 7000000",
];

/// Copies two rows as a client does; whether the database took them.
async fn copied(database: &Database) -> bool {
    let client = database.client().await;
    let copy = "COPY prices (instrument_id, price, note) FROM STDIN";
    let sink = client.copy_in(copy).await.expect("begun");
    let mut sink = std::pin::pin!(sink);
    let rows = Bytes::from_static(b"150\t1\tcopied\n199\tNaN\tcopied\n");
    futures_util::SinkExt::send(&mut sink, rows).await.expect("sent");
    let done = sink.as_mut().finish().await;
    done.map_err(|why| assert_eq!(why.code().map(|own| own.code()), Some("55006"))).is_ok()
}

/// Executes them where the range is owned; the other side refuses them.
async fn write(owner: &Database, other: &Database) {
    owner.sql("DELETE FROM prices WHERE id >= 7000000 AND instrument_id IN (150, 151)").await;
    for statement in STATEMENTS {
        owner.sql(statement).await;
        owner.sql(statement).await;
    }
    assert!(copied(owner).await);
    assert!(!copied(other).await);
    assert_eq!(refused(other, STATEMENTS[0]).await, "55006");
    assert_eq!(refused(other, STATEMENTS[1]).await, "55006");
}

#[tokio::test]
async fn upserts_merges_and_copies_of_clients_reach_the_other_side_before_and_after_the_switch() {
    let world = World::start().await;
    world.run().await;
    write(&world.source, &world.target).await;
    world.succeeds(&["verify", "--source", "b"]).await;
    world.assert_same().await;
    world.switch().await;
    assert_eq!(count(&world.target, "note = 'copied'").await, 2);
    write(&world.target, &world.source).await;
    world.succeeds(&["verify", "--source", "b"]).await;
    world.assert_same().await;
    world.succeeds(&["rollback", "--yes", "--source", "b"]).await;
    assert_eq!(count(&world.source, "note = 'copied'").await, 4);
}

const ADDS: &str = r#"ALTER TABLE "public"."prices" ADD COLUMN "added" integer DEFAULT 7"#;

#[tokio::test]
async fn a_column_that_the_source_gets_while_the_target_follows_is_told_with_both_statements() {
    let world = World::start().await;
    world.run().await;
    world.source.sql("ALTER TABLE prices ADD COLUMN added int DEFAULT 7").await;
    world.source.sql("INSERT INTO prices (instrument_id, price, added) VALUES (150, 1, 8)").await;
    let mut run = world.starts(&[&["run", "--yes"], &MOVED[..]].concat());
    assert!(run.says("the move waits for a table to be changed").await);
    let drops = r#"or at shard `b`: ALTER TABLE "public"."prices" DROP COLUMN "added""#;
    assert!(run.says(&format!("run at shard `d`: {ADDS}; {drops}")).await);
    // Nothing is fenced meanwhile.
    world.source.sql("INSERT INTO prices (instrument_id, price, added) VALUES (150, 1, 9)").await;
    assert_eq!(world.owner().await, "b");
    world.target.sql(ADDS).await;
    assert!(run.says("both shards have the same columns again").await);
    let ended = run.end().await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.output, ended.errors);
    assert_eq!(count(&world.target, "added IN (8, 9)").await, 2);
    world.succeeds(&["verify", "--source", "b"]).await;
}

#[tokio::test]
async fn a_column_that_the_source_gets_while_the_switch_is_announced_undoes_the_switch() {
    let mut world = World::start().await;
    world.run().await;
    world.hold("announce");
    let mut run = world.runs(&[]);
    world.is_held().await;
    world.source.sql("ALTER TABLE prices ADD COLUMN added int DEFAULT 7").await;
    world.let_go();
    assert!(run.says("the switch was undone: columns-differ: column added").await);
    let insert = "INSERT INTO prices (instrument_id, price) VALUES (150, 1)";
    assert_eq!(refused(&world.source, insert).await, "taken");
    world.target.sql(ADDS).await;
    let ended = run.end().await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.output, ended.errors);
    assert_eq!(world.owner().await, "d");
}
