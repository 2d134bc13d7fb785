//! A row that clients change all the time: it is compared while nobody can change it.
//!
//! The row is locked at the database that the other follows, which lets its writers wait for the time in which what
//! was committed before reaches the other side: some milliseconds. One row at a time, so that no two locks of this
//! tool can stand in each other's or anybody's way.

use super::hash::RowHash;
use super::rows::DifferentRow;
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

/// Compares rows one by one, each while it is locked.
pub(super) struct Holder<'h> {
    sides: &'h Sides<'h>,
    /// The transaction with the lock; the sides' own session writes the marker meanwhile.
    session: Session,
    sql: String,
}

impl<'h> Holder<'h> {
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
    pub(super) async fn compare(&self, key: &str) -> Result<Option<DifferentRow>, ServerError> {
        let mut last = None;
        for _ in 0..TRIES {
            let found = self.held(key).await;
            self.session.batch("let go of a row", "ROLLBACK").await?;
            match found? {
                Some((own, its)) if own == its => return Ok(None),
                // A row that is not there can't be locked: it may have come meanwhile.
                Some((None, its)) => last = Some((None, its)),
                Some(differ) => return Ok(Some(named(key, differ))),
                None => {}
            }
        }
        Ok(Some(named(key, last.unwrap_or_default())))
    }

    /// Both sides of the row; none: it was not to be had in time.
    async fn held(&self, key: &str) -> Result<Option<Pair>, ServerError> {
        let doing = "compare a row that changes all the time";
        let begin = format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'");
        self.session.batch(doing, &begin).await?;
        let locking = format!("{} FOR NO KEY UPDATE", self.sql);
        let own = match self.session.rows(doing, &locking, &[&key]).await {
            Ok(rows) => rows.first().map(text),
            Err(why) if why.is(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(None),
            Err(why) => return Err(why),
        };
        match timeout(HELD_MAX, self.sides.catch_up(&|_| {})).await {
            Ok(caught_up) => caught_up?,
            Err(_) => return Ok(None),
        }
        let its = self.sides.target.rows(doing, &self.sql, &[&key]).await?;
        Ok(Some((own, its.first().map(text))))
    }
}

/// Hash and JSON of a row, at both sides.
type Pair = (Option<(String, String)>, Option<(String, String)>);

fn text(row: &Row) -> (String, String) {
    (row.get(0), row.get(1))
}

fn named(key: &str, (own, its): Pair) -> DifferentRow {
    let json = |side: Option<(String, String)>| side.map(|(_, json)| json);
    DifferentRow { key: key.to_owned(), at_source: json(own), at_target: json(its) }
}
