//! The tables of the embedded queue and what is done to them, always inside a transaction of the
//! writer.

use crate::queue::{Depth, Received};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

/// The format of `queue.db`, kept in `PRAGMA user_version`.
pub(super) const FORMAT: i64 = 1;

/// `attributes` is a JSON object. A message is in flight while `visible_at` (ms since 1970) lies
/// ahead. The index serves a receive in order; `seq` breaks ties in the order of sending.
pub(super) const SCHEMA: &str = "
    CREATE TABLE messages (
        seq        INTEGER PRIMARY KEY,
        id         TEXT NOT NULL UNIQUE,
        body       TEXT NOT NULL,
        attributes TEXT NOT NULL,
        sent       INTEGER NOT NULL,
        visible_at INTEGER NOT NULL,
        receives   INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX messages_visible ON messages (visible_at, seq);
    CREATE TABLE dead (
        seq        INTEGER PRIMARY KEY,
        id         TEXT NOT NULL UNIQUE,
        body       TEXT NOT NULL,
        attributes TEXT NOT NULL,
        sent       INTEGER NOT NULL,
        died       INTEGER NOT NULL,
        receives   INTEGER NOT NULL
    ) STRICT;
";

/// How many used-up messages one receive moves to the dead letters at most, so that a queue full of
/// them does not hold up the other operations of the batch.
const DEAD_MOVES_MAX: usize = 100;

/// What a receipt says: the message and how often it had been received then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receipt {
    pub id: String,
    pub receives: u64,
}

impl Receipt {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, receives) = text.split_once(':')?;
        Some(Self { id: id.to_owned(), receives: receives.parse().ok()? })
    }
}

impl std::fmt::Display for Receipt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.id, self.receives)
    }
}

/// Returns the new message's id.
pub(super) fn send(db: &Connection, body: &str, attributes: &str, now: u64) -> Result<String> {
    db.prepare_cached(
        "INSERT INTO messages (id, body, attributes, sent, visible_at, receives)
         VALUES (lower(hex(randomblob(16))), ?1, ?2, ?3, ?3, 0) RETURNING id",
    )?
    .query_row(params![body, attributes, now], |row| row.get(0))
}

pub(super) fn any_visible(db: &Connection, now: u64) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM messages WHERE visible_at <= ?1 LIMIT 1")?.exists([now])
}

/// Takes up to `max` messages out of sight until `until`.
pub(super) fn receive(
    db: &Connection,
    max: usize,
    max_receives: u64,
    now: u64,
    until: u64,
) -> Result<Vec<Received>> {
    let mut taken = Vec::new();
    let mut moved = 0;
    while taken.len() < max && moved < DEAD_MOVES_MAX {
        let Some((seq, receives)) = first_visible(db, now)? else { break };
        if receives >= max_receives {
            bury(db, seq, now)?;
            moved += 1;
        } else {
            taken.push(take(db, seq, until)?);
        }
    }
    Ok(taken)
}

