//! What a gate costs the application, by the row.

use crate::cpu;
use crate::lab::{Lab, RANGES};
use crate::moves::{Map, succeeds};
use std::time::Duration;
use tokio_postgres::Client;

/// Rows of one statement, and how often each kind is measured; the least is taken.
const ROWS: u32 = 100_000;
const ROUNDS: usize = 5;

/// Microseconds of a row: without the gate's triggers and with them.
pub(crate) struct GateCost {
    pub(crate) inside: (f64, f64),
    pub(crate) outside: (f64, f64),
}

/// Measures in a move of an empty table, which is undone.
pub(crate) async fn cost(lab: &Lab) -> GateCost {
    let (map, range) = (Map::init().await, &RANGES[0]);
    let (source, target) = (lab.empty().await, lab.target(0, true).await);
    let mut run = map.run(&source, range, &target);
    run.arg("--no-switch");
    succeeds(run).await;
    let client = source.client().await;
    let mut least = [f64::INFINITY; 4];
    for _ in 0..ROUNDS {
        for (place, (role, first)) in
            [("replica", range.from), ("origin", range.from), ("replica", 1), ("origin", 1)]
                .into_iter()
                .enumerate()
        {
            least[place] = least[place].min(micros(&client, role, first).await);
        }
    }
    drop(client);
    succeeds(map.end("abort", &source, (range.shard, &target))).await;
    lab.drop(None, source).await;
    lab.drop(Some(0), target).await;
    GateCost { inside: (least[0], least[1]), outside: (least[2], least[3]) }
}

/// CPU time of a session that inserts rows, by the row. As `replica` no ordinary trigger is called.
async fn micros(client: &Client, role: &str, first: i64) -> f64 {
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a session");
    let pid = u32::try_from(pid.get::<_, i32>(0)).expect("a number of a process");
    // Empty each time: entries of rows that were undone would stand in the indexes.
    let begin = format!(
        "BEGIN; SET LOCAL session_replication_role = replica; TRUNCATE market_data; \
         SET LOCAL session_replication_role = {role}"
    );
    client.batch_execute(&begin).await.expect("a transaction");
    let before = cpu::of(pid);
    let insert = format!(
        "INSERT INTO market_data SELECT n, {first} + n % 1000, now(), 1.5, 1, 'XNAS' FROM generate_series(1, {ROWS}) n"
    );
    client.batch_execute(&insert).await.expect("rows");
    let spent: Duration = cpu::of(pid) - before;
    client.batch_execute("ROLLBACK").await.expect("undone");
    spent.as_secs_f64() * 1e6 / f64::from(ROWS)
}
