//! Rows that are not the same on both sides, by name.

use super::chunks::KeyChunk;
use super::hash::RowHash;
use super::held::{HeldRows, RowText};
use super::sides::{NAMED_MAX, Sides};
use crate::moved::MovedTable;
use crate::server::{ServerError, Session};
use futures_util::{StreamExt, TryStreamExt, pin_mut};
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// How often rows that differ are looked at again.
const LOOKS: usize = 3;
/// Rows that are asked for by their keys in one query.
const READ_ROWS: usize = 1_000;
/// Rows of one chunk that are compared while they are held: each takes some milliseconds.
const HELD_ROWS_MAX: usize = 500;

/// A row that one side does not have, or has otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferentRow {
    /// Its primary key, as PostgreSQL writes an array.
    pub key: String,
    /// As JSON; none: that side does not have it.
    pub at_source: Option<String>,
    pub at_target: Option<String>,
}

/// What was found of one chunk.
pub struct Found {
    /// Of the source.
    pub rows: u64,
    pub count: u64,
    pub different: Vec<DifferentRow>,
}

/// Compares the rows of a chunk one by one. Those that differ are looked at again once the other side has caught up,
/// as a client may have changed them in between; those that differ each time are compared while they are held.
///
/// # Errors
/// When a server is gone.
pub async fn different(
    sides: &Sides<'_>,
    table: &MovedTable,
    hash: &RowHash,
    chunk: &KeyChunk,
    say: &dyn Fn(String),
) -> Result<Found, ServerError> {
    let condition = chunk.condition(sides.moved, table);
    let sql = format!(
        "SELECT {} COLLATE \"C\" AS key, {}::text AS hash FROM {} t WHERE {condition} ORDER BY 1",
        hash.key, hash.row, table.name
    );
    let (rows, mut keys) = merged(sides, &sql).await?;
    for _ in 0..LOOKS {
        sides.catch_up(say).await?;
        keys = still_different(sides, (table, hash, &condition), keys).await?;
    }
    let held = HeldRows::open(sides, table, hash).await?;
    let (mut count, mut different) = (0, Vec::new());
    for (place, key) in keys.iter().enumerate() {
        if place >= HELD_ROWS_MAX {
            // So many do not change all the time.
            count += (keys.len() - place) as u64;
            break;
        }
        if let Some(own) = held.compare(key).await? {
            count += 1;
            if different.len() < NAMED_MAX {
                let json = |side: Option<RowText>| side.map(|row| row.json);
                let (at_source, at_target) = (json(own.at_source), json(own.at_target));
                different.push(DifferentRow { key: key.clone(), at_source, at_target });
            }
        }
    }
    Ok(Found { rows, count, different })
}

/// Which of these rows still differ.
async fn still_different(
    sides: &Sides<'_>,
    (table, hash, condition): (&MovedTable, &RowHash, &str),
    keys: Vec<String>,
) -> Result<Vec<String>, ServerError> {
    let mut left = Vec::new();
    for part in keys.chunks(READ_ROWS) {
        let own = hashes(sides.source, table, hash, condition, part).await?;
        let its = hashes(sides.target, table, hash, condition, part).await?;
        left.extend(part.iter().filter(|key| own.get(*key) != its.get(*key)).cloned());
    }
    Ok(left)
}

/// Reads both sides in the order of their keys; the number of the source's rows, and the keys that differ.
async fn merged(sides: &Sides<'_>, sql: &str) -> Result<(u64, Vec<String>), ServerError> {
    let doing = "read rows to compare them";
    let read = |row: Row| (row.get::<_, String>(0), row.get::<_, String>(1));
    let none: [&str; 0] = [];
    let own = sides.source.client().query_raw(sql, none).await;
    let own = own.map_err(|why| sides.source.failed(doing, &why))?;
    let its = sides.target.client().query_raw(sql, none).await;
    let its = its.map_err(|why| sides.target.failed(doing, &why))?;
    let own = own.map_ok(read).map_err(|why| sides.source.failed(doing, &why));
    let its = its.map_ok(read).map_err(|why| sides.target.failed(doing, &why));
    pin_mut!(own, its);
    let (mut rows, mut keys) = (0, Vec::new());
    let mut left = (own.next().await.transpose()?, its.next().await.transpose()?);
    loop {
        let order = match &left {
            (None, None) => return Ok((rows, keys)),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((own, _)), Some((its, _))) => own.as_bytes().cmp(its.as_bytes()),
        };
        if order.is_eq() && left.0 != left.1 {
            keys.extend(left.0.as_ref().map(|(key, _)| key.clone()));
        }
        if order.is_lt() {
            keys.extend(left.0.as_ref().map(|(key, _)| key.clone()));
        }
        if order.is_gt() {
            keys.extend(left.1.as_ref().map(|(key, _)| key.clone()));
        }
        if order.is_le() {
            rows += 1;
            left.0 = own.next().await.transpose()?;
        }
        if order.is_ge() {
            left.1 = its.next().await.transpose()?;
        }
    }
}

/// Hashes of these rows, by key.
async fn hashes(
    session: &Session,
    table: &MovedTable,
    hash: &RowHash,
    condition: &str,
    keys: &[String],
) -> Result<BTreeMap<String, String>, ServerError> {
    let sql = format!(
        "SELECT {} AS key, {}::text FROM {} t WHERE {condition} AND {} = ANY($1)",
        hash.key, hash.row, table.name, hash.key
    );
    let rows = session.rows("read rows that differ", &sql, &[&keys]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