fn first_visible(db: &Connection, now: u64) -> Result<Option<(i64, u64)>> {
    db.prepare_cached(
        "SELECT seq, receives FROM messages WHERE visible_at <= ?1 ORDER BY visible_at, seq LIMIT 1",
    )?
    .query_row([now], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

fn take(db: &Connection, seq: i64, until: u64) -> Result<Received> {
    db.prepare_cached(
        "UPDATE messages SET visible_at = ?2, receives = receives + 1 WHERE seq = ?1
         RETURNING id, receives, body, attributes, sent",
    )?
    .query_row(params![seq, until], received)
}

fn received(row: &Row<'_>) -> Result<Received> {
    let receipt = Receipt { id: row.get(0)?, receives: row.get(1)? };
    let attributes: String = row.get(3)?;
    let attributes = serde_json::from_str(&attributes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(Received {
        receipt: receipt.to_string(),
        id: receipt.id,
        body: row.get(2)?,
        attributes,
        receives: receipt.receives,
        sent: row.get(4)?,
    })
}

/// Moves a message to the dead letters, byte for byte.
fn bury(db: &Connection, seq: i64, now: u64) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO dead (id, body, attributes, sent, died, receives)
         SELECT id, body, attributes, sent, ?2, receives FROM messages WHERE seq = ?1",
    )?
    .execute(params![seq, now])?;
    db.prepare_cached("DELETE FROM messages WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}

/// False when the receipt is out of date. A message that is gone counts as deleted, so that a delete
/// whose answer was lost can be repeated.
pub(super) fn delete(db: &Connection, receipt: &Receipt) -> Result<bool> {
    let deleted = db
        .prepare_cached("DELETE FROM messages WHERE id = ?1 AND receives = ?2")?
        .execute(params![receipt.id, receipt.receives])?;
    if deleted > 0 {
        return Ok(true);
    }
    let exists =
        db.prepare_cached("SELECT 1 FROM messages WHERE id = ?1")?.exists([&receipt.id])?;
    Ok(!exists)
}

/// False when the receipt is out of date.
pub(super) fn set_visible_at(db: &Connection, receipt: &Receipt, at: u64) -> Result<bool> {
    let changed = db
        .prepare_cached("UPDATE messages SET visible_at = ?3 WHERE id = ?1 AND receives = ?2")?
        .execute(params![receipt.id, receipt.receives, at])?;
    Ok(changed > 0)
}

/// Undoes a receive that nobody waited for any more, count included: its receipt was never seen.
pub(super) fn put_back(db: &Connection, receipt: &Receipt, now: u64) -> Result<()> {
    db.prepare_cached(
        "UPDATE messages SET visible_at = ?3, receives = receives - 1
         WHERE id = ?1 AND receives = ?2",
    )?
    .execute(params![receipt.id, receipt.receives, now])?;
    Ok(())
}

pub(super) fn depth(db: &Connection, now: u64) -> Result<Depth> {
    let count = |sql| db.prepare_cached(sql)?.query_row([now], |row| row.get(0));
    let dead = db.prepare_cached("SELECT count(*) FROM dead")?.query_row([], |row| row.get(0))?;
    let oldest = db
        .prepare_cached("SELECT sent FROM messages ORDER BY seq LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(Depth {
        visible: count("SELECT count(*) FROM messages WHERE visible_at <= ?1")?,
        in_flight: count("SELECT count(*) FROM messages WHERE visible_at > ?1")?,
        dead,
        oldest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Connection {
        let db = Connection::open_in_memory().expect("in memory");
        db.execute_batch(SCHEMA).expect("schema");
        db
    }

    #[test]
    fn a_receive_put_back_does_not_count() {
        let db = store();
        send(&db, "a", "{}", 1).expect("send");
        let first = receive(&db, 1, 1, 1, 100).expect("receive");
        let receipt = Receipt::parse(&first[0].receipt).expect("receipt");
        put_back(&db, &receipt, 2).expect("put back");
        let again = receive(&db, 1, 1, 2, 100).expect("receive");
        assert_eq!(again, first);
    }

    #[test]
    fn a_late_put_back_leaves_the_next_receiver_alone() {
        let db = store();
        send(&db, "a", "{}", 1).expect("send");
        let first = receive(&db, 1, 9, 1, 2).expect("receive");
        let second = receive(&db, 1, 9, 3, 100).expect("receive");
        assert_eq!(second[0].receives, 2);
        put_back(&db, &Receipt::parse(&first[0].receipt).expect("receipt"), 3).expect("put back");
        assert!(!any_visible(&db, 4).expect("query"));
    }

    #[test]
    fn used_up_messages_are_buried_byte_for_byte_and_do_not_block_others() {
        let db = store();
        let attributes = r#"{"a":"é\u0001"}"#;
        for _ in 0..DEAD_MOVES_MAX {
            send(&db, "poison é", attributes, 1).expect("send");
        }
        receive(&db, DEAD_MOVES_MAX, 1, 1, 2).expect("receive");
        send(&db, "good", "{}", 3).expect("send");
        assert_eq!(receive(&db, 1, 1, 3, 9).expect("receive"), []);
        assert_eq!(receive(&db, 1, 1, 3, 9).expect("receive")[0].body, "good");
        assert_eq!(
            depth(&db, 3).expect("depth"),
            Depth { visible: 0, in_flight: 1, dead: 100, oldest: Some(3) }
        );
        let dead: (String, String) = db
            .query_row("SELECT body, attributes FROM dead LIMIT 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .expect("a dead letter");
        assert_eq!(dead, ("poison é".into(), attributes.into()));
    }
}
