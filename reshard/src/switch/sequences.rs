//! Sequences are not replicated: before the taker is opened, its own stand above both.

use crate::moved::{Move, MoveId, MovedTable};
use crate::server::{ServerError, Session};
use crate::sql::Literal;

/// Sequences of a table by column: those that belong to it, and those of a default.
const SEQUENCES: &str = "\
SELECT DISTINCT a.attname::text, s.seqrelid::regclass::text, s.seqincrement, pg_sequence_last_value(s.seqrelid)
FROM pg_sequence s JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid
  AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.refobjid = to_regclass($1)
UNION
SELECT DISTINCT a.attname::text, s.seqrelid::regclass::text, s.seqincrement, pg_sequence_last_value(s.seqrelid)
FROM pg_attrdef v JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = v.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_sequence s ON s.seqrelid = d.refobjid
JOIN pg_attribute a ON a.attrelid = v.adrelid AND a.attnum = v.adnum
WHERE v.adrelid = to_regclass($1)";

/// Sets the taker's sequences of a table `gap` values above the last of both, and notes where they begin.
///
/// # Errors
/// When a server does not answer, or the role may not set one.
pub async fn set(
    giver: &Session,
    taker: &Session,
    (id, table): (MoveId, &MovedTable),
    gap: i64,
) -> Result<(), ServerError> {
    let doing = format!("set the sequences of {}", table.name.shown());
    for Setting { column, sql } in setting(giver, taker, table, gap).await? {
        let began: i64 = taker.row(&doing, &sql, &[]).await?.get(0);
        let name = format!("{}.{column}", table.name);
        taker.execute(&doing, BEGAN, &[&id.number(), &name, &began]).await?;
    }
    Ok(())
}

/// The statement that notes where the taker's sequence of a column begins.
const BEGAN: &str = "UPDATE spillway.arrival SET sequences = sequences || jsonb_build_object($2::text, $3::bigint) WHERE move = $1";

/// A sequence that both sides count on with: how many values the giver has left before it reaches the taker's first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// `"schema"."table".column`.
    pub name: String,
    pub left: i64,
}

/// How far the giver's sequences are from the taker's, after a switch.
///
/// # Errors
/// When a server does not answer.
pub async fn room(
    giver: &Session,
    taker: &Session,
    moved: &Move,
) -> Result<Vec<Room>, ServerError> {
    let doing = "look at the sequences";
    let sql = "SELECT key, value::bigint FROM spillway.arrival, jsonb_each_text(sequences) WHERE move = $1";
    let began = taker.rows(doing, sql, &[&moved.id.number()]).await?;
    let mut found = Vec::new();
    for table in &moved.tables {
        for own in giver.rows(doing, SEQUENCES, &[&table.name.to_string()]).await? {
            let name = format!("{}.{}", table.name, own.get::<_, String>(0));
            let (increment, last): (i64, Option<i64>) = (own.get(2), own.get(3));
            let first = began.iter().find(|row| row.get::<_, String>(0) == name);
            let (Some(first), Some(last)) = (first, last) else { continue };
            let left = (first.get::<_, i64>(1) - last) / increment;
            found.push(Room { name, left: left.max(0) });
        }
    }
    Ok(found)
}

/// The statement that sets the sequence of a column, and returns its last value then.
pub struct Setting {
    column: String,
    pub sql: String,
}

/// The statements for that, with what the giver has used until now.
///
/// # Errors
/// When a server does not answer.
pub async fn setting(
    giver: &Session,
    taker: &Session,
    table: &MovedTable,
    gap: i64,
) -> Result<Vec<Setting>, ServerError> {
    let doing = format!("look at the sequences of {}", table.name.shown());
    let name = table.name.to_string();
    let its = taker.rows(&doing, SEQUENCES, &[&name]).await?;
    let mut found = Vec::new();
    for own in giver.rows(&doing, SEQUENCES, &[&name]).await? {
        let (column, last): (String, Option<i64>) = (own.get(0), own.get(3));
        let other = its.iter().find(|row| row.get::<_, String>(0) == column);
        let (Some(last), Some(other)) = (last, other) else { continue };
        let (sequence, increment): (String, i64) = (other.get(1), other.get(2));
        let sequence = Literal::bare(&sequence);
        let sequence = sequence.map_err(|why| ServerError::other(taker.spot(), &doing, why))?;
        let furthest = if increment > 0 { "greatest" } else { "least" };
        let gap = gap.saturating_mul(increment);
        let sql = format!(
            "SELECT setval({sequence}::regclass, {furthest}(pg_sequence_last_value({sequence}::regclass), {last}) + {gap})"
        );
        found.push(Setting { column, sql });
    }
    Ok(found)
}
