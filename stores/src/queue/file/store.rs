//! The table of the embedded queue, and the operations on it inside the writer's transactions.

use crate::local::Format;
use crate::queue::{Depth, Received};
use rules::UnixMillis;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

/// `attributes` is a JSON object. A message is in flight while `visible_at` (ms since 1970) lies
/// ahead. `grp` is its tenant (empty: none). `dead` is 1 for the dead letters, a queue of their own.
/// The index serves a receive of one tenant in order; `seq` breaks ties in the order of sending.
pub(super) const FORMAT: Format = Format {
    version: 2,
    schema: "
    CREATE TABLE messages (
        seq        INTEGER PRIMARY KEY,
        id         TEXT NOT NULL UNIQUE,
        body       TEXT NOT NULL,
        attributes TEXT NOT NULL,
        sent       INTEGER NOT NULL,
        visible_at INTEGER NOT NULL,
        receives   INTEGER NOT NULL,
        grp        TEXT NOT NULL DEFAULT '',
        dead       INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX messages_of ON messages (dead, grp, visible_at, seq);
",
    // Format 1 knew no tenants and kept the dead letters in a table of their own.
    upgrades: &[(
        1,
        "
    ALTER TABLE messages ADD COLUMN grp TEXT NOT NULL DEFAULT '';
    ALTER TABLE messages ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;
    INSERT INTO messages (id, body, attributes, sent, visible_at, receives, dead)
        SELECT id, body, attributes, sent, died, receives, 1 FROM dead;
    DROP TABLE dead;
    DROP INDEX messages_visible;
    CREATE INDEX messages_of ON messages (dead, grp, visible_at, seq);
",
    )],
};

/// How many used-up messages one receive moves to the dead letters: the other operations of its batch must
/// not wait long.
const DEAD_MOVES_MAX: usize = 100;

/// How many tenants one receive compares; the next one begins after the tenant served last.
const GROUPS_MAX: usize = 32;

/// Beyond so many messages in flight of one tenant it makes no difference how many they are.
const IN_FLIGHT_COUNTED: u64 = 1000;

/// The content of a receipt handle: the message, and how often it had been received then.
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

/// Inserts a message and returns its new id: the time, then 80 random bits. Ids in ascending order change few
/// pages of their index.
pub(super) fn send(
    db: &Connection,
    body: &str,
    attributes: &str,
    group: &str,
    now: UnixMillis,
) -> Result<String> {
    db.prepare_cached(
        "INSERT INTO messages (id, body, attributes, sent, visible_at, receives, grp)
         VALUES (printf('%012x', ?3) || lower(hex(randomblob(10))), ?1, ?2, ?3, ?3, 0, ?4)
         RETURNING id",
    )?
    .query_row(params![body, attributes, now.0, group], |row| row.get(0))
}

pub(super) fn any_visible(db: &Connection, dead: bool, now: UnixMillis) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM messages WHERE dead = ?1 AND visible_at <= ?2 LIMIT 1")?
        .exists(params![dead, now.0])
}

/// The arguments of a receive.
pub(super) struct Wanted<'a> {
    pub max: usize,
    /// A message that was received more often than this goes to the dead letters. Those of the dead-letter
    /// queue stay there.
    pub max_receives: u64,
    pub dead: bool,
    pub now: UnixMillis,
    pub until: UnixMillis,
    /// The tenant that was served last, so that tenants take turns.
    pub last: &'a mut String,
}

/// Takes up to `max` messages out of sight until `until`, of the tenant with the fewest in flight
/// first.
pub(super) fn receive(db: &Connection, wanted: &mut Wanted<'_>) -> Result<Vec<Received>> {
    let mut taken = Vec::new();
    let mut moved = 0;
    while taken.len() < wanted.max && moved < DEAD_MOVES_MAX {
        let Some(next) = fairest(db, wanted)? else { break };
        if next.receives >= wanted.max_receives && !wanted.dead {
            bury(db, next.seq, wanted.now)?;
            moved += 1;
        } else {
            taken.push(take(db, next.seq, wanted.until)?);
            *wanted.last = next.group;
        }
    }
    Ok(taken)
}

