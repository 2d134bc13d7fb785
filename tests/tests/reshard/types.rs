//! Keys and columns of every type, and names as odd as PostgreSQL takes them: what lies in the range moves, what lies
//! beside it stays, and both are unchanged.

use crate::world::{World, rules};
use support::{Database, Postgres};

/// A map whose keys all belong to shard b, a table with one row for each key, and the range that moves.
struct Keyed {
    world: World,
    range: String,
}

fn open_ended(key_type: &str) -> String {
    rules(key_type, "\"min\"", "")
}

impl World {
    async fn with_key(key_type: &str) -> Self {
        let source = Postgres::shared(0).database().await;
        let target = Postgres::shared(1).database().await;
        Self::of(source, target, &open_ended(key_type)).await
    }
}

impl Keyed {
    async fn start(key_type: &str, column: &str, range: &str, how: &str) -> Self {
        let source = Postgres::shared(0).database_with(how).await;
        let target = Postgres::shared(1).database_with(how).await;
        let world = World::of(source, target, &open_ended(key_type)).await;
        let own = Self { world, range: range.to_owned() };
        let table = format!(
            "CREATE TABLE k (k {column} NOT NULL, id int NOT NULL, note text, PRIMARY KEY (k, id))"
        );
        own.world.source.sql(&table).await;
        own.world.target.sql(&table).await;
        own
    }

    async fn runs(&self, more: &[&str]) {
        let range = format!("--range={}", self.range);
        let own = [
            "run",
            "--yes",
            "--measure=1",
            "--accept=members-unknown",
            "--map=market",
            "--to=d",
            "--tables=k:k",
        ];
        self.world.succeeds(&[&own[..], &[&range], more].concat()).await;
    }

