//! What moves a range: the two databases, the journal, the map, and how the rows are copied; and how each part of a
//! move is removed again.

use crate::catalog::Table;
use crate::copy::chunk::{CopiedTable, pages};
use crate::copy::worker::CopiedChunk;
use crate::interrupt::Interrupt;
use crate::journal::{Entry, Journal, Step};
use crate::limits::{PauseLimits, PauseReport};
use crate::map::Spillway;
use crate::move_error::MoveError;
use crate::moved::{Channel, Move, MovedTable};
use crate::replication::{publication, subscription};
use crate::server::{Endpoint, ServerError, Session};
use crate::sql::RowSide;
use crate::verify::Compared;
use std::time::Duration;

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
    /// Whether the copy may begin again although its slot was lost before.
    pub may_copy_again: bool,
    /// Whether `finish` leaves a CHECK at both databases that refuses rows of ranges of others.
    pub owner_check: bool,
}

/// Who hears of a move's progress.
pub trait Listener {
    /// A sentence for people.
    fn say(&self, sentence: String);
    /// How far something is that takes a while; the next one takes its place.
    fn progress(&self, sentence: String);
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

/// Pages of which rows are removed in one transaction.
const REMOVED_PAGES: i64 = 8_000;
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
    pub interrupt: &'m Interrupt,
}

impl Mover<'_> {
    pub(crate) fn say(&self) -> impl Fn(String) + '_ {
        |sentence| self.listener.say(sentence)
    }

    /// Does something that whoever goes on can do over, unless somebody wants the tool to end.
    ///
    /// # Errors
    /// `Interrupted`; what the work fails by.
    pub async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = Result<T, MoveError>>,
    ) -> Result<T, MoveError> {
        tokio::select! {
            biased;
            () = self.interrupt.asked() => Err(MoveError::Interrupted),
            done = work => done,
        }
    }

    /// # Errors
    /// `Interrupted`.
    pub(crate) async fn sleep(&self, pause: Duration) -> Result<(), MoveError> {
        let sleeping = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        self.unless_interrupted(sleeping).await
    }

    /// Removes one direction of replication, whatever of it is there.
    pub(crate) async fn remove_channel(&self, channel: Channel) -> Result<(), ServerError> {
        let (from, to) = match channel.is_back {
            false => (self.source, self.target),
            true => (self.target, self.source),
        };
        subscription::remove(to, channel).await?;
        publication::remove_slot(from, channel).await?;
        from.batch("remove the publication", &publication::remove(channel)).await
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
            let (name, condition) = (&table.name, moved.range.condition(&table.key, RowSide::Row));
            let doing = format!("remove rows from {}", name.shown());
            let oid = shape_oid(session, table).await?;
            let pages = pages(session, table, oid).await?;
            // Page by page, as one transaction over all of them would keep vacuum and the log waiting.
            for from in (0..=pages).step_by(usize::try_from(REMOVED_PAGES).unwrap_or(1)) {
                let until = from + REMOVED_PAGES;
                let sql = format!(
                    "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM {name} \
                     WHERE ctid >= '({from},0)'::tid AND ctid < '({until},0)'::tid AND {condition}; COMMIT"
                );
                session.batch(&doing, &sql).await?;
            }
        }
        Ok(())
    }
}

/// The table's number on this server; 0 where it has none of that name.
async fn shape_oid(session: &Session, table: &MovedTable) -> Result<u32, ServerError> {
    let (doing, name) = ("look for a table", table.name.to_string());
    let sql = "SELECT coalesce(to_regclass($1)::oid, 0::oid)";
    Ok(session.row(doing, sql, &[&name]).await?.get(0))
}

/// What the table is on this server.
pub(crate) async fn shape(session: &Session, table: &MovedTable) -> Result<Table, MoveError> {
    let missing = || MoveError::NoTable(table.clone(), session.spot().shard.clone());
    Table::read(session, &table.name).await?.ok_or_else(missing)
}

/// Ends sessions of a tool that was killed: one of them might still commit a chunk, or hold the snapshot.
pub(crate) async fn end_sessions(session: &Session, moved: &Move) -> Result<(), ServerError> {
    let doing = "end the sessions of a tool that was killed";
    let sql = format!(
        "SELECT pid, pg_terminate_backend(pid, {END_TIMEOUT_MS}) FROM pg_stat_activity \
         WHERE application_name = ANY ($1) AND datname = current_database() AND pid <> pg_backend_pid()"
    );
    let names = [moved.session_name(), moved.index_session_name()].to_vec();
    let rows = session.rows(doing, &sql, &[&names]).await?;
    match rows.iter().find(|row| !row.get::<_, bool>(1)) {
        None => Ok(()),
        Some(row) => {
            let why = format!("pid {} does not end", row.get::<_, i32>(0));
            Err(ServerError::other(session.spot(), doing, why))
        }
    }
}
