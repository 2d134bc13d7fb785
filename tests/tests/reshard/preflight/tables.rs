//! Faults of the tables: what they are, their keys, their schemas, and what is tied to them.

use super::pair::{Servers, named, range};
use rules::document::KeyType;

/// What makes a fault appear.
struct Case {
    faults: &'static str,
    source: &'static str,
    target: &'static str,
    tables: &'static [&'static str],
}

/// The tables of most cases.
const BOTH: &[&str] = &["shop.market", "shop.orders:k"];
/// A table of a case's own, which both shards get.
const OWN: &[&str] = &["shop.t:k"];

const fn at_target(faults: &'static str, target: &'static str) -> Case {
    Case { faults, source: "", target, tables: BOTH }
}

const fn on_both(faults: &'static str, sql: &'static str) -> Case {
    Case { faults, source: sql, target: sql, tables: BOTH }
}

const fn own(faults: &'static str, sql: &'static str) -> Case {
    Case { faults, source: sql, target: sql, tables: OWN }
}

const KINDS: [Case; 10] = [
    Case {
        faults: "d: table-missing",
        source: "CREATE TABLE shop.t (k int PRIMARY KEY)",
        target: "",
        tables: OWN,
    },
    own("b: not-a-table, d: not-a-table", "CREATE VIEW shop.t AS SELECT k FROM shop.market"),
    own(
        "b: partitioned-table, d: partitioned-table",
        "CREATE TABLE shop.t (k int PRIMARY KEY) PARTITION BY RANGE (k)",
    ),
    own(
        "b: table-inherits, d: table-inherits",
        "CREATE TABLE shop.t (k int PRIMARY KEY); CREATE TABLE shop.heir () INHERITS (shop.t)",
    ),
    own("b: unlogged-table, d: unlogged-table", "CREATE UNLOGGED TABLE shop.t (k int PRIMARY KEY)"),
    own("b: no-primary-key, d: no-primary-key", "CREATE TABLE shop.t (k int NOT NULL)"),
    own(
        "b: no-primary-key, d: no-primary-key",
        "CREATE TABLE shop.t (k int PRIMARY KEY DEFERRABLE)",
    ),
    own("b: key-missing, d: key-missing", "CREATE TABLE shop.t (id int PRIMARY KEY)"),
    own(
        "b: key-generated, d: key-generated",
        "CREATE TABLE shop.t (n int, k int GENERATED ALWAYS AS (n + 1) STORED, PRIMARY KEY (k))",
    ),
    own(
        "b: key-nullable, d: key-nullable",
        "CREATE TABLE shop.t (k int, id int PRIMARY KEY); ALTER TABLE shop.t REPLICA IDENTITY FULL",
    ),
];

const KEYS: [Case; 6] = [
    own(
        "b: key-domain, d: key-domain",
        "CREATE DOMAIN shop.number AS int; CREATE TABLE shop.t (k shop.number PRIMARY KEY)",
    ),
    own("b: key-type, d: key-type", "CREATE TABLE shop.t (k numeric PRIMARY KEY)"),
    own(
        "b: key-not-in-identity, d: key-not-in-identity",
        "CREATE TABLE shop.t (k int NOT NULL, id int PRIMARY KEY)",
    ),
    own(
        "b: key-not-in-identity, d: key-not-in-identity",
        "CREATE TABLE shop.t (k int PRIMARY KEY); ALTER TABLE shop.t REPLICA IDENTITY NOTHING",
    ),
    own(
        "",
        "CREATE TABLE shop.t (k int NOT NULL, id int PRIMARY KEY); CREATE UNIQUE INDEX own ON shop.t (k, id);
         ALTER TABLE shop.t REPLICA IDENTITY USING INDEX own",
    ),
    Case {
        faults: "b: identity-differs, d: identity-differs, b: index-differs, d: index-differs, d: null-differs",
        source: "CREATE TABLE shop.t (k int NOT NULL, id int, n int, PRIMARY KEY (k, id))",
        target: "CREATE TABLE shop.t (k int NOT NULL, id int, n int, PRIMARY KEY (k, n))",
        tables: OWN,
    },
];