    async fn keys(database: &Database) -> Vec<String> {
        let client = database.client().await;
        client.batch_execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'").await.expect("set");
        let sql = "SELECT k::text || ' ' || id || ' ' || coalesce(note, '') FROM k ORDER BY k::text COLLATE \"C\", id";
        let rows = client.query(sql, &[]).await.expect("rows");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Moves the range while each of its keys and its neighbours are written to.
    async fn moves(&self, inside: &[&str], outside: &[&str]) {
        let World { source, target, .. } = &self.world;
        let value = |key: &&str| format!("'{}'", key.replace('\'', "''"));
        let all: Vec<String> = inside.iter().chain(outside).map(value).collect();
        for key in &all {
            source
                .sql(&format!(
                    "INSERT INTO k SELECT {key}, n, 'before' FROM generate_series(1, 3) n"
                ))
                .await;
        }
        self.runs(&["--no-switch"]).await;
        for key in &all {
            source
                .sql(&format!(
                    "INSERT INTO k VALUES ({key}, 4, 'meanwhile'); DELETE FROM k WHERE k = {key} AND id = 1;
                     UPDATE k SET note = 'changed' WHERE k = {key} AND id = 2"
                ))
                .await;
        }
        self.runs(&[]).await;
        self.world.succeeds(&["verify", "--source", "b"]).await;
        for key in inside {
            let insert = format!("INSERT INTO k VALUES ({}, 5, 'after')", value(key));
            target.sql(&insert).await;
            let refused = source.client().await.batch_execute(&insert).await;
            assert!(refused.is_err(), "the old owner takes {key}");
        }
        self.world.succeeds(&["finish", "--yes", "--source", "b"]).await;
        let expected = |keys: &[&str], last: &[&str]| -> Vec<String> {
            let own = ["2 changed", "3 before", "4 meanwhile"];
            let mut found: Vec<String> = keys
                .iter()
                .flat_map(|key| own.iter().chain(last).map(move |rest| format!("{key} {rest}")))
                .collect();
            found.sort();
            found
        };
        let sorted = |mut found: Vec<String>| {
            found.sort();
            found
        };
        assert_eq!(
            sorted(Self::keys(target).await),
            expected(inside, &["5 after"]),
            "at the target"
        );
        assert_eq!(sorted(Self::keys(source).await), expected(outside, &[]), "at the source");
    }
}

#[tokio::test]
async fn uuids_of_the_range_move() {
    let low = "10000000-0000-0000-0000-000000000000";
    let high = "20000000-0000-0000-0000-000000000000";
    let own = Keyed::start("uuid", "uuid", &format!("{low}..{high}"), "").await;
    let inside = [low, "1fffffff-ffff-ffff-ffff-ffffffffffff"];
    let outside =
        ["0fffffff-ffff-ffff-ffff-ffffffffffff", high, "ffffffff-ffff-ffff-ffff-ffffffffffff"];
    own.moves(&inside, &outside).await;
}

#[tokio::test]
async fn times_of_the_range_move_whatever_time_zone_the_database_has() {
    let range = "2024-03-31T01:00:00Z..2024-04-01T00:00:00.000001Z";
    let own = Keyed::start("timestamp", "timestamptz", range, "").await;
    for database in [&own.world.source, &own.world.target] {
        let name = &database.name;
        database.sql(&format!("ALTER DATABASE {name} SET TimeZone = 'Europe/Berlin'; ALTER DATABASE {name} SET DateStyle = 'German'")).await;
    }
    let inside = ["2024-03-31 01:00:00+00", "2024-04-01 00:00:00+00"];
    let outside = [
        "2024-03-31 00:59:59.999999+00",
        "2024-04-01 00:00:00.000001+00",
        "-infinity",
        "infinity",
        "0044-03-15 00:00:00+00 BC",
    ];
    own.moves(&inside, &outside).await;
}

#[tokio::test]
async fn rows_are_compared_where_most_keys_are_no_time_at_all() {
    let own = Keyed::start("timestamp", "timestamptz", "2024-01-01T00:00:00Z..", "").await;
    let rows = "INSERT INTO k SELECT 'infinity', n FROM generate_series(1, 60000) n";
    own.world.source.sql(rows).await;
    own.runs(&[]).await;
    let row = own.world.target.client().await.query_one("SELECT count(*) FROM k", &[]).await;
    assert_eq!(row.expect("a row").get::<_, i64>(0), 60_000);
}

#[tokio::test]
async fn texts_move_by_the_order_of_their_bytes_in_a_database_that_orders_them_otherwise() {
    let german = "TEMPLATE template0 ENCODING UTF8 LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C'";
    let own = Keyed::start("text", "text", "a..n", german).await;
    // In German, Ä and B lie between a and n, and m\u{308} above m.
    let inside = ["a", "aÄ", "m", "mz'\\\"; --", "mü"];
    let outside = ["A", "B", "Ä", "ä", "n", "N", "z", "😀"];
    own.moves(&inside, &outside).await;
}

#[tokio::test]
async fn rows_of_text_keys_are_compared_in_many_parts_and_those_that_differ_are_named() {
    let german = "TEMPLATE template0 ENCODING UTF8 LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C'";
    let own = Keyed::start("text", "text", "a..n", german).await;
    let keys = "(ARRAY['a', 'mü', 'b''\"\\;', 'Ä', 'z', 'c🦀'])[1 + n % 6] || n";
    let rows = format!("INSERT INTO k SELECT {keys}, n, 'x' FROM generate_series(1, 6000) n");
    own.world.source.sql(&rows).await;
    own.runs(&["--no-switch"]).await;
    let verify = ["verify", "--json", "--source", "b"];
    let compared = |said: &str| -> serde_json::Value {
        let line = said.lines().find(|line| line.contains(r#""compared""#));
        serde_json::from_str(line.expect("a table was compared")).expect("JSON")
    };
    let found = compared(&own.world.succeeds(&verify).await);
    assert_eq!(found["rows"], 4_000);
    assert!(found["chunks"].as_u64() > Some(900), "{found}");
    let wrong = "SET session_replication_role = replica; UPDATE k SET note = 'y' WHERE id = 6;
        DELETE FROM k WHERE id = 7; INSERT INTO k VALUES ('mmm', 7000, 'more')";
    own.world.target.sql(wrong).await;
    let ended = own.world.reshard(&verify).await;
    assert_eq!(ended.code, Some(1));
    let found = compared(&ended.output);
    assert_eq!((&found["different"], &found["again"]), (&3.into(), &3.into()), "{found}");
    let said = ended.output + &ended.errors;
    for key in ["a6,6", "mü7,7", "mmm,7000"] {
        assert!(said.contains(key), "{key}: {said}");
    }
}

#[tokio::test]
async fn ranges_at_the_ends_of_the_integers_move() {
    let (low, high) = (i64::MIN.to_string(), i64::MAX.to_string());
    let below = (i64::MIN + 1).to_string();
    let own = Keyed::start("int", "bigint", &format!("..{below}"), "").await;
    own.moves(&[&low], &[&below, "0", &high]).await;
    let own = Keyed::start("int", "bigint", &format!("{high}.."), "").await;
    own.moves(&[&high], &[&low, "0", &(i64::MAX - 1).to_string()]).await;
    // The bound is none that the column could have.
    let own = Keyed::start("int", "smallint", &format!("5..{high}"), "").await;
    own.moves(&["5", "32767"], &["4", "-32768"]).await;
}

/// A table of every type whose rows are not simply bytes, and what happens to it while it moves.
const COLUMNS: &str = r#"
    CREATE TYPE mood AS ENUM ('calm', 'hectic');
    CREATE TYPE place AS (name text, spot point, mood mood);
    CREATE DOMAIN amount AS numeric(12,2) CHECK (VALUE >= 0);
    CREATE TABLE k (k bigint NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, big text, bytes bytea, j json, jb jsonb, x xml,
        p point, b box, moods mood[], places place[], one place, domain amount, n numeric, scaled numeric(20,6), bits bit varying(9),
        words tsvector, path jsonpath, cash money, span int8range, spans int4multirange, net inet, gap interval, texts text[][],
        kept bigint GENERATED ALWAYS AS (k * 3) STORED, plain real, "double" double precision, ch char(5), PRIMARY KEY (k, id));
    ALTER TABLE k ALTER COLUMN big SET STORAGE EXTERNAL;"#;
const COLUMN_ROWS: &str = r#"
    INSERT INTO k (k, big, bytes, j, jb, x, p, b, moods, places, one, domain, n, scaled, bits, words, path, cash, span, spans, net,
                   gap, texts, plain, "double", ch)
    SELECT 90 + n % 120, repeat(md5(n::text), 400), decode(repeat(md5(n::text), 200), 'hex'), '{"b" : 1,  "a":2, "a":3}', '{"b": 1, "a": [null]}',
           '<a b="c">é</a>', '(1,2)', '(1,2),(3,4)', '{hectic,NULL,calm}', ARRAY[ROW('x', '(0,0)', 'calm')::place, NULL],
           ROW('ü"', NULL, 'hectic')::place, 1.5, CASE n % 4 WHEN 0 THEN 'NaN' WHEN 1 THEN 1.0 WHEN 2 THEN 1.00 ELSE 'Infinity' END::numeric,
           1.0, B'1010', 'a fat:3A cat', '$.a[*] ? (@ > 1)', 12.34, '[1,5)', '{[1,3),[5,9)}', '10.0.0.0/8', '1 mon 2 days 03:00',
           '{{a,NULL},{"",c}}', 'NaN', '-0', 'ab'
    FROM generate_series(1, 400) n;
    INSERT INTO k (k) VALUES (100), (199), (99), (200);"#;

#[tokio::test]
async fn columns_of_every_type_move_unchanged() {
    let world = World::with_key("int").await;
    // Types have other numbers at the target.
    world.target.sql("CREATE TYPE other AS ENUM ('a'); CREATE TABLE more (n int)").await;
    for database in [&world.source, &world.target] {
        database.sql(COLUMNS).await;
    }
    world.source.sql(COLUMN_ROWS).await;
    let own = Keyed { world, range: "100..200".to_owned() };
    own.runs(&["--no-switch"]).await;
    // What lies out of line is not sent when an update leaves it.
    own.world
        .source
        .sql(
            "UPDATE k SET n = 2.000 WHERE id % 3 = 0; UPDATE k SET k = k + 1 WHERE k BETWEEN 110 AND 150 AND id % 5 = 0;
             UPDATE k SET big = NULL, one = NULL, moods = '{}' WHERE id % 7 = 0; UPDATE k SET bytes = bytes || '\\x00' WHERE id % 11 = 0",
        )
        .await;
    let rows = "SELECT row_to_json(t)::text FROM k t WHERE k >= 100 AND k < 200 ORDER BY id";
    let read = async |database: &Database| -> Vec<String> {
        let rows = database.client().await.query(rows, &[]).await.expect("rows");
        rows.iter().map(|row| row.get(0)).collect()
    };
    own.world.succeeds(&["verify", "--source", "b"]).await;
    let before = read(&own.world.source).await;
    assert!(before.len() > 200);
    own.runs(&[]).await;
    assert_eq!(read(&own.world.target).await, before);
    // The new owner's updates go back in the same way, and its numbers go on.
    let back = "UPDATE k SET plain = 4 WHERE id % 2 = 0; INSERT INTO k (k, n) VALUES (150, 'NaN')";
    own.world.target.sql(back).await;
    own.world.succeeds(&["verify", "--source", "b"]).await;
    let after = read(&own.world.target).await;
    own.world.succeeds(&["rollback", "--yes", "--source", "b"]).await;
    assert_eq!(read(&own.world.source).await, after);
}

/// A schema, tables with their keys, and a constraint, all of odd names.
const ODD: &str = r#"it's, "quoted"; DROP -- \ 🦀"#;

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[tokio::test]
async fn names_of_every_kind_are_taken_as_they_are() {
    let long = "é".repeat(31) + "x";
    assert_eq!(long.len(), 63, "the longest that PostgreSQL takes");
    let world = World::with_key("int").await;
    let tables = [("Select", "order"), (ODD, "Key,:."), (&*long, &*long)];
    let schema = quoted(ODD);
    let names = tables.map(|(table, key)| (format!("{schema}.{}", quoted(table)), quoted(key)));
    for database in [&world.source, &world.target] {
        database.sql(&format!("CREATE SCHEMA {schema}")).await;
        for (table, key) in &names {
            let create = format!(
                "CREATE TABLE {table} ({key} int, \"ID\" int GENERATED ALWAYS AS IDENTITY, \"user\" text, PRIMARY KEY (\"ID\", {key}));
                 ALTER TABLE {table} ADD CONSTRAINT {} UNIQUE ({key}, \"user\", \"ID\"); CREATE INDEX ON {table} (\"user\")",
                quoted(&format!("{ODD} {}", key.len()))
            );
            database.sql(&create).await;
        }
    }
    for (table, key) in &names {
        let rows = format!(
            "INSERT INTO {table} ({key}, \"user\") SELECT 90 + n, 'u' FROM generate_series(1, 120) n"
        );
        world.source.sql(&rows).await;
    }
    let listed =
        names.iter().map(|(table, key)| format!("{table}:{key}")).collect::<Vec<_>>().join(",");
    let shape = world.shape(&world.target).await;
    let run = ["run", "--yes", "--measure=1", "--accept=members-unknown", "--map=market", "--to=d"];
    world.succeeds(&[&run[..], &["--range=100..200", "--tables", &listed]].concat()).await;
    world.succeeds(&["finish", "--yes", "--no-owner-check", "--source", "b"]).await;
    for (table, _) in &names {
        for (database, count) in [(&world.target, 100), (&world.source, 20)] {
            let sql = format!("SELECT count(*) FROM {table}");
            let row = database.client().await.query_one(&sql, &[]).await.expect("a row");
            assert_eq!(row.get::<_, i64>(0), count, "{table}");
        }
    }
    assert_eq!(world.shape(&world.target).await, shape);
}

#[tokio::test]
async fn ranges_come_to_a_shard_that_has_others_and_go_back() {
    let world = World::start().await;
    world.switch().await;
    world.succeeds(&["finish", "--yes", "--source", "b"]).await;
    let shape = world.shape(&world.source).await;
    // The first shard has rows of other ranges: its indexes stay while rows come back.
    let back =
        ["run", "--yes", "--measure=1", "--accept=members-unknown", "--map=market", "--to=b"];
    let tables = "--tables=prices:instrument_id,orders:instrument_id";
    for range in ["--range=150..200", "--range=100..150"] {
        let said = world.succeeds(&[&back[..], &[range, tables]].concat()).await;
        assert!(!said.contains("makes prices_pkey"), "{said}");
        world.succeeds(&["verify", "--source", "d"]).await;
        world.succeeds(&["finish", "--yes", "--source", "d"]).await;
    }
    let without_checks = |mut shape: Vec<String>| {
        shape.retain(|line| !line.contains("spillway_owns"));
        shape
    };
    assert_eq!(without_checks(world.shape(&world.source).await), without_checks(shape));
    assert_eq!(world.owner().await, "b");
    assert_eq!(world.rows(&world.target).await, Vec::<String>::new());
    let row = world.source.client().await.query_one("SELECT count(*) FROM prices", &[]).await;
    assert_eq!(row.expect("a row").get::<_, i64>(0), 3_000);
    // And the whole way again.
    world.switch().await;
    assert_eq!(world.owner().await, "d");
}
