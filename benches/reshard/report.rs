//! The figures, and whether they are what is wanted.

use crate::Measured;
use crate::gate::GateCost;
use crate::lab::Cost;
use crate::moves::Moved;
use crate::writer::Written;
use std::fmt::Write;
use std::time::Duration;

/// CPU of the tool in seconds a million rows above which the run fails: CI compares programs that are not optimized.
const TOOL_MOST: f64 = if cfg!(debug_assertions) { 8.0 } else { 1.0 };

pub(crate) struct Report {
    pub(crate) rows: i64,
    pub(crate) rounds: Vec<Measured>,
    pub(crate) gate: GateCost,
}

/// A figure, and how much it may be.
struct Goal {
    name: &'static str,
    figure: f64,
    at_most: f64,
    /// Above this the run fails. It holds for the short form, too, in which what a move costs whatever its size weighs
    /// as much as the rows; what hangs on the clock of a busy machine fails nothing.
    fails_above: Option<f64>,
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn millis(latencies: &[Duration], percent: usize) -> f64 {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

/// The move itself; verification and the end are reported apart.
fn whole(moved: &Moved) -> Cost {
    let mut whole = moved.brought;
    whole.sum(moved.switched);
    whole
}

fn cpu_ratio(own: Cost, round: &Measured) -> f64 {
    let better = round.one_by_one.servers.min(round.side_by_side.servers);
    own.servers.as_secs_f64() / better.as_secs_f64()
}

fn wall_ratio(own: Cost, other: Cost) -> f64 {
    own.wall.as_secs_f64() / other.wall.as_secs_f64()
}

impl Report {
    fn of_rounds(&self, figure: impl Fn(&Measured) -> f64) -> f64 {
        median(self.rounds.iter().map(figure).collect())
    }

    /// Of rows that were brought.
    fn tool_per_million(&self, round: &Measured) -> f64 {
        let (moved, millions) = (&round.moved, self.rows as f64 * 2.0 / 3.0 / 1e6);
        let tool = whole(moved).client + moved.verified.client;
        tool.as_secs_f64() / millions
    }

    fn goals(&self) -> Vec<Goal> {
        let goal = |name, at_most, fails_above, figure: &dyn Fn(&Measured) -> f64| Goal {
            name,
            figure: self.of_rounds(figure),
            at_most,
            fails_above,
        };
        let p99 = |own: &[Duration], rest: &[Duration]| millis(own, 99) / millis(rest, 99);
        let longest = |round: &Measured| {
            round.moved.pauses.iter().max().map_or(f64::NAN, |pause| pause.as_secs_f64())
        };
        vec![
            goal("CPU of the servers / better pipes", 1.05, Some(4.0), &|own| {
                cpu_ratio(whole(&own.moved), own)
            }),
            goal("wall / pipes one by one", 1.05, None, &|own| {
                wall_ratio(whole(&own.moved), own.one_by_one)
            }),
            goal("CPU of the tool, s a million rows", 0.25, Some(TOOL_MOST), &|own| {
                self.tool_per_million(own)
            }),
            goal("memory of the tool, MiB", 64.0, Some(64.0), &|own| {
                own.moved.peak_kib as f64 / 1024.0
            }),
            goal("longest pause, s", 1.0, None, &longest),
            goal("p99 of writes inside / without a move", 2.0, None, &|own| {
                p99(&own.moved.inside.latencies, &own.rest.inside.latencies)
            }),
            goal("p99 of writes outside / without a move", 2.0, None, &|own| {
                p99(&own.moved.outside.latencies, &own.rest.outside.latencies)
            }),
        ]
    }

    /// Goals that are missed by far.
    pub(crate) fn far_off(&self) -> Vec<&'static str> {
        let is_far = |goal: &Goal| goal.fails_above.is_some_and(|most| goal.figure > most);
        self.goals().into_iter().filter(is_far).map(|goal| goal.name).collect()
    }

    pub(crate) fn ratios(&self) -> String {
        let rounds = self.rounds.len();
        let mut text = format!(
            "{} rows, medians of {rounds} rounds.\n\n| figure | measured | wanted at most | |\n|---|---|---|---|\n",
            self.rows
        );
        for Goal { name, figure, at_most, .. } in self.goals() {
            let met = if figure <= at_most { "met" } else { "missed" };
            writeln!(text, "| {name} | {figure:.2} | {at_most} | {met} |").expect("a text");
        }
        for (name, figure) in self.others() {
            writeln!(text, "| {name} | {figure:.2} | | |").expect("a text");
        }
        text + &self.gate()
    }

    /// Figures of which nothing is wanted.
    fn others(&self) -> [(&'static str, f64); 7] {
        let p99 = |own: &Written| millis(&own.latencies, 99);
        [
            (
                "CPU until the target follows / better pipes",
                self.of_rounds(|own| cpu_ratio(own.moved.brought, own)),
            ),
            (
                "wall until the target follows / pipes one by one",
                self.of_rounds(|own| wall_ratio(own.moved.brought, own.one_by_one)),
            ),
            (
                "wall / pipes side by side",
                self.of_rounds(|own| wall_ratio(whole(&own.moved), own.side_by_side)),
            ),
            (
                "CPU / the article's files",
                self.of_rounds(|own| {
                    whole(&own.moved).servers.as_secs_f64() / own.files.servers.as_secs_f64()
                }),
            ),
            (
                "wall / the article's files",
                self.of_rounds(|own| wall_ratio(whole(&own.moved), own.files)),
            ),
            (
                "p99 of writes inside / the same beside pipes",
                self.of_rounds(|own| p99(&own.moved.inside) / p99(&own.beside_pipes.inside)),
            ),
            (
                "p99 of writes outside / the same beside pipes",
                self.of_rounds(|own| p99(&own.moved.outside) / p99(&own.beside_pipes.outside)),
            ),
        ]
    }

    fn gate(&self) -> String {
        let GateCost { inside, outside } = &self.gate;
        format!(
            "\nThe gate, µs of CPU a row: inside {:.1} without, {:.1} with: {:+.1}; outside {:.1} without, {:.1} with: {:+.1}.\n",
            inside.0,
            inside.1,
            inside.1 - inside.0,
            outside.0,
            outside.1,
            outside.1 - outside.0
        )
    }

    /// All figures of all rounds.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for own in &self.rounds {
            text +=
                "| | wall, s | CPU of the servers, s | CPU of the client, s |\n|---|---|---|---|\n";
            for (name, cost) in [
                ("pipes, one range after the other", own.one_by_one),
                ("pipes, side by side (beside writers)", own.side_by_side),
                ("files, key and index in place", own.files),
                ("reshard: both moves, beside writers", whole(&own.moved)),
                ("… of it until the target follows", own.moved.brought),
                ("… of it way back, announce, pause, turn", own.moved.switched),
                ("verification", own.moved.verified),
                ("finish: compares again, removes rows", own.moved.finished),
            ] {
                let seconds = [cost.wall, cost.servers, cost.client].map(|own| own.as_secs_f64());
                let [wall, servers, client] = seconds;
                writeln!(text, "| {name} | {wall:.1} | {servers:.1} | {client:.2} |")
                    .expect("a text");
            }
            text += &felt(own);
        }
        text
    }
}