const SCHEMAS: [Case; 14] = [
    at_target("d: column-missing", "ALTER TABLE shop.market DROP title"),
    at_target("b: column-missing", "ALTER TABLE shop.market ADD more int"),
    at_target("d: type-differs", "ALTER TABLE shop.market ALTER price TYPE numeric(12,2)"),
    at_target("d: type-differs", "ALTER TYPE shop.state ADD VALUE 'sent' BEFORE 'done'"),
    at_target("d: null-differs", "ALTER TABLE shop.market ALTER state SET NOT NULL"),
    at_target("d: default-differs", "ALTER TABLE shop.market ALTER state SET DEFAULT 'done'"),
    at_target("d: generated-differs", "ALTER TABLE shop.market ALTER length DROP EXPRESSION"),
    at_target(
        "d: identity-column-differs",
        "ALTER TABLE shop.market ALTER id SET GENERATED ALWAYS",
    ),
    at_target(
        "d: collation-differs",
        "ALTER TABLE shop.market ALTER title TYPE text COLLATE \"POSIX\"",
    ),
    at_target("d: check-differs", "ALTER TABLE shop.market DROP CONSTRAINT market_price_check"),
    at_target("b: check-differs", "ALTER TABLE shop.market ADD CHECK (price < 1000)"),
    at_target("", "ALTER TABLE shop.market ADD CONSTRAINT spillway_owns_market CHECK (k > 0)"),
    at_target("d: index-differs", "DROP INDEX shop.market_note_idx"),
    at_target(
        "d: foreign-key-differs",
        "ALTER TABLE shop.orders DROP CONSTRAINT orders_k_market_id_fkey",
    ),
];

const LINKS: [Case; 10] = [
    on_both(
        "b: foreign-key-leaves-tables",
        "CREATE TABLE shop.land (id int PRIMARY KEY); ALTER TABLE shop.market ADD land int REFERENCES shop.land",
    ),
    Case {
        faults: "b: foreign-key-leaves-tables",
        source: "",
        target: "",
        tables: &["shop.market:k"],
    },
    on_both(
        "b: trigger-fires-on-load, d: trigger-fires-on-load",
        "CREATE FUNCTION shop.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER t BEFORE INSERT ON shop.market FOR EACH ROW EXECUTE FUNCTION shop.f();
         ALTER TABLE shop.market ENABLE ALWAYS TRIGGER t",
    ),
    on_both(
        "b: trigger-after-gate, d: trigger-after-gate",
        "CREATE FUNCTION shop.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER zzz BEFORE INSERT ON shop.market FOR EACH ROW EXECUTE FUNCTION shop.f()",
    ),
    at_target(
        "b: trigger-differs",
        "CREATE FUNCTION shop.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER t BEFORE INSERT ON shop.market FOR EACH ROW EXECUTE FUNCTION shop.f()",
    ),
    at_target("d: other-publication", "CREATE PUBLICATION cdc FOR TABLE shop.orders"),
    at_target("d: other-publication", "CREATE PUBLICATION cdc FOR ALL TABLES"),
    at_target("d: other-publication", "CREATE PUBLICATION cdc FOR TABLES IN SCHEMA shop"),
    at_target("", "CREATE PUBLICATION spillway_3 FOR TABLE shop.orders"),
    at_target(
        "d: other-gate",
        "CREATE FUNCTION shop.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER zz_spillway_4_i BEFORE INSERT ON shop.market FOR EACH ROW EXECUTE FUNCTION shop.f()",
    ),
];

async fn shows(cases: &[Case]) {
    let servers = Servers::start(&[], &[]).await;
    for Case { faults, source, target, tables } in cases {
        let mut pair = servers.pair().await;
        pair.moving(tables);
        pair.sql(source, target).await;
        assert_eq!(pair.found().await, named(faults), "{source} / {target}");
    }
}

