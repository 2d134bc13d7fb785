//! What happened, in order. Numbers only, so that it costs little; shown when a schedule fails.

use crate::jobs::record::Terminal;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

/// No process: the world or a client.
pub(super) const NOBODY: usize = usize::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Event {
    pub at: u64,
    pub process: usize,
    pub what: What,
}

/// Jobs, messages, requests and executions are numbered in the order in which they appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum What {
    Asked {
        request: usize,
        number: u64,
        route: &'static str,
    },
    Answered {
        request: usize,
        code: u16,
        job: Option<usize>,
        took: u64,
    },
    Reset {
        request: usize,
    },
    Left {
        request: usize,
    },
    Looked {
        job: usize,
        code: u16,
        took: u64,
    },
    Trouble {
        call: &'static str,
        arrives: Option<u64>,
        told: Option<u64>,
    },
    Sent {
        message: u64,
        job: usize,
    },
    Received {
        message: u64,
        job: usize,
        receives: u64,
    },
    Twice {
        message: u64,
    },
    Hidden {
        message: u64,
        ms: u64,
    },
    Deleted {
        message: u64,
    },
    Stale {
        message: u64,
    },
    Undead {
        message: u64,
    },
    Buried {
        message: u64,
        job: usize,
    },
    Written {
        kind: &'static str,
        job: usize,
        is_new: bool,
    },
    Met {
        kind: &'static str,
        job: usize,
    },
    Leased {
        job: usize,
        until: u64,
        attempt: u64,
        holder: u64,
    },
    /// An adopted execution is alive.
    Adopted {
        job: usize,
        until: u64,
    },
    Ended {
        job: usize,
        status: u8,
    },
    Removed {
        kind: &'static str,
        job: usize,
    },
    Began {
        execution: usize,
        job: Option<usize>,
        request: usize,
        attempt: u64,
    },
    Done {
        execution: usize,
        code: u16,
    },
    Dropped {
        execution: usize,
    },
    Told {
        job: usize,
        code: u16,
    },
    Started {
        is_producer: bool,
    },
    Crashed,
    Draining {
        grace: u64,
    },
    Jumped {
        ms: i64,
    },
    CutOff {
        ms: u64,
    },
    Outage {
        of: &'static str,
        ms: u64,
    },
    Calm,
}

/// A terminal as a number.
pub(super) fn number(status: Terminal) -> u8 {
    match status {
        Terminal::Succeeded => 0,
        Terminal::Failed => 1,
        Terminal::Cancelled => 2,
        Terminal::Requeued => 3,
    }
}

/// The same schedule has the same hash: its hasher has fixed keys.
pub(super) fn hash(events: &[Event]) -> u64 {
    let mut hasher = DefaultHasher::new();
    events.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn hash_text(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish() % 10_000
}

pub(super) fn text(events: &[Event]) -> String {
    let mut text = String::new();
    for Event { at, process, what } in events {
        let who = if *process == NOBODY { "  ".to_owned() } else { format!("p{process}") };
        let _ = writeln!(text, "{:>9.3} s {who:>3} {what:?}", *at as f64 / 1000.0);
    }
    text
}
