//! One PostgreSQL becomes three: `reshard` beside pipes of `psql` and beside the article's files, in one run.
//!
//! Run by `cargo xtask bench reshard [--short]`, which builds what it needs. Costs in CPU time of the servers, which
//! other load disturbs less than the time by the clock.

mod cpu;
mod gate;
mod lab;
mod moves;
mod pipes;
mod report;
mod writer;

use lab::{Cost, KEYS, Lab, Round};
use moves::Moved;
use report::Report;
use std::io::Write;
use std::time::Duration;
use writer::{Writer, Written};

/// How much is measured.
struct Size {
    rows: i64,
    rounds: usize,
    /// How long writers write while nothing else is done.
    rest: Duration,
}

const FULL: Size = Size { rows: 9_990_000, rounds: 1, rest: Duration::from_secs(20) };
/// About a minute: in CI, where what a move costs whatever its size weighs as much as the rows.
const SHORT: Size = Size { rows: 300_000, rounds: 1, rest: Duration::from_secs(3) };

/// Writers of rows that move and of rows that stay.
struct Writers {
    inside: Writer,
    outside: Writer,
}

/// What clients saw.
#[derive(Default)]
pub(crate) struct Felt {
    pub(crate) inside: Written,
    pub(crate) outside: Written,
}

/// Everything that one round has measured.
pub(crate) struct Measured {
    pub(crate) one_by_one: Cost,
    pub(crate) side_by_side: Cost,
    pub(crate) files: Cost,
    pub(crate) moved: Moved,
    pub(crate) rest: Felt,
    pub(crate) beside_pipes: Felt,
}

impl Writers {
    async fn start(round: &Round, rows: i64) -> Self {
        let source = &round.source;
        Self {
            inside: Writer::start(&[source], KEYS / 3 + 1..KEYS + 1, rows).await,
            outside: Writer::start(&[source], 1..KEYS / 3 + 1, rows).await,
        }
    }

    fn sessions(&self) -> Vec<u32> {
        [self.inside.pids(), self.outside.pids()].concat()
    }

    async fn end(self) -> Felt {
        Felt { inside: self.inside.end().await, outside: self.outside.end().await }
    }
}

/// Says it at once: all together takes minutes.
pub(crate) fn said(what: &str, cost: Cost) -> Cost {
    let Cost { wall, servers, client } = cost;
    eprintln!("==> {what}: {wall:.1?}, servers {servers:.1?}, client {client:.2?}");
    cost
}

async fn measure(lab: &Lab, size: &Size) -> Measured {
    let round = lab.round().await;
    lab.settle().await;
    let writers = Writers::start(&round, size.rows).await;
    tokio::time::sleep(size.rest).await;
    let rest = writers.end().await;
    let one_by_one = said("pipes, one by one", pipes::pipes(lab, &round, false, &[]).await);
    let writers = Writers::start(&round, size.rows).await;
    let side_by_side = pipes::pipes(lab, &round, true, &writers.sessions()).await;
    said("pipes, side by side", side_by_side);
    let beside_pipes = writers.end().await;
    let folder = support::folder();
    let files = said("files", pipes::files(lab, &round, folder.path()).await);
    let moved = moves::both(lab, &round).await;
    said("reshard, until the target follows", moved.brought);
    said("reshard, verification", moved.verified);
    lab.drop(None, round.source).await;
    Measured { one_by_one, side_by_side, files, moved, rest, beside_pipes }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let is_short = std::env::args().any(|argument| argument == "--short");
    let size = if is_short { SHORT } else { FULL };
    eprintln!("==> {} rows", size.rows);
    let lab = Lab::start(size.rows).await;
    let mut rounds = Vec::new();
    for _ in 0..size.rounds {
        rounds.push(measure(&lab, &size).await);
    }
    eprintln!("==> the gate");
    let gate = gate::cost(&lab).await;
    let report = Report { rows: size.rows, rounds, gate };
    let text = if is_short { report.ratios() } else { report.table() + "\n" + &report.ratios() };
    writeln!(std::io::stdout(), "{text}").expect("the figures are written");
    let failed = report.far_off();
    assert!(failed.is_empty(), "far from what is wanted: {failed:?}");
}
