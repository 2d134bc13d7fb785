//! The steps of a move, from its plan to two databases that are the same. Each can be done over by whoever goes on.

use crate::catalog::Table;
use crate::copy::chunk::{CopiedTable, chunks};
use crate::copy::indexes;
use crate::copy::pace::Pace;
use crate::copy::worker::{self, CHUNKS, CopiedChunk, Copy};
use crate::gate::{self, GateState};
use crate::journal::{Entry, Journal, Step};
use crate::map::{Spillway, SpillwayError};
use crate::moved::{Channel, Move, MovedTable};
use crate::replication::{marker, publication, subscription};
use crate::server::{Endpoint, ServerError, Session};
use crate::sql::RowSide;
use crate::switch::{Leg, PauseLimits, PauseReport};
use crate::verify::{Compared, Sides, VerifyError};
use futures_util::future::try_join_all;
use std::cell::RefCell;
use std::fmt;

/// Why a move did not go on.
#[derive(Debug, Clone)]
pub enum MoveError {
    Server(ServerError),
    Verify(VerifyError),
    /// A table is on one side only.
    NoTable(MovedTable, String),
    /// The target had rows of the range before the copy: how many tables of it, the first by name.
    RowsAtTarget(MovedTable, String),
    /// Both sides have caught up and still differ.
    Different(Vec<(MovedTable, Compared)>),
    /// The move is at a step from which it does not go on so; what to do instead.
    WrongStep(Step, &'static str),
    /// `spillway shards` did not do it.
    Spillway(SpillwayError),
    /// Transactions that wrote in the range did not end in time: which.
    Undrained(String),
    /// The switch took longer than writes are held: what it waited for.
    PauseTooLong(String),
}

impl MoveError {
    /// Whether another try may succeed.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Undrained(_) | Self::PauseTooLong(_))
    }
}

impl fmt::Display for MoveError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(why) => why.fmt(out),
            Self::Verify(why) => why.fmt(out),
            Self::NoTable(table, shard) => write!(
                out,
                "no-table: shard `{shard}` has no table {}: create it as the other shard has it",
                table.name.shown()
            ),
            Self::RowsAtTarget(table, shard) => write!(
                out,
                "rows-in-range: shard `{shard}` has rows of the range in {} that this move did not bring: \
                 look what they are, remove them, and run again",
                table.name.shown()
            ),
            Self::Different(found) => {
                out.write_str(
                    "different: both databases were compared and do not have the same rows",
                )?;
                for (table, own) in found {
                    write!(out, "\n  {}: {} rows differ", table.name.shown(), own.different_count)?;
                    for row in &own.different {
                        let side = |text: &Option<String>| {
                            text.clone().unwrap_or_else(|| "no row".to_owned())
                        };
                        write!(out, "\n    {}", row.key)?;
                        write!(out, "\n      source: {}", side(&row.at_source))?;
                        write!(out, "\n      target: {}", side(&row.at_target))?;
                    }
                }
                Ok(())
            }
            Self::WrongStep(step, what) => {
                write!(out, "wrong-step: the move is {}: {what}", step.name())
            }
            Self::Spillway(why) => why.fmt(out),
            Self::Undrained(who) => write!(
                out,
                "undrained: transactions that wrote in the range did not end in time: {who}"
            ),
            Self::PauseTooLong(what) => {
                write!(out, "pause-too-long: writes would wait longer than they are held: {what}")
            }
        }
    }
}

impl std::error::Error for MoveError {}

impl From<ServerError> for MoveError {
    fn from(why: ServerError) -> Self {
        Self::Server(why)
    }
}

impl From<SpillwayError> for MoveError {
    fn from(why: SpillwayError) -> Self {
        Self::Spillway(why)
    }
}

impl From<VerifyError> for MoveError {
    fn from(why: VerifyError) -> Self {
        Self::Verify(why)
    }
}

