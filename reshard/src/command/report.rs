//! What a command prints while it works: sentences for people, or one JSON object per line.

use super::stop::Stop;
use crate::copy::chunk::CopiedTable;
use crate::copy::worker::CopiedChunk;
use crate::journal::Step;
use crate::limits::PauseReport;
use crate::moved::MovedTable;
use crate::mover::Listener;
use crate::verify::Compared;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two lines of progress where nobody watches a terminal.
const LINE_PAUSE: Duration = Duration::from_secs(5);
/// The same on a terminal, where one line is written over the other.
const TERMINAL_PAUSE: Duration = Duration::from_millis(200);
/// Letters of a progress bar.
const BAR: usize = 24;

/// Prints what happens.
pub struct Report {
    is_json: bool,
    is_terminal: bool,
    copy: RefCell<Option<CopyProgress>>,
}

struct CopyProgress {
    tables: Vec<TableProgress>,
    began: Instant,
    shown: Instant,
}

struct TableProgress {
    name: String,
    pages: i64,
    done: i64,
    rows: u64,
    bytes: u64,
}

impl Report {
    pub fn new(is_json: bool) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self { is_json, is_terminal, copy: RefCell::new(None) }
    }

    /// Prints an event.
    pub fn event(&self, name: &str, facts: Value, sentence: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that has gone must not stop the move.
        let _ = if self.is_json {
            let mut line = json!({ "event": name });
            if let (Some(line), Value::Object(facts)) = (line.as_object_mut(), facts) {
                line.extend(facts);
            }
            writeln!(out, "{line}")
        } else if self.is_terminal {
            writeln!(out, "\r\x1b[K{sentence}")
        } else {
            writeln!(out, "{sentence}")
        };
    }

    /// Asks a person before something is changed.
    ///
    /// # Errors
    /// When the answer is not yes, or nobody is there to ask.
    pub fn confirm(&self, is_agreed: bool) -> Result<(), Stop> {
        if is_agreed {
            return Ok(());
        }
        if self.is_json || !std::io::stdin().is_terminal() {
            return Err(Stop::run("nobody is there to ask: add --yes to do it"));
        }
        let mut out = std::io::stdout().lock();
        write!(out, "Do it? [y/N] ").and_then(|()| out.flush()).map_err(Stop::run)?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map_err(Stop::run)?;
        let is_yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
        if is_yes { Ok(()) } else { Err(Stop::run("nothing was changed")) }
    }

    fn show_copy(&self, progress: &mut CopyProgress) {
        let pause = if self.is_terminal { TERMINAL_PAUSE } else { LINE_PAUSE };
        let is_done = progress.tables.iter().all(|table| table.done >= table.pages);
        if !is_done && progress.shown.elapsed() < pause {
            return;
        }
        progress.shown = Instant::now();
        let seconds = progress.began.elapsed().as_secs_f64().max(0.001);
        let sum = |part: fn(&TableProgress) -> i64| progress.tables.iter().map(part).sum::<i64>();
        let (done, pages) = (sum(|own| own.done), sum(|own| own.pages).max(1));
        let bytes: u64 = progress.tables.iter().map(|own| own.bytes).sum();
        let rows: u64 = progress.tables.iter().map(|own| own.rows).sum();
        let part = (done as f64 / pages as f64).min(1.0);
        let left = if part > 0.0 { seconds / part - seconds } else { 0.0 };
        if self.is_json {
            for own in &progress.tables {
                let facts = json!({
                    "table": own.name, "pages": own.pages, "done": own.done, "rows": own.rows, "bytes": own.bytes,
                });
                self.event("copy", facts, "");
            }
            return;
        }
        let full = ((part * BAR as f64) as usize).min(BAR);
        let sentence = format!(
            "  copy [{}{}] {:3.0} %  {rows} rows  {:.1} MiB  {:.1} MiB/s  {left:.0} s left",
            "#".repeat(full),
            ".".repeat(BAR - full),
            part * 100.0,
            mebibytes(bytes),
            mebibytes(bytes) / seconds,
        );
        if self.is_terminal && !is_done {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "\r\x1b[K{sentence}").and_then(|()| out.flush());
        } else {
            self.event("copy", Value::Null, &sentence);
        }
    }
}

