//! The rows of the directory store. Conditions are checked here, under the writer's lock.

use crate::local::{Format, now};
use crate::results::{Condition, Listed};
use rules::UnixMillis;
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::collections::HashSet;

/// A body is either in the row or in a file of `objects/`; `written` is ms since 1970.
pub(super) const FORMAT: Format = Format {
    version: 2,
    schema: "
    CREATE TABLE objects (
        key     TEXT NOT NULL UNIQUE,
        etag    TEXT NOT NULL,
        length  INTEGER NOT NULL,
        inline  BLOB,
        file    TEXT UNIQUE,
        written INTEGER NOT NULL DEFAULT 0,
        CHECK ((inline IS NULL) <> (file IS NULL))
    ) STRICT;
",
    // Format 1 did not know how old an object is: it counts from the upgrade.
    upgrades: &[(
        1,
        "
    ALTER TABLE objects ADD COLUMN written INTEGER NOT NULL DEFAULT 0;
    UPDATE objects SET written = unixepoch() * 1000;
",
    )],
};

/// Where a body lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Inline(Vec<u8>),
    File(String),
}

pub(super) struct Found {
    pub etag: String,
    pub length: u64,
    pub place: Place,
}

/// The outcome of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The new etag, and the file of the body that was replaced.
    Yes {
        etag: String,
        replaced: Option<String>,
    },
    Precondition,
}

/// A name for a file or an etag that is unique among all processes.
pub(super) fn unique(db: &Connection) -> Result<String> {
    db.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))
}

/// Writes a row, inside the writer's transaction.
pub(super) fn put(
    db: &Connection,
    key: &str,
    length: u64,
    place: &Place,
    condition: &Condition,
) -> Result<Written> {
    let old: Option<(String, Option<String>)> = db
        .prepare_cached("SELECT etag, file FROM objects WHERE key = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let met = match condition {
        Condition::Always => true,
        Condition::IfAbsent => old.is_none(),
        Condition::IfMatch(wanted) => old.as_ref().is_some_and(|(etag, _)| etag == wanted),
    };
    if !met {
        return Ok(Written::Precondition);
    }
    // Every write gets a new etag, even of equal bytes: a lease that was given up and taken again differs.
    let etag = format!("\"{}\"", unique(db)?);
    let (inline, file) = match place {
        Place::Inline(bytes) => (Some(bytes), None),
        Place::File(name) => (None, Some(name)),
    };
    db.prepare_cached(
        "INSERT INTO objects (key, etag, length, inline, file, written) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (key) DO UPDATE SET etag = excluded.etag, length = excluded.length,
             inline = excluded.inline, file = excluded.file, written = excluded.written",
    )?
    .execute(params![key, etag, length, inline, file, now().0])?;
    Ok(Written::Yes { etag, replaced: old.and_then(|(_, file)| file) })
}

pub(super) fn find(db: &Connection, key: &str) -> Result<Option<Found>> {
    db.prepare_cached("SELECT etag, length, inline, file FROM objects WHERE key = ?1")?
        .query_row([key], |row| {
            let inline: Option<Vec<u8>> = row.get(2)?;
            let place = match inline {
                Some(bytes) => Place::Inline(bytes),
                None => Place::File(row.get(3)?),
            };
            Ok(Found { etag: row.get(0)?, length: row.get(1)?, place })
        })
        .optional()
}

/// The etag and the length of an object, without reading its body.
pub(super) fn head(db: &Connection, key: &str) -> Result<Option<(String, u64)>> {
    db.prepare_cached("SELECT etag, length FROM objects WHERE key = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Deletes a row, and returns the file of its body.
pub(super) fn delete(db: &Connection, key: &str) -> Result<Option<String>> {
    let file: Option<Option<String>> = db
        .prepare_cached("DELETE FROM objects WHERE key = ?1 RETURNING file")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(file.flatten())
}

/// Lists keys as [`crate::results::Results::list`] does.
pub(super) fn list(db: &Connection, prefix: &str, after: &str, max: usize) -> Result<Vec<Listed>> {
    // Every legal character of a key comes before `~`.
    let end = format!("{prefix}~");
    let after = if after < prefix { prefix } else { after };
    db.prepare_cached(
        "SELECT key, written FROM objects
         WHERE key >= ?1 AND key <> ?4 AND key < ?2 ORDER BY key LIMIT ?3",
    )?
    .query_map(params![after, end, max, after], |row| {
        Ok(Listed { key: row.get(0)?, written: UnixMillis(row.get(1)?) })
    })?
    .collect()
}

/// The names of all files that rows name.
pub(super) fn files(db: &Connection) -> Result<HashSet<String>> {
    db.prepare("SELECT file FROM objects WHERE file IS NOT NULL")?
        .query_map([], |row| row.get(0))?
        .collect()
}