/// How the rows are copied.
#[derive(Debug, Clone, Copy)]
pub struct CopyOptions {
    /// Sessions that copy side by side.
    pub jobs: usize,
    /// Bytes in a second of all of them; none: as fast as it goes.
    pub rate: Option<u64>,
    /// Whether keys and indexes of the target's empty tables are removed for the copy. Nobody may write there: the
    /// target owns no other range.
    pub removes_indexes: bool,
}

/// Who hears of a move's progress.
pub trait Listener {
    /// A sentence for people.
    fn say(&self, sentence: String);
    /// A step is done.
    fn step(&self, step: Step);
    /// The copy begins with so many chunks of each table.
    fn copies(&self, tables: &[CopiedTable]);
    /// A chunk has arrived.
    fn copied(&self, chunk: CopiedChunk);
    /// A table was compared.
    fn compared(&self, table: &MovedTable, found: &Compared);
    /// The switch is done, and took so long.
    fn paused(&self, report: &PauseReport);
}

/// How long a session may take to end, in milliseconds: it may have to undo a chunk.
const END_TIMEOUT_MS: u32 = 30_000;

/// What moves a range.
pub struct Mover<'m> {
    pub journal: &'m Journal<'m>,
    pub source: &'m Session,
    pub target: &'m Session,
    pub source_endpoint: &'m Endpoint,
    pub target_endpoint: &'m Endpoint,
    /// By which the target reaches the source.
    pub connection: String,
    /// By which the source reaches the target.
    pub back_connection: String,
    pub spillway: &'m Spillway,
    pub options: CopyOptions,
    pub limits: PauseLimits,
    pub listener: &'m dyn Listener,
}

