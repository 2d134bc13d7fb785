//! What a person does without a tool: pipes of `psql`, or files.

use crate::lab::{Cost, INDEXES, Lab, MovingRange, RANGES, Round};
use std::path::{Path, PathBuf};
use support::Database;
use tokio::process::Command;

/// Pipes of one range, each of a part of the table's pages: together they read the table once.
const PIPES: i64 = 3;
const COLUMNS: &str = "id, instrument_id, ts, price, volume, venue";

/// Debian's own program: what stands in `PATH` is a script in Perl, which costs more than a short form's pipe.
fn psql() -> PathBuf {
    let majors = std::fs::read_dir("/usr/lib/postgresql").expect("apt install postgresql");
    let all = majors.flatten().map(|major| major.path().join("bin/psql"));
    all.filter(|program| program.is_file()).max().expect("psql")
}

fn call(database: &Database, sql: &str) -> String {
    format!(
        "{} -qX -v ON_ERROR_STOP=1 -d {} -c \"{sql}\"",
        psql().display(),
        database.url("postgres")
    )
}

/// The pipes of a range, and then its key and index.
fn script(source: &Database, target: &Database, range: &MovingRange, pages: i64) -> String {
    let mut lines = String::new();
    for part in 0..PIPES {
        let from = format!("ctid >= '({},0)'::tid", pages * part / PIPES);
        let until = format!(" AND ctid < '({},0)'::tid", pages * (part + 1) / PIPES);
        let until = if part + 1 == PIPES { String::new() } else { until };
        let out = format!(
            "COPY (SELECT {COLUMNS} FROM market_data WHERE {from}{until} AND {}) TO STDOUT (FORMAT binary)",
            range.condition()
        );
        let into = format!("COPY market_data ({COLUMNS}) FROM STDIN (FORMAT binary)");
        lines += &format!("{} | {} &\n", call(source, &out), call(target, &into));
    }
    format!("( {lines}wait\n{} )", call(target, INDEXES))
}

async fn shell(script: &str) {
    let status = Command::new("sh").args(["-c", script]).status().await;
    assert!(status.expect("sh").success(), "{script}");
}

/// Both ranges by pipes, one after the other or side by side; these sessions are not counted.
pub(crate) async fn pipes(lab: &Lab, round: &Round, side_by_side: bool, sessions: &[u32]) -> Cost {
    let targets = [lab.target(0, false).await, lab.target(1, false).await];
    let client = round.source.client().await;
    let sql = "SELECT pg_relation_size('market_data') / current_setting('block_size')::int";
    let pages: i64 = client.query_one(sql, &[]).await.expect("a size").get(0);
    drop(client);
    let own = |number: usize| script(&round.source, &targets[number], &RANGES[number], pages);
    let between = if side_by_side { "&" } else { ";" };
    let both = format!("set -e\n{} {between}\n{}\nwait", own(0), own(1));
    let cost = lab.cost(sessions, shell(&both)).await;
    arrived(lab, targets).await;
    cost
}

/// Both ranges by files, with key and index in place: the article's way.
pub(crate) async fn files(lab: &Lab, round: &Round, folder: &Path) -> Cost {
    let targets = [lab.target(0, true).await, lab.target(1, true).await];
    let mut lines = "set -e\n".to_owned();
    for (range, target) in RANGES.iter().zip(&targets) {
        let file = folder.join(format!("{}.csv", range.shard));
        let out = format!(
            "\\copy (SELECT {COLUMNS} FROM market_data WHERE {}) TO '{}' (FORMAT csv)",
            range.condition(),
            file.display()
        );
        let into = format!("\\copy market_data ({COLUMNS}) FROM '{}' (FORMAT csv)", file.display());
        for (database, sql) in [(&round.source, out), (target, into)] {
            lines += &call(database, &sql.replace('\\', "\\\\"));
            lines.push('\n');
        }
        lines += &format!("rm {}\n", file.display());
    }
    let cost = lab.cost(&[], shell(&lines)).await;
    arrived(lab, targets).await;
    cost
}

/// All rows are there; then the databases go.
async fn arrived(lab: &Lab, targets: [Database; 2]) {
    for (number, target) in targets.into_iter().enumerate() {
        let client = target.client().await;
        let sql = "SELECT count(*) FROM market_data WHERE id <= $1";
        let rows: i64 = client.query_one(sql, &[&lab.rows]).await.expect("a count").get(0);
        assert_eq!(rows, lab.rows / 3, "rows of {}", RANGES[number].shard);
        drop(client);
        lab.drop(Some(number), target).await;
    }
}