/// For people.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// What a step means to whoever waits for it.
pub fn described(step: Step) -> &'static str {
    match step {
        Step::Planned => "the move is noted in the source's journal",
        Step::Gated => {
            "both gates are there: the target refuses writes of the range, the source takes them"
        }
        Step::Copying => "the copy begins",
        Step::Copied => "all rows of the snapshot are at the target",
        Step::Indexed => "the target's keys and indexes are there",
        Step::Following => "the target follows the source",
        Step::Verified => "both databases have the same rows",
        Step::Prepared => "the way back is made",
        Step::Announced | Step::BackAnnounced => "the members of the map are told",
        Step::Fencing | Step::BackFencing => "writes of the range wait",
        Step::PastReturn | Step::BackPastReturn => "the map can only be committed",
        Step::Committed => "the target owns the range",
        Step::Switched => {
            "the source follows the target: `reshard finish` ends the move, `reshard rollback` gives the range back"
        }
        Step::RolledBack => "the source owns the range again",
        Step::Finishing => "the way back is closed; the source's rows of the range are removed",
        Step::Finished => {
            "the range lies at the target alone: nothing is left of the move but its row in the journal"
        }
        Step::Aborting => "the source is open; the move is being undone",
        Step::Aborted => "the move is undone: nothing is left of it but its row in the journal",
    }
}

impl Listener for Report {
    fn say(&self, sentence: String) {
        self.event("note", json!({ "text": sentence }), &format!("  {sentence}"));
    }

    fn step(&self, step: Step) {
        let facts = json!({ "step": step.name() });
        self.event("step", facts, &format!("{:<10} {}", step.name(), described(step)));
    }

    fn copies(&self, tables: &[CopiedTable]) {
        let tables = tables.iter().map(|own| TableProgress {
            name: own.moved.name.shown(),
            pages: own.pages.max(1),
            done: 0,
            rows: 0,
            bytes: 0,
        });
        let now = Instant::now();
        *self.copy.borrow_mut() =
            Some(CopyProgress { tables: tables.collect(), began: now, shown: now });
    }

    fn copied(&self, copied: CopiedChunk) {
        let mut copy = self.copy.borrow_mut();
        let Some(progress) = copy.as_mut() else { return };
        if let Some(own) = progress.tables.get_mut(copied.chunk.table) {
            own.done += copied.chunk.until.unwrap_or(own.pages) - copied.chunk.from;
            own.rows += copied.rows;
            own.bytes += copied.bytes;
        }
        self.show_copy(progress);
    }

    fn compared(&self, table: &MovedTable, found: &Compared) {
        let name = table.name.shown();
        let facts = json!({
            "table": name, "rows": found.rows, "chunks": found.chunks, "again": found.again,
            "different": found.different_count,
        });
        let again = match found.again {
            0 => String::new(),
            count => format!(", {count} of them more than once, as they differed first"),
        };
        let sentence =
            format!("  {name}: {} rows compared in {} chunks{again}", found.rows, found.chunks);
        self.event("compared", facts, &sentence);
    }

    fn paused(&self, report: &PauseReport) {
        let millis = |part: Duration| u64::try_from(part.as_millis()).unwrap_or(u64::MAX);
        let parts = [
            ("fence", report.fence),
            ("drain", report.drain),
            ("marker", report.marker),
            ("sequences", report.sequences),
            ("no_return", report.no_return),
        ];
        let facts: serde_json::Map<String, Value> =
            parts.iter().map(|(name, part)| ((*name).to_owned(), millis(*part).into())).collect();
        let shown: Vec<String> =
            parts.iter().map(|(name, part)| format!("{name} {} ms", millis(*part))).collect();
        let whole = millis(report.whole());
        let sentence = format!("  writes waited for some {whole} ms: {}", shown.join(", "));
        self.event("pause", json!({ "milliseconds": whole, "parts": facts }), &sentence);
    }
}