/// What writers saw in one round.
fn felt(own: &Measured) -> String {
    let mut text =
        "\n| writes | number | p50, ms | p99, ms | most, ms |\n|---|---|---|---|---|\n".to_owned();
    for (name, written) in [
        ("inside, nothing moves", &own.rest.inside),
        ("outside, nothing moves", &own.rest.outside),
        ("inside, beside pipes", &own.beside_pipes.inside),
        ("outside, beside pipes", &own.beside_pipes.outside),
        ("inside, during the moves", &own.moved.inside),
        ("outside, during the moves", &own.moved.outside),
    ] {
        let all = &written.latencies;
        let [half, most, last] = [50, 99, 100].map(|percent| millis(all, percent));
        writeln!(text, "| {name} | {} | {half:.2} | {most:.2} | {last:.0} |", all.len())
            .expect("a text");
    }
    let waited = millis(&own.moved.inside.waited, 100);
    let number = own.moved.inside.waited.len();
    let pauses: Vec<u128> = own.moved.pauses.iter().map(Duration::as_millis).collect();
    text + &format!(
        "\nPauses {pauses:?} ms; {number} writes met a closed gate and were taken after {waited:.0} ms at most; \
         preflights {:.1} s together.\n",
        own.moved.preflight.as_secs_f64()
    )
}