#[tokio::test]
async fn a_good_pair_gives_no_fault_and_a_table_that_can_not_move_gives_its_own() {
    let servers = Servers::start(&[], &[]).await;
    assert_eq!(servers.pair().await.faults().await, []);
    drop(servers);
    shows(&KINDS).await;
}

#[tokio::test]
async fn a_key_by_which_no_filter_or_no_row_is_found_gives_its_fault() {
    shows(&KEYS).await;
}

#[tokio::test]
async fn a_difference_of_the_schemas_gives_its_fault() {
    shows(&SCHEMAS).await;
}

#[tokio::test]
async fn what_is_tied_to_a_table_gives_its_fault() {
    shows(&LINKS).await;
    let servers = Servers::start(&[], &[]).await;
    let pair = servers.pair().await;
    let create =
        "CREATE SUBSCRIPTION feed CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)";
    pair.sql("", create).await;
    let add = "SET allow_system_table_mods = on; INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)
        SELECT oid, 'shop.orders'::regclass, 'r' FROM pg_subscription";
    pair.sql("", add).await;
    assert_eq!(pair.found().await, named("d: subscription-writes"));
    let remove = "ALTER SUBSCRIPTION feed SET (slot_name = NONE); DROP SUBSCRIPTION feed";
    pair.sql("", remove).await;
}

#[tokio::test]
async fn a_key_of_text_needs_the_databases_collation() {
    let servers = Servers::start(&[], &[]).await;
    for (kind, faults) in [
        ("text", ""),
        ("varchar(20)", ""),
        ("char(20)", "b: key-type, d: key-type"),
        ("text COLLATE \"POSIX\"", "b: key-collation, d: key-collation"),
    ] {
        let mut pair = servers.pair().await;
        pair.moving(&["shop.t:k"]);
        pair.moved.range = range(KeyType::Text, "a..n");
        let sql = format!("CREATE TABLE shop.t (k {kind} PRIMARY KEY)");
        pair.sql(&sql, &sql).await;
        assert_eq!(pair.found().await, named(faults), "{kind}");
    }
    for (key_type, ends, kind, faults) in [
        (KeyType::Timestamp, "2026-01-01T00:00:00Z..", "timestamptz", ""),
        (KeyType::Timestamp, "2026-01-01T00:00:00Z..", "timestamp", "b: key-type, d: key-type"),
        (KeyType::Uuid, "..", "uuid", ""),
        (KeyType::Uuid, "..", "text", "b: key-type, d: key-type"),
    ] {
        let mut pair = servers.pair().await;
        pair.moving(&["shop.t:k"]);
        pair.moved.range = range(key_type, ends);
        let sql = format!("CREATE TABLE shop.t (k {kind} PRIMARY KEY)");
        pair.sql(&sql, &sql).await;
        assert_eq!(pair.found().await, named(faults), "{kind}");
    }
}

#[tokio::test]
async fn names_with_quotes_capitals_and_keywords_are_names() {
    let servers = Servers::start(&[], &[]).await;
    let mut pair = servers.pair().await;
    let sql = "CREATE SCHEMA \"Odd \"\"; DROP\"; CREATE TABLE \"Odd \"\"; DROP\".\"select\" (\"o'key\" int PRIMARY KEY)";
    pair.sql(sql, sql).await;
    pair.moving(&["\"Odd \"\"; DROP\".\"select\":\"o'key\""]);
    assert_eq!(pair.faults().await, []);
    let named_key = "ALTER TABLE \"Odd \"\"; DROP\".\"select\" REPLICA IDENTITY NOTHING";
    pair.sql(named_key, "").await;
    let faults = pair.faults().await;
    let remedy = &faults.first().expect("a fault").remedy;
    pair.source.sql(remedy).await;
    assert_eq!(pair.faults().await, [], "its remedy is a statement that mends it: {remedy}");
}
