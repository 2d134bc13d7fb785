//! Faults of the rows: what the target has already, and what could not be told apart there.

use super::pair::{Servers, named};

/// Statements for both shards, for the source, for the target, and the faults that they make.
struct Case {
    faults: &'static str,
    both: &'static str,
    source: &'static str,
    target: &'static str,
    tables: &'static [&'static str],
}

const CASES: [Case; 10] = [
    Case {
        faults: "d: rows-in-range",
        both: "CREATE TABLE shop.t (k int PRIMARY KEY)",
        source: "",
        target: "INSERT INTO shop.t VALUES (150)",
        tables: &["shop.t:k"],
    },
    Case {
        faults: "d: unique-without-key",
        both: "CREATE TABLE shop.t (k int PRIMARY KEY, name text UNIQUE)",
        source: "",
        target: "INSERT INTO shop.t VALUES (1, 'x')",
        tables: &["shop.t:k"],
    },
    Case {
        faults: "",
        both: "CREATE TABLE shop.t (k int PRIMARY KEY, name text UNIQUE)",
        source: "INSERT INTO shop.t VALUES (150, 'x')",
        target: "",
        tables: &["shop.t:k"],
    },
    Case {
        faults: "",
        both: "CREATE TABLE shop.t (k int PRIMARY KEY, name text, UNIQUE (k, name))",
        source: "",
        target: "INSERT INTO shop.t VALUES (1, 'x')",
        tables: &["shop.t:k"],
    },
    Case {
        faults: "d: key-collides",
        both: "CREATE TABLE shop.t (k int NOT NULL, a int, b text, PRIMARY KEY (a, b));
               ALTER TABLE shop.t REPLICA IDENTITY FULL",
        source: "INSERT INTO shop.t VALUES (150, 1, 'x'), (151, 2, 'y')",
        target: "INSERT INTO shop.t VALUES (1, 2, 'y')",
        tables: &["shop.t:k"],
    },
    Case {
        faults: "",
        both: "CREATE TABLE shop.t (k int NOT NULL, a int, b text, PRIMARY KEY (a, b));
               ALTER TABLE shop.t REPLICA IDENTITY FULL",
        source: "INSERT INTO shop.t VALUES (150, 1, 'x'), (50, 2, 'y')",
        target: "INSERT INTO shop.t VALUES (1, 2, 'y')",
        tables: &["shop.t:k"],
    },
    Case {
        faults: "d: sequence-without-key",
        both: "CREATE TABLE shop.t (k int NOT NULL, id serial PRIMARY KEY); ALTER TABLE shop.t REPLICA IDENTITY FULL",
        source: "",
        target: "",
        tables: &["shop.t:k"],
    },
    Case {
        faults: "d: sequence-too-short",
        both: "CREATE TABLE shop.t (k int, id bigint GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (k, id))",
        source: "SELECT setval('shop.t_id_seq', 1000)",
        target: "ALTER SEQUENCE shop.t_id_seq MAXVALUE 999",
        tables: &["shop.t:k"],
    },
    Case {
        faults: "d: sequence-missing, d: default-differs",
        both: "CREATE TABLE shop.t (k int, id serial, PRIMARY KEY (k, id))",
        source: "",
        target: "ALTER TABLE shop.t ALTER id DROP DEFAULT",
        tables: &["shop.t:k"],
    },
    Case {
        faults: "b: foreign-key-leaves-range",
        both: "CREATE TABLE shop.p (k int, id int UNIQUE, PRIMARY KEY (k, id));
               CREATE TABLE shop.t (k int PRIMARY KEY, p int REFERENCES shop.p (id))",
        source: "INSERT INTO shop.p VALUES (50, 1), (150, 2); INSERT INTO shop.t VALUES (151, 1), (152, 2)",
        target: "",
        tables: &["shop.t", "shop.p:k"],
    },
];

#[tokio::test]
async fn rows_that_could_not_be_told_apart_give_their_fault() {
    let servers = Servers::start(&[], &[]).await;
    for Case { faults, both, source, target, tables } in &CASES {
        let mut pair = servers.pair().await;
        pair.moving(tables);
        pair.sql(both, both).await;
        pair.sql(source, target).await;
        assert_eq!(pair.found().await, named(faults), "{both} / {source} / {target}");
    }
}

#[tokio::test]
async fn a_fault_of_rows_says_which() {
    let servers = Servers::start(&[], &[]).await;
    let mut pair = servers.pair().await;
    let Case { both, source, target, tables, .. } = &CASES[4];
    pair.moving(tables);
    pair.sql(both, both).await;
    pair.sql(source, target).await;
    let faults = pair.faults().await;
    assert!(faults[0].what.contains("2, y"), "{}", faults[0]);
}

#[tokio::test]
async fn a_preflight_changes_nothing() {
    let servers = Servers::start(&[], &[]).await;
    let pair = servers.pair().await;
    let client = pair.source.client().await;
    let state = "SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc),
        (SELECT count(*) FROM pg_subscription), (SELECT count(*) FROM pg_replication_slots),
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let ask = || async {
        let row = client.query_one(state, &[]).await.expect("an answer");
        ([0, 1, 2, 3].map(|place| row.get::<_, i64>(place)), row.get::<_, i64>(4))
    };
    let (before, transactions) = ask().await;
    pair.faults().await;
    let (after, transactions_after) = ask().await;
    assert_eq!(after, before, "no table, no function, no subscription, no slot");
    // The subscription that is taken back, and the block in which its errors are caught.
    assert_eq!(transactions_after - transactions, 2, "no other transaction that wrote");
}