struct Next {
    seq: i64,
    receives: u64,
    visible_at: UnixMillis,
    group: String,
}

/// The first visible message of the tenant that has the fewest in flight. Where two tenants have as few, the
/// older message.
fn fairest(db: &Connection, wanted: &Wanted<'_>) -> Result<Option<Next>> {
    let mut best: Option<(u64, Next)> = None;
    for group in groups(db, wanted)? {
        let Some(next) = first_visible(db, wanted, group)? else { continue };
        let in_flight = in_flight(db, wanted, &next.group)?;
        let rank = (in_flight, next.visible_at, next.seq);
        if best.as_ref().is_none_or(|(count, it)| rank < (*count, it.visible_at, it.seq)) {
            best = Some((in_flight, next));
        }
    }
    Ok(best.map(|(_, next)| next))
}

/// The tenants that have visible messages: those after the last one served, then from the beginning.
fn groups(db: &Connection, wanted: &Wanted<'_>) -> Result<Vec<String>> {
    let (dead, now) = (wanted.dead, wanted.now.0);
    let mut next = db.prepare_cached(
        "SELECT grp FROM messages WHERE dead = ?1 AND visible_at <= ?2 AND grp > ?3 ORDER BY grp LIMIT 1",
    )?;
    let mut first = db.prepare_cached(
        "SELECT grp FROM messages WHERE dead = ?1 AND visible_at <= ?2 ORDER BY grp LIMIT 1",
    )?;
    let mut found: Vec<String> = Vec::new();
    let mut after = wanted.last.clone();
    while found.len() < GROUPS_MAX {
        let group = next.query_row(params![dead, now, after], |row| row.get(0)).optional()?;
        let group: Option<String> = match group {
            Some(group) => Some(group),
            None => first.query_row(params![dead, now], |row| row.get(0)).optional()?,
        };
        match group {
            // All tenants were seen once.
            Some(group) if !found.contains(&group) => {
                found.push(group.clone());
                after = group;
            }
            _ => break,
        }
    }
    Ok(found)
}

fn first_visible(db: &Connection, wanted: &Wanted<'_>, group: String) -> Result<Option<Next>> {
    db.prepare_cached(
        "SELECT seq, receives, visible_at FROM messages
         WHERE dead = ?1 AND grp = ?2 AND visible_at <= ?3 ORDER BY visible_at, seq LIMIT 1",
    )?
    .query_row(params![wanted.dead, group, wanted.now.0], |row| {
        Ok((row.get(0)?, row.get(1)?, UnixMillis(row.get(2)?)))
    })
    .optional()
    .map(|found| found.map(|(seq, receives, visible_at)| Next { seq, receives, visible_at, group }))
}

fn in_flight(db: &Connection, wanted: &Wanted<'_>, group: &str) -> Result<u64> {
    db.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM messages
         WHERE dead = ?1 AND grp = ?2 AND visible_at > ?3 LIMIT ?4)",
    )?
    .query_row(params![wanted.dead, group, wanted.now.0, IN_FLIGHT_COUNTED], |row| row.get(0))
}

fn take(db: &Connection, seq: i64, until: UnixMillis) -> Result<Received> {
    db.prepare_cached(
        "UPDATE messages SET visible_at = ?2, receives = receives + 1 WHERE seq = ?1
         RETURNING id, receives, body, attributes, sent, grp",
    )?
    .query_row(params![seq, until.0], received)
}

fn received(row: &Row<'_>) -> Result<Received> {
    let receipt = Receipt { id: row.get(0)?, receives: row.get(1)? };
    let attributes: String = row.get(3)?;
    let attributes = serde_json::from_str(&attributes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, error.into())
    })?;
    let group: String = row.get(5)?;
    Ok(Received {
        receipt: receipt.to_string(),
        id: receipt.id,
        body: row.get(2)?,
        attributes,
        group: Some(group).filter(|group| !group.is_empty()),
        receives: receipt.receives,
        sent: UnixMillis(row.get(4)?),
    })
}

