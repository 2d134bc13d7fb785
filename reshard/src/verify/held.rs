//! A row that clients change all the time: it is compared while nobody can change it.
//!
//! The row is locked at the database that the other follows, which lets its writers wait for the time in which what
//! was committed before reaches the other side: some milliseconds. One row at a time, so that no two locks of this
//! tool can stand in each other's or anybody's way.

use super::hash::RowHash;
use super::sides::Sides;
use crate::moved::MovedTable;
use crate::server::{ServerError, Session};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

/// How long the other side may take to get there, while writers of the row wait.
const HELD_MAX: Duration = Duration::from_millis(300);
/// How long the lock is waited for: writers of a hot row have it for moments.
const LOCK_TIMEOUT: &str = "2s";
/// How often a row is tried that could not be held, or that the other side did not reach in time.
const TRIES: usize = 10;

/// A row as one side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowText {
    hash: String,
    pub(super) json: String,
}

/// A row as both sides have it; none: not at all.
#[derive(Debug, Clone, Default)]
pub(super) struct SidesOfRow {
    pub(super) at_source: Option<RowText>,
    pub(super) at_target: Option<RowText>,
}

/// Compares rows one by one, each while it is locked.
pub(super) struct HeldRows<'h> {
    sides: &'h Sides<'h>,
    /// The transaction with the lock; the sides' own session writes the marker meanwhile.
    session: Session,
    sql: String,
}

impl<'h> HeldRows<'h> {
    /// Opens the session that locks.
    ///
    /// # Errors
    /// When the server takes no other session.
    pub(super) async fn open(
        sides: &'h Sides<'h>,
        table: &MovedTable,
        hash: &RowHash,
    ) -> Result<Self, ServerError> {
        let session = sides.source.another().await?;
        let sql = format!(
            "SELECT {}::text, row_to_json(t)::text FROM {} t WHERE {} = $1",
            hash.row, table.name, hash.key
        );
        Ok(Self { sides, session, sql })
    }

    /// What differs of the row; none: both sides have the same.
    ///
    /// # Errors
    /// When a server is gone.
    pub(super) async fn compare(&self, key: &str) -> Result<Option<SidesOfRow>, ServerError> {
        let mut last = SidesOfRow::default();
        for _ in 0..TRIES {
            let found = self.held(key).await;
            self.session.batch("let go of a row", "ROLLBACK").await?;
            match found? {
                Some(own) if own.at_source == own.at_target => return Ok(None),
                // A row that is not there can't be locked: it may have come meanwhile.
                Some(own) if own.at_source.is_none() => last = own,
                Some(own) => return Ok(Some(own)),
                None => {}
            }
        }
        Ok(Some(last))
    }

    /// Both sides of the row; none: it was not to be had in time.
    async fn held(&self, key: &str) -> Result<Option<SidesOfRow>, ServerError> {
        let doing = "compare a row that changes all the time";
        let begin = format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'");
        self.session.batch(doing, &begin).await?;
        let locking = format!("{} FOR NO KEY UPDATE", self.sql);
        let at_source = match self.session.rows(doing, &locking, &[&key]).await {
            Ok(rows) => rows.first().map(text),
            Err(why) if why.is(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(None),
            Err(why) => return Err(why),
        };
        match timeout(HELD_MAX, self.sides.catch_up(&|_| {})).await {
            Ok(caught_up) => caught_up?,
            Err(_) => return Ok(None),
        }
        let at_target = self.sides.target.rows(doing, &self.sql, &[&key]).await?.first().map(text);
        Ok(Some(SidesOfRow { at_source, at_target }))
    }
}

fn text(row: &Row) -> RowText {
    RowText { hash: row.get(0), json: row.get(1) }
}