impl Mover<'_> {
    /// Goes on from where the move is until both databases have been found the same.
    ///
    /// # Errors
    /// Why it does not go on. It can be run again, or aborted.
    pub async fn bring(&self, entry: &mut Entry) -> Result<(), MoveError> {
        loop {
            let next = match entry.step {
                Step::Planned => {
                    self.create_gates(&entry.moved).await?;
                    Step::Gated
                }
                Step::Gated => {
                    self.begin_copy(entry).await?;
                    Step::Copying
                }
                Step::Copying => {
                    self.copy(entry).await?;
                    Step::Copied
                }
                Step::Copied => {
                    self.restore_indexes(entry).await?;
                    Step::Indexed
                }
                Step::Indexed => {
                    let (channel, connection) = (entry.moved.id.forward(), &self.connection);
                    let slot = publication::slot_name(self.source, channel).await?;
                    subscription::begin(self.target, channel, &slot, connection).await?;
                    self.catch_up(&entry.moved).await?;
                    Step::Following
                }
                Step::Following => {
                    self.verify(&entry.moved).await?;
                    Step::Verified
                }
                Step::Aborting | Step::Aborted => {
                    return Err(MoveError::WrongStep(entry.step, "`reshard abort` ends that"));
                }
                _ => return Ok(()),
            };
            self.journal.to(entry, next).await?;
            self.listener.step(next);
        }
    }

    /// Goes on from two databases that are the same until the target owns the range and the source follows it.
    ///
    /// # Errors
    /// As [`Mover::bring`].
    pub async fn hand_over(&self, entry: &mut Entry) -> Result<(), MoveError> {
        let moved = entry.moved.clone();
        let leg = Leg::there(&moved, self.source, self.target);
        loop {
            match entry.step {
                Step::Verified => {
                    self.prepare_way_back(entry).await?;
                    self.journal.to(entry, Step::Prepared).await?;
                    self.listener.step(Step::Prepared);
                }
                Step::Prepared => self.switch(&leg, entry).await?,
                Step::Announced | Step::Fencing => self.resume_switch(&leg, entry).await?,
                Step::PastReturn => self.complete_again(&leg, entry).await?,
                Step::Committed => {
                    self.turn(entry).await?;
                    self.journal.to(entry, Step::Switched).await?;
                    self.listener.step(Step::Switched);
                }
                Step::Switched => return Ok(()),
                step => {
                    return Err(MoveError::WrongStep(step, "it is not on its way to the target"));
                }
            }
        }
    }

    fn say(&self) -> impl Fn(String) + '_ {
        |sentence| self.listener.say(sentence)
    }

    /// The target's gate is there first: at no time do both accept writes of the range.
    async fn create_gates(&self, moved: &Move) -> Result<(), MoveError> {
        for session in [self.target, self.source] {
            for table in &moved.tables {
                shape(session, table).await?;
            }
        }
        gate::create(self.target, moved, GateState::Closed, &self.say()).await?;
        gate::create(self.source, moved, GateState::Open, &self.say()).await?;
        Ok(())
    }

    /// From here on, rows of the range at the target are the move's own.
    async fn begin_copy(&self, entry: &mut Entry) -> Result<(), MoveError> {
        let mut empty = Vec::new();
        for table in &entry.moved.tables {
            let name = &table.name;
            let condition = entry.moved.range.condition(&table.key, RowSide::Row);
            let sql = format!(
                "SELECT EXISTS (SELECT 1 FROM {name} WHERE {condition}), EXISTS (SELECT 1 FROM {name})"
            );
            let row = self.target.row("look for rows of the range", &sql, &[]).await?;
            if row.get(0) {
                let shard = self.target.spot().shard.clone();
                return Err(MoveError::RowsAtTarget(table.clone(), shard));
            }
            if !row.get::<_, bool>(1) {
                empty.push(shape(self.target, table).await?);
            }
        }
        let removed = if self.options.removes_indexes {
            let empty: Vec<&Table> = empty.iter().collect();
            indexes::removable(self.target, &empty).await?
        } else {
            Vec::new()
        };
        self.journal.keep(entry, removed).await?;
        Ok(())
    }

    /// Copies the snapshot that the slot begins at. The snapshot ends with its walsender, so a copy that was
    /// interrupted begins again.
    async fn copy(&self, entry: &Entry) -> Result<(), MoveError> {
        let moved = &entry.moved;
        self.remove_copy(entry).await?;
        self.source.batch("create the marker", &marker::table(moved.id)).await?;
        self.target.batch("create the marker", &marker::table(moved.id)).await?;
        self.target.batch("create the list of chunks", CHUNKS).await?;
        self.source
            .batch("create the publication", &publication::create(moved, moved.id.forward()))
            .await?;
        for sql in indexes::removal(entry.removed.as_deref().unwrap_or_default()) {
            self.target.batch("remove the target's indexes", &sql).await?;
        }
        let name = session_name(moved);
        let walsender = self.source_endpoint.walsender(&name).await?;
        let name_of_slot = publication::slot_name(self.source, moved.id.forward()).await?;
        let slot = walsender.create_slot(&name_of_slot).await?;
        let mut tables = Vec::new();
        for table in &moved.tables {
            let own = shape(self.source, table).await?;
            tables.push(CopiedTable::read(self.source, table, &own).await?);
        }
        self.listener.copies(&tables);
        let left = RefCell::new(chunks(&tables));
        let pace = Pace::new(self.options.rate);
        let copy = Copy {
            moved,
            tables: &tables,
            left: &left,
            pace: &pace,
            arrived: &|chunk| self.listener.copied(chunk),
        };
        let workers = (0..self.options.jobs.max(1)).map(|_| async {
            let source = self.source_endpoint.session(&name).await?;
            worker::enter(&source, &slot.snapshot).await?;
            let target = self.target_endpoint.session(&name).await?;
            worker::work(&copy, &source, &target).await
        });
        try_join_all(workers).await?;
        Ok(())
    }

    /// Removes what a copy has left: rows, slot, publication.
    pub(crate) async fn remove_copy(&self, entry: &Entry) -> Result<(), ServerError> {
        let moved = &entry.moved;
        for session in [self.target, self.source] {
            end_sessions(session, moved).await?;
        }
        self.remove_channel(moved.id.forward()).await?;
        if entry.removed.is_none() {
            // No row was copied yet: what is there is not ours.
            return Ok(());
        }
        self.remove_rows(self.target, moved).await?;
        let id = moved.id;
        let sql = format!(
            "DO $d$ BEGIN IF to_regclass('spillway.chunk') IS NOT NULL THEN \
             DELETE FROM spillway.chunk WHERE move = {id}; END IF; END $d$"
        );
        self.target.batch("remove the list of chunks", &sql).await
    }

    /// Removes rows of the range. Neither gate nor triggers of the application see it.
    pub(crate) async fn remove_rows(
        &self,
        session: &Session,
        moved: &Move,
    ) -> Result<(), ServerError> {
        for table in &moved.tables {
            let condition = moved.range.condition(&table.key, RowSide::Row);
            let sql = format!(
                "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM {} WHERE {condition}; COMMIT",
                table.name
            );
            let doing = format!("remove rows from {}", table.name.shown());
            session.batch(&doing, &sql).await?;
        }
        Ok(())
    }

    async fn restore_indexes(&self, entry: &Entry) -> Result<(), MoveError> {
        let removed = entry.removed.as_deref().unwrap_or_default();
        indexes::restore(self.target, removed, &self.say()).await?;
        for table in &entry.moved.tables {
            let doing = format!("gather statistics of {}", table.name.shown());
            self.target.batch(&doing, &format!("ANALYZE {}", table.name)).await?;
        }
        Ok(())
    }

    async fn catch_up(&self, moved: &Move) -> Result<(), ServerError> {
        marker::caught_up(self.source, self.target, moved.id.forward(), &self.say()).await
    }

    async fn verify(&self, moved: &Move) -> Result<(), MoveError> {
        let channel = moved.id.forward();
        verify_tables([self.source, self.target], moved, channel, self.listener).await
    }

    /// Compares all tables of a move that was switched: the source follows.
    pub(crate) async fn verify_back(&self, moved: &Move) -> Result<(), MoveError> {
        let channel = moved.id.back();
        verify_tables([self.target, self.source], moved, channel, self.listener).await
    }
}

