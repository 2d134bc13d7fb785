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
use std::cell::{Cell, RefCell};
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
    /// When the last line of progress was written.
    shown: Cell<Instant>,
}

struct CopyProgress {
    tables: Vec<TableProgress>,
    began: Instant,
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
        let (copy, shown) = (RefCell::new(None), Cell::new(Instant::now()));
        Self { is_json, is_terminal, copy, shown }
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

    /// Whether the last line of progress is long enough ago for another one.
    fn is_due(&self) -> bool {
        let pause = if self.is_terminal { TERMINAL_PAUSE } else { LINE_PAUSE };
        let is_due = self.shown.get().elapsed() >= pause;
        if is_due {
            self.shown.set(Instant::now());
        }
        is_due
    }

    /// Writes a line that the next one overwrites, where somebody watches.
    fn transient(&self, sentence: &str) {
        if !self.is_terminal {
            return self.event("progress", json!({ "text": sentence.trim() }), sentence);
        }
        let mut out = std::io::stdout().lock();
        // A reader that has gone must not stop the move.
        let _ = write!(out, "\r\x1b[K{sentence}").and_then(|()| out.flush());
    }

    /// Shows the table that a chunk has arrived of, and how long all of them will take.
    fn show_copy(&self, progress: &CopyProgress, table: &TableProgress) {
        let is_done = table.done >= table.pages;
        if !is_done && !self.is_due() {
            return;
        }
        if self.is_json {
            let facts = json!({
                "table": table.name, "pages": table.pages, "done": table.done, "rows": table.rows,
                "bytes": table.bytes, "seconds_left": progress.seconds_left().round(),
            });
            return self.event("copy", facts, "");
        }
        let sentence = table.shown(progress);
        if is_done {
            self.event("copy", Value::Null, &sentence);
        } else {
            self.transient(&sentence);
        }
    }
}

impl CopyProgress {
    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64().max(0.001)
    }

    /// Of all tables, at the speed so far.
    fn seconds_left(&self) -> f64 {
        let sum = |part: fn(&TableProgress) -> i64| self.tables.iter().map(part).sum::<i64>();
        let (done, pages) = (sum(|own| own.done), sum(|own| own.pages));
        if done == 0 { 0.0 } else { self.seconds() * (pages - done).max(0) as f64 / done as f64 }
    }
}

impl TableProgress {
    fn shown(&self, progress: &CopyProgress) -> String {
        let part = (self.done as f64 / self.pages.max(1) as f64).min(1.0);
        let full = ((part * BAR as f64) as usize).min(BAR);
        let all: u64 = progress.tables.iter().map(|own| own.bytes).sum();
        format!(
            "  copy {} [{}{}] {:3.0} %  {} rows  {:.1} MiB; all: {:.1} MiB/s, {:.0} s left",
            self.name,
            "#".repeat(full),
            ".".repeat(BAR - full),
            part * 100.0,
            self.rows,
            mebibytes(self.bytes),
            mebibytes(all) / progress.seconds(),
            progress.seconds_left(),
        )
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

    fn progress(&self, sentence: String) {
        if self.is_due() {
            self.transient(&format!("  {sentence}"));
        }
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
        let began = Instant::now();
        *self.copy.borrow_mut() = Some(CopyProgress { tables: tables.collect(), began });
    }

    fn copied(&self, copied: CopiedChunk) {
        let mut copy = self.copy.borrow_mut();
        let Some(progress) = copy.as_mut() else { return };
        if let Some(own) = progress.tables.get_mut(copied.chunk.table) {
            own.done += copied.chunk.until.unwrap_or(own.pages) - copied.chunk.from;
            own.rows += copied.rows;
            own.bytes += copied.bytes;
        }
        if let Some(own) = progress.tables.get(copied.chunk.table) {
            self.show_copy(progress, own);
        }
    }

    fn compared(&self, table: &MovedTable, found: &Compared) {
        let name = table.name.shown();
        let facts = json!({
            "table": name, "rows": found.rows, "chunks": found.chunks, "known": found.known,
            "again": found.again,
            "different": found.different_count,
        });
        let again = match found.again {
            0 => String::new(),
            count => format!(", {count} of them more than once, as they differed first"),
        };
        let known = match found.known {
            0 => String::new(),
            count => format!(", {count} chunks were compared by an earlier run"),
        };
        let (rows, chunks) = (found.rows, found.chunks);
        let sentence = format!("  {name}: {rows} rows compared in {chunks} chunks{again}{known}");
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
