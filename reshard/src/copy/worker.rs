//! Workers that take one chunk after another from the snapshot to the target.

use super::chunk::{Chunk, CopiedTable};
use super::halt::Halt;
use super::pace::Pace;
use crate::moved::{Move, MoveId};
use crate::server::{ServerError, Session};
use crate::sql::Literal;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt, pin_mut};
use std::cell::RefCell;
use std::collections::VecDeque;

/// Rows are gathered until there are so many bytes: one message of the protocol for each row would cost more CPU
/// time than the rows themselves.
const BUFFER_BYTES: usize = 128 * 1024;

/// The table in which the target notes what it has, for those who look how far the copy is.
pub const CHUNKS: &str = "\
CREATE TABLE IF NOT EXISTS spillway.chunk (
  move int NOT NULL, tbl int NOT NULL, first_page bigint NOT NULL, rows bigint NOT NULL, bytes bigint NOT NULL,
  PRIMARY KEY (move, tbl, first_page))";

/// A chunk that is at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopiedChunk {
    pub chunk: Chunk,
    pub rows: u64,
    pub bytes: u64,
}

/// What a copy that is not over has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopiedSoFar {
    pub chunks: i64,
    pub rows: i64,
    pub bytes: i64,
}

/// Reads the target's list of chunks; none where it has none.
///
/// # Errors
/// When the server does not answer.
pub async fn so_far(target: &Session, id: MoveId) -> Result<Option<CopiedSoFar>, ServerError> {
    let doing = "read the list of chunks";
    let exists = "SELECT to_regclass('spillway.chunk') IS NOT NULL";
    if !target.row(doing, exists, &[]).await?.get::<_, bool>(0) {
        return Ok(None);
    }
    let sql = "SELECT count(*), coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint \
               FROM spillway.chunk WHERE move = $1";
    let row = target.row(doing, sql, &[&id.number()]).await?;
    Ok(Some(CopiedSoFar { chunks: row.get(0), rows: row.get(1), bytes: row.get(2) }))
}

/// What all workers of a copy share.
pub struct Copy<'c> {
    pub moved: &'c Move,
    pub tables: &'c [CopiedTable],
    pub left: &'c RefCell<VecDeque<Chunk>>,
    pub pace: &'c Pace,
    pub halt: &'c Halt,
    /// Called for each chunk that has arrived.
    pub arrived: &'c dyn Fn(CopiedChunk),
}

/// Begins the transaction in which a session of the source sees the snapshot.
///
/// # Errors
/// When the snapshot is gone: its walsender has ended.
pub async fn enter(source: &Session, snapshot: &str) -> Result<(), ServerError> {
    let doing = "see the snapshot";
    let literal = Literal::bare(snapshot);
    let literal = literal.map_err(|why| ServerError::other(source.spot(), doing, why))?;
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {literal}"
    );
    source.batch(doing, &sql).await
}

/// Copies chunks until none is left. Rows and the note of each are one transaction of the target, in which the
/// application's triggers do not fire and its gate does not refuse.
///
/// # Errors
/// When a server is gone, refuses a row, or has no room for it.
pub async fn work(copy: &Copy<'_>, source: &Session, target: &Session) -> Result<(), ServerError> {
    loop {
        copy.halt.passed().await;
        let Some(chunk) = copy.left.borrow_mut().pop_front() else { return Ok(()) };
        let table = &copy.tables[chunk.table];
        let doing = format!("copy {}", table.moved.name.shown());
        target.batch(&doing, "BEGIN; SET LOCAL session_replication_role = replica").await?;
        let (rows, bytes) = pipe(copy, chunk, source, target, &doing).await?;
        let (id, number) = (copy.moved.id.0, chunk.table);
        let note = format!(
            "INSERT INTO spillway.chunk VALUES ({id}, {number}, {}, {rows}, {bytes}); COMMIT",
            chunk.from
        );
        target.batch(&doing, &note).await?;
        (copy.arrived)(CopiedChunk { chunk, rows, bytes });
    }
}

async fn pipe(
    copy: &Copy<'_>,
    chunk: Chunk,
    source: &Session,
    target: &Session,
    doing: &str,
) -> Result<(u64, u64), ServerError> {
    let table = &copy.tables[chunk.table];
    let from = source.client().copy_out(&table.reads(copy.moved, chunk)).await;
    let from = from.map_err(|why| source.failed(doing, &why))?;
    let to = target.client().copy_in::<_, Bytes>(&table.writes()).await;
    let to = to.map_err(|why| target.failed(doing, &why))?;
    pin_mut!(from, to);
    let (mut buffer, mut bytes) = (BytesMut::with_capacity(BUFFER_BYTES), 0);
    while let Some(part) = from.next().await {
        buffer.extend_from_slice(&part.map_err(|why| source.failed(doing, &why))?);
        if buffer.len() < BUFFER_BYTES {
            continue;
        }
        let length = buffer.len();
        to.send(buffer.split().freeze()).await.map_err(|why| target.failed(doing, &why))?;
        bytes += length as u64;
        copy.pace.sent_more(length).await;
    }
    bytes += buffer.len() as u64;
    to.send(buffer.freeze()).await.map_err(|why| target.failed(doing, &why))?;
    let rows = to.finish().await.map_err(|why| target.failed(doing, &why))?;
    Ok((rows, bytes))
}
