//! Whether both sides have the same rows.
//!
//! Rows are compared by chunks of keys: count and sum of the hashes of their rows, on both servers. Clients go on
//! writing and the target follows, so a chunk that differs is looked at again after the target has caught up. One
//! that still differs is compared row by row.

pub mod chunks;
pub mod hash;
mod held;
pub mod rows;
pub mod sides;

use crate::catalog::Table;
use crate::moved::MovedTable;
use crate::replication::lookout::Lookout;
use crate::replication::marker;
use crate::server::ServerError;
use chunks::KeyChunk;
use hash::{HashError, RowHash};
use rows::DifferentRow;
use sides::{NAMED_MAX, Sides};
use std::fmt;

/// How often a chunk that differs is compared again, each time after the target has caught up.
const TRIES: usize = 4;

/// Why rows can't be compared.
#[derive(Debug, Clone)]
pub enum VerifyError {
    Server(ServerError),
    Hash(HashError),
}

impl fmt::Display for VerifyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(why) => why.fmt(out),
            Self::Hash(why) => why.fmt(out),
        }
    }
}

impl std::error::Error for VerifyError {}

impl From<ServerError> for VerifyError {
    fn from(why: ServerError) -> Self {
        Self::Server(why)
    }
}

/// What was found of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Of the source.
    pub rows: u64,
    pub chunks: usize,
    /// How many chunks were looked at more than once, because clients wrote meanwhile.
    pub again: usize,
    /// Rows that are not the same; named up to a limit.
    pub different: Vec<DifferentRow>,
    pub different_count: u64,
}

impl Sides<'_> {
    /// Waits until what was committed by now is on both sides.
    ///
    /// # Errors
    /// As [`marker::caught_up`].
    pub async fn catch_up(&self, say: &dyn Fn(String)) -> Result<(), ServerError> {
        marker::caught_up(self.source, self.target, (self.moved, self.channel), say).await
    }

    /// Waits until both sides have the same columns.
    ///
    /// # Errors
    /// When a server is gone.
    pub async fn wait_for_columns(&self, say: &dyn Fn(String)) -> Result<(), ServerError> {
        let on = (self.moved, self.channel);
        Lookout::new(self.source, self.target, on, say).wait_for_columns().await
    }

    /// Compares one table. `progress` is told how far it is.
    ///
    /// # Errors
    /// When a server is gone, or the sides have other columns.
    pub async fn compare(
        &self,
        table: &MovedTable,
        shape: &Table,
        (say, progress): (&dyn Fn(String), &dyn Fn(String)),
    ) -> Result<Compared, VerifyError> {
        let hash = RowHash::of(shape).map_err(VerifyError::Hash)?;
        let chunks = chunks::read(self.source, self.moved, table, shape).await?;
        let mut found = Compared {
            rows: 0,
            chunks: chunks.len(),
            again: 0,
            different: Vec::new(),
            different_count: 0,
        };
        for (place, chunk) in chunks.iter().enumerate() {
            let (name, rows) = (table.name.shown(), found.rows);
            progress(format!("{name}: {place} of {} chunks compared, {rows} rows", chunks.len()));
            let (mut rows, mut tries) = (self.same_rows(table, &hash, chunk).await?, 1);
            while rows.is_none() && tries < TRIES {
                self.catch_up(say).await?;
                rows = self.same_rows(table, &hash, chunk).await?;
                tries += 1;
            }
            found.again += usize::from(tries > 1);
            if let Some(rows) = rows {
                found.rows += rows;
                continue;
            }
            let own = rows::different(self, table, &hash, chunk, say).await?;
            found.rows += own.rows;
            found.different_count += own.count;
            let room = NAMED_MAX.saturating_sub(found.different.len());
            found.different.extend(own.different.into_iter().take(room));
        }
        Ok(found)
    }

    /// How many rows the chunk has, if both sides have the same.
    async fn same_rows(
        &self,
        table: &MovedTable,
        hash: &RowHash,
        chunk: &KeyChunk,
    ) -> Result<Option<u64>, ServerError> {
        let doing = format!("hash rows of {}", table.name.shown());
        let sql = format!(
            "SELECT count(*), coalesce(sum({}), 0)::text FROM {} t WHERE {}",
            hash.row,
            table.name,
            chunk.condition(self.moved, table)
        );
        let own = self.source.row(&doing, &sql, &[]);
        let its = self.target.row(&doing, &sql, &[]);
        let (own, its) = futures_util::future::join(own, its).await;
        let read = |row: tokio_postgres::Row| (row.get::<_, i64>(0), row.get::<_, String>(1));
        let (own, its) = (read(own?), read(its?));
        Ok((own == its).then(|| u64::try_from(own.0).unwrap_or_default()))
    }
}