/// Compares all tables of a move, the first session's with those of the one that follows it.
///
/// # Errors
/// `Different` when both sides have caught up and differ.
pub async fn verify_tables(
    [source, target]: [&Session; 2],
    moved: &Move,
    channel: Channel,
    listener: &dyn Listener,
) -> Result<(), MoveError> {
    let say = |sentence| listener.say(sentence);
    marker::caught_up(source, target, channel, &say).await?;
    let sides = Sides { source, target, moved, channel };
    let mut different = Vec::new();
    for table in &moved.tables {
        let own = shape(source, table).await?;
        let found = sides.compare(table, &own, &say).await?;
        listener.compared(table, &found);
        if found.different_count > 0 {
            different.push((table.clone(), found));
        }
    }
    if different.is_empty() { Ok(()) } else { Err(MoveError::Different(different)) }
}

/// What the table is on this server.
async fn shape(session: &Session, table: &MovedTable) -> Result<Table, MoveError> {
    let missing = || MoveError::NoTable(table.clone(), session.spot().shard.clone());
    Table::read(session, &table.name).await?.ok_or_else(missing)
}

/// Ends sessions of a tool that was killed: one of them might still commit a chunk, or hold the snapshot.
async fn end_sessions(session: &Session, moved: &Move) -> Result<(), ServerError> {
    let doing = "end the sessions of a tool that was killed";
    let sql = format!(
        "SELECT pid, pg_terminate_backend(pid, {END_TIMEOUT_MS}) FROM pg_stat_activity \
         WHERE application_name = $1 AND datname = current_database() AND pid <> pg_backend_pid()"
    );
    let rows = session.rows(doing, &sql, &[&session_name(moved)]).await?;
    match rows.iter().find(|row| !row.get::<_, bool>(1)) {
        None => Ok(()),
        Some(row) => {
            let why = format!("pid {} does not end", row.get::<_, i32>(0));
            Err(ServerError::other(session.spot(), doing, why))
        }
    }
}

/// What copying sessions of a move are called in `pg_stat_activity`.
pub fn session_name(moved: &Move) -> String {
    format!("reshard move {}", moved.id)
}