/// Moves a message to the dead letters, byte for byte.
fn bury(db: &Connection, seq: i64, now: UnixMillis) -> Result<()> {
    db.prepare_cached("UPDATE messages SET dead = 1, visible_at = ?2 WHERE seq = ?1")?
        .execute(params![seq, now.0])?;
    Ok(())
}

/// Deletes a message; false when the receipt is out of date. A message that is gone counts as deleted, so
/// that a delete whose answer was lost can be repeated.
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
pub(super) fn set_visible_at(db: &Connection, receipt: &Receipt, at: UnixMillis) -> Result<bool> {
    let changed = db
        .prepare_cached("UPDATE messages SET visible_at = ?3 WHERE id = ?1 AND receives = ?2")?
        .execute(params![receipt.id, receipt.receives, at.0])?;
    Ok(changed > 0)
}

/// Undoes a receive that nobody waited for, count included: its receipt was never seen.
pub(super) fn put_back(db: &Connection, receipt: &Receipt, now: UnixMillis) -> Result<()> {
    db.prepare_cached(
        "UPDATE messages SET visible_at = ?3, receives = receives - 1
         WHERE id = ?1 AND receives = ?2",
    )?
    .execute(params![receipt.id, receipt.receives, now.0])?;
    Ok(())
}

/// The depth of the queue; its dead letters are counted with it.
pub(super) fn depth(db: &Connection, dead: bool, now: UnixMillis) -> Result<Depth> {
    let count = |condition: &str| {
        db.prepare_cached(&format!(
            "SELECT count(*) FROM messages WHERE dead = ?1 AND {condition}"
        ))?
        .query_row(params![dead, now.0], |row| row.get(0))
    };
    let buried = db
        .prepare_cached("SELECT count(*) FROM messages WHERE dead > ?1")?
        .query_row([dead], |row| row.get(0))?;
    let oldest = db
        .prepare_cached("SELECT sent FROM messages WHERE dead = ?1 ORDER BY seq LIMIT 1")?
        .query_row([dead], |row| Ok(UnixMillis(row.get(0)?)))
        .optional()?;
    Ok(Depth {
        visible: count("visible_at <= ?2")?,
        in_flight: count("visible_at > ?2")?,
        dead: buried,
        oldest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Connection {
        let db = Connection::open_in_memory().expect("in memory");
        db.execute_batch(FORMAT.schema).expect("schema");
        db
    }

    fn send_one(db: &Connection, body: &str, group: &str, now: u64) {
        send(db, body, "{}", group, UnixMillis(now)).expect("send");
    }

    fn take_some(db: &Connection, max: usize, most: u64, now: u64, until: u64) -> Vec<Received> {
        let (now, until, mut last) = (UnixMillis(now), UnixMillis(until), String::new());
        let (max_receives, dead) = (most, false);
        let mut wanted = Wanted { max, max_receives, dead, now, until, last: &mut last };
        receive(db, &mut wanted).expect("receive")
    }

    #[test]
    fn a_receive_put_back_does_not_count() {
        let db = store();
        send_one(&db, "a", "", 1);
        let first = take_some(&db, 1, 1, 1, 100);
        let receipt = Receipt::parse(&first[0].receipt).expect("receipt");
        put_back(&db, &receipt, UnixMillis(2)).expect("put back");
        assert_eq!(take_some(&db, 1, 1, 2, 100), first);
    }

    #[test]
    fn a_late_put_back_leaves_the_next_receiver_alone() {
        let db = store();
        send_one(&db, "a", "", 1);
        let first = take_some(&db, 1, 9, 1, 2);
        let second = take_some(&db, 1, 9, 3, 100);
        assert_eq!(second[0].receives, 2);
        put_back(&db, &Receipt::parse(&first[0].receipt).expect("receipt"), UnixMillis(3))
            .expect("put back");
        assert!(!any_visible(&db, false, UnixMillis(4)).expect("query"));
    }

    #[test]
    fn a_tenants_backlog_does_not_hold_up_the_others() {
        let db = store();
        for at in 0..100 {
            send_one(&db, "noisy", "n", at);
        }
        send_one(&db, "quiet", "q", 100);
        send_one(&db, "nobody's", "", 101);
        let bodies: Vec<String> =
            take_some(&db, 4, 9, 200, 300).into_iter().map(|it| it.body).collect();
        assert_eq!(bodies, ["noisy", "quiet", "nobody's", "noisy"]);
    }

    #[test]
    fn more_tenants_than_one_look_compares_take_turns() {
        let db = store();
        for at in 0..GROUPS_MAX * 3 {
            send_one(&db, "a", &format!("g{at:03}"), 1);
        }
        let (mut last, mut seen) = (String::new(), std::collections::BTreeSet::new());
        for _ in 0..GROUPS_MAX * 3 {
            let (now, until, dead) = (UnixMillis(2), UnixMillis(9), false);
            let mut wanted = Wanted { max: 1, max_receives: 9, dead, now, until, last: &mut last };
            let received = receive(&db, &mut wanted).expect("receive");
            seen.extend(received.into_iter().filter_map(|it| it.group));
        }
        assert_eq!(seen.len(), GROUPS_MAX * 3);
        send_one(&db, "late", "h", 3);
        assert_eq!(take_some(&db, 1, 9, 4, 9).len(), 1);
    }

    #[test]
    fn used_up_messages_are_buried_byte_for_byte_and_do_not_block_others() {
        let db = store();
        let attributes = r#"{"a":"é\u0001"}"#;
        for _ in 0..DEAD_MOVES_MAX {
            send(&db, "poison é", attributes, "", UnixMillis(1)).expect("send");
        }
        take_some(&db, DEAD_MOVES_MAX, 1, 1, 2);
        send_one(&db, "good", "", 3);
        assert_eq!(take_some(&db, 1, 1, 3, 9), []);
        assert_eq!(take_some(&db, 1, 1, 3, 9)[0].body, "good");
        assert_eq!(
            depth(&db, false, UnixMillis(3)).expect("depth"),
            Depth { visible: 0, in_flight: 1, dead: 100, oldest: Some(UnixMillis(3)) }
        );
        let dead: (String, String) = db
            .query_row("SELECT body, attributes FROM messages WHERE dead = 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .expect("a dead letter");
        assert_eq!(dead, ("poison é".into(), attributes.into()));
    }

    #[test]
    fn a_file_of_format_1_keeps_its_messages_and_dead_letters() {
        let db = Connection::open_in_memory().expect("in memory");
        db.execute_batch(
            "CREATE TABLE messages (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
                 body TEXT NOT NULL, attributes TEXT NOT NULL, sent INTEGER NOT NULL,
                 visible_at INTEGER NOT NULL, receives INTEGER NOT NULL) STRICT;
             CREATE INDEX messages_visible ON messages (visible_at, seq);
             CREATE TABLE dead (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
                 body TEXT NOT NULL, attributes TEXT NOT NULL, sent INTEGER NOT NULL,
                 died INTEGER NOT NULL, receives INTEGER NOT NULL) STRICT;
             INSERT INTO messages VALUES (1, 'a', 'waits', '{}', 1, 1, 0);
             INSERT INTO dead VALUES (1, 'b', 'died', '{}', 1, 2, 5);",
        )
        .expect("format 1");
        db.execute_batch(FORMAT.upgrades[0].1).expect("the upgrade");
        assert_eq!(take_some(&db, 9, 9, 3, 4)[0].body, "waits");
        assert_eq!(depth(&db, true, UnixMillis(3)).expect("depth").visible, 1);
    }
}
