//! Keys and indexes of an empty target: made again as they were, by several sessions side by side.

use crate::world::{MOVED, World};

/// Of every kind that can be made again, and of some that are made in another way.
const TRADES: &str = r#"
    CREATE TABLE trades (instrument_id bigint, id bigint, number bigint NOT NULL, code text, note text, "Odd name" int,
        CONSTRAINT "Trades key" PRIMARY KEY (instrument_id, id) INCLUDE (number) WITH (fillfactor = 80),
        UNIQUE (instrument_id, number) DEFERRABLE INITIALLY DEFERRED,
        CONSTRAINT codes UNIQUE NULLS NOT DISTINCT (code, instrument_id),
        EXCLUDE (instrument_id WITH =, number WITH =));
    CREATE INDEX ON trades (lower(note) DESC NULLS LAST) WHERE note IS NOT NULL;
    CREATE INDEX "by odd name" ON trades USING hash ("Odd name");
    CREATE UNIQUE INDEX "by number" ON trades (number, instrument_id);
    ALTER TABLE trades REPLICA IDENTITY USING INDEX "by number";"#;
const FILL: &str = "INSERT INTO trades SELECT n % 300, n, n, n::text, md5(n::text), n % 7 FROM generate_series(1, 9000) n";

/// Every index of the table with all that PostgreSQL knows of it.
async fn indexes(world: &World) -> Vec<String> {
    let sql = "SELECT pg_get_indexdef(indexrelid) || row(indisunique, indisprimary, indisexclusion, indimmediate, indisreplident,
            indnullsnotdistinct, pg_get_constraintdef(c.oid))::text
        FROM pg_index LEFT JOIN pg_constraint c ON conindid = indexrelid WHERE indrelid = 'trades'::regclass ORDER BY 1";
    let rows = world.target.client().await.query(sql, &[]).await.expect("indexes");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn every_kind_of_key_and_index_is_made_again_as_it_was() {
    let world = World::start().await;
    world.source.sql(TRADES).await;
    world.target.sql(TRADES).await;
    world.source.sql(FILL).await;
    let before = indexes(&world).await;
    assert_eq!(before.len(), 7, "{before:?}");
    let moved = MOVED.map(|part| match part.starts_with("prices") {
        true => "trades:instrument_id",
        false => part,
    });
    let run = [&["run", "--yes", "--no-switch"], &moved[..]].concat();
    let said = world.succeeds(&run).await;
    assert!(said.contains("d: makes "), "{said}");
    assert_eq!(indexes(&world).await, before);
    // An index is there, and its key is not: the tool was killed between both.
    let halfway = r#"ALTER TABLE trades DROP CONSTRAINT "Trades key"; DROP INDEX "by number";
        CREATE UNIQUE INDEX "Trades key" ON public.trades USING btree (instrument_id, id) INCLUDE (number) WITH (fillfactor='80')"#;
    world.target.sql(halfway).await;
    world.source.sql("UPDATE spillway.move SET step = 'copied'").await;
    world.succeeds(&run).await;
    assert_eq!(indexes(&world).await, before);
    world.target.sql(halfway).await;
    world.abort().await;
    assert_eq!(indexes(&world).await, before);
}
