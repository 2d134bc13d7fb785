//! The lasting guard of a database after a move: a CHECK that refuses rows of ranges that the map gives to other shards.
//!
//! A move's gate goes with the move. What writes past the map afterwards (a forgotten cron job, psql, a pod that was
//! cut off) would put rows where nobody looks for them. Keys that the map gives to nobody are not refused: a map
//! grows at its ends without a tool of ours. A CHECK sees neither a DELETE nor an UPDATE that finds no row.

use crate::moved::{Move, MovedTable};
use crate::server::{ServerError, Session};
use crate::sql::{Identifier, KeyRange, RowSide};
use rules::shard::ShardKey;
use rules::shard::object::MapObject;

/// Ranges of others that one CHECK lists: each row that is written is compared with all of them.
const OTHERS_MAX: usize = 200;
/// Letters of a map's name in the name of its check, which may have 63 bytes.
const MAP_LETTERS_MAX: usize = 40;

/// The name of the check of a map.
pub fn name(map: &str) -> Identifier {
    let letters: String = map.chars().take(MAP_LETTERS_MAX).collect();
    Identifier::of_check(&letters)
}

/// Ranges that the map gives to other shards than this, neighbours as one.
fn others(object: &MapObject, shard: &str) -> Vec<(Option<String>, Option<String>)> {
    let mut found: Vec<(Option<String>, Option<String>)> = Vec::new();
    for (at, range) in object.ranges.iter().enumerate() {
        let next = object.ranges.get(at + 1).and_then(|next| next.from.clone());
        let until = next.or_else(|| object.until.clone());
        if range.shard == shard {
            continue;
        }
        match found.last_mut().filter(|last| last.1.is_some() && last.1 == range.from) {
            Some(last) => last.1 = until,
            None => found.push((range.from.clone(), until)),
        }
    }
    found
}

/// The condition of the check; none where no other shard owns anything, or too many ranges are others'. `also`: a
/// range of others that comes here.
fn condition(
    object: &MapObject,
    shard: &str,
    key: &Identifier,
    also: Option<&KeyRange>,
) -> Option<String> {
    let others = others(object, shard);
    if others.is_empty() || others.len() > OTHERS_MAX {
        return None;
    }
    let parse = |text: &Option<String>| match text {
        None => Some(None),
        Some(text) => ShardKey::parse(object.key_type, text).map(Some),
    };
    let parts: Option<Vec<String>> = others
        .iter()
        .map(|(from, until)| {
            let range = KeyRange::new(object.key_type, parse(from)?, parse(until)?).ok()?;
            Some(range.condition(key, RowSide::Row))
        })
        .collect();
    let here = also.map(|range| format!(" OR {}", range.condition(key, RowSide::Row)));
    Some(format!("NOT ({}){}", parts?.join(" OR "), here.unwrap_or_default()))
}

/// Statements that give a table the check of what the map says, in place of the one it has.
pub fn replacement(
    object: &MapObject,
    shard: &str,
    table: &MovedTable,
    also: Option<&KeyRange>,
) -> Vec<String> {
    let (own, check) = (&table.name, name(&object.map));
    let mut found = vec![format!("ALTER TABLE {own} DROP CONSTRAINT IF EXISTS {check}")];
    found.extend(condition(object, shard, &table.key, also).map(|condition| {
        format!("ALTER TABLE {own} ADD CONSTRAINT {check} CHECK ({condition}) NOT VALID")
    }));
    found
}

/// Whether a table has the check.
///
/// # Errors
/// When the server does not answer.
pub async fn exists(session: &Session, map: &str, table: &MovedTable) -> Result<bool, ServerError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2)";
    let (own, check) = (table.name.to_string(), name(map));
    let row = session.row("look for the owner's check", sql, &[&own, &check.as_str()]).await?;
    Ok(row.get(0))
}

/// Compares the rows that are there with the check. Rows of others are said, and stay: the tool has not brought them.
///
/// # Errors
/// When the server does not answer.
pub async fn validate(
    session: &Session,
    moved: &Move,
    say: &dyn Fn(String),
) -> Result<(), ServerError> {
    for table in &moved.tables {
        if !exists(session, &moved.map, table).await? {
            continue;
        }
        let (own, check) = (&table.name, name(&moved.map));
        let sql = format!("ALTER TABLE {own} VALIDATE CONSTRAINT {check}");
        match session.batch("compare rows with the owner's check", &sql).await {
            Err(why) if why.is(&tokio_postgres::error::SqlState::CHECK_VIOLATION) => say(format!(
                "misplaced-rows: {} has rows of ranges that other shards own; {check} refuses new ones only",
                own.shown()
            )),
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object() -> MapObject {
        let range = |from: &str, shard: &str| json!({ "from": from, "shard": shard, "since": 1, "state": "active" });
        let object = json!({
            "format": 1, "map": "m", "key_type": "int", "epoch": 2,
            "ranges": [range("1", "a"), range("100", "b"), range("200", "c"), range("300", "a")],
            "until": "400", "outside": null, "move": null,
            "changed": { "by": "t", "at": 0, "why": "" }, "mac": "",
        });
        MapObject::read(object.to_string().as_bytes()).expect("a map")
    }

    #[test]
    fn what_others_own_is_refused_and_what_nobody_owns_is_not() {
        let key = Identifier::new("k").expect("a name");
        let of = |shard| condition(&object(), shard, &key, None);
        assert_eq!(
            of("a").as_deref(),
            Some("NOT ((\"k\" >= '100'::bigint AND \"k\" < '300'::bigint))")
        );
        let of_b = of("b").expect("a condition");
        assert!(of_b.contains("\"k\" < '100'") && of_b.contains("\"k\" < '400'"), "{of_b}");
        let range = KeyRange::parse(object().key_type, "100..150").expect("a range");
        let also = condition(&object(), "a", &key, Some(&range)).expect("a condition");
        assert!(also.ends_with(" OR (\"k\" >= '100'::bigint AND \"k\" < '150'::bigint)"), "{also}");
    }
}
