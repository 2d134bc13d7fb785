//! Goes on with a move whose server was lost. A range whose writes wait must not need a person for that.

use super::report::Report;
use super::stop::Stop;
use crate::interrupt::Interrupt;
use crate::journal::{Holder, Journal, JournalError, MayEnd};
use crate::server::Session;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// How long a server may be away: a failover or a restart with recovery takes minutes; after that somebody must look.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Between two tries, at first and at most; it doubles.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What is kept between two tries of a command.
pub struct Attempts<'r> {
    pub report: &'r Report,
    pub interrupt: Interrupt,
    take_over: bool,
    /// By which an earlier try held the source's lock. Its server may not have missed it yet.
    former: RefCell<Option<Holder>>,
    /// Since when a server is away.
    lost: Cell<Option<Instant>>,
    has_lost: Cell<bool>,
}

impl<'r> Attempts<'r> {
    /// From here on the process ends on SIGINT and SIGTERM only where a move can be gone on with at once.
    ///
    /// # Errors
    /// When the system does not report signals.
    pub fn new(report: &'r Report, take_over: bool) -> Result<Self, Stop> {
        let interrupt = Interrupt::listen().map_err(Stop::run)?;
        let (former, lost, has_lost) = (RefCell::default(), Cell::default(), Cell::default());
        Ok(Self { report, interrupt, take_over, former, lost, has_lost })
    }

    /// Whether a try before this one has ended because a server was away.
    pub fn has_lost_a_server(&self) -> bool {
        self.has_lost.get()
    }

    /// Takes the source's lock.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub async fn journal<'s>(&self, source: &'s Session) -> Result<Journal<'s>, JournalError> {
        // Kept until there is another: this try may lose its server, too.
        let former = self.former.borrow().clone();
        let may_end = match (former, self.take_over) {
            (Some(former), _) => MayEnd::Former(former),
            (None, true) => MayEnd::Anybody,
            (None, false) => MayEnd::Nobody,
        };
        let journal = Journal::open(source, may_end).await?;
        self.former.replace(Some(journal.holder().await?));
        self.lost.set(None);
        Ok(journal)
    }

    /// Acts, and acts again for as long as a server is away that had been there.
    ///
    /// # Errors
    /// What no waiting helps against; what is still so after [`PATIENCE`].
    pub async fn persist(
        &self,
        mut act: impl AsyncFnMut() -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut pause = PAUSE_MIN;
        loop {
            let Err(stop) = act().await else { return Ok(()) };
            if !stop.may_pass || self.former.borrow().is_none() {
                return Err(stop);
            }
            self.has_lost.set(true);
            if self.lost.get().is_none() {
                pause = PAUSE_MIN;
            }
            let since = self.lost.get().unwrap_or_else(Instant::now);
            self.lost.set(Some(since));
            if since.elapsed() > PATIENCE {
                return Err(stop);
            }
            let (seconds, reason) = (pause.as_secs(), &stop.reason);
            let facts = json!({ "why": reason, "again_after_seconds": seconds });
            self.report.event("lost", facts, &format!("  {reason}; again in {seconds} s"));
            tokio::select! {
                () = self.interrupt.asked() => return Err(Stop::interrupted()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
