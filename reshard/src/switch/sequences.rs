//! Sequences are not replicated: before the taker is opened, its own stand above both.

use crate::moved::Move;
use crate::server::{ServerError, Session};
use crate::sql::Literal;
use tokio_postgres::Row;

/// Sequences of tables $1 by column: those that belong to it, and those of a default. All tables at once: writes wait for
/// the answer, which may come from far away.
const SEQUENCES: &str = "\
SELECT DISTINCT t.name, a.attname::text, s.seqrelid::regclass::text, s.seqincrement, pg_sequence_last_value(s.seqrelid)
FROM unnest($1::text[]) t (name) JOIN pg_depend d ON d.refobjid = to_regclass(t.name) AND d.classid = 'pg_class'::regclass
  AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
JOIN pg_sequence s ON d.objid = s.seqrelid
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
UNION
SELECT DISTINCT t.name, a.attname::text, s.seqrelid::regclass::text, s.seqincrement, pg_sequence_last_value(s.seqrelid)
FROM unnest($1::text[]) t (name) JOIN pg_attrdef v ON v.adrelid = to_regclass(t.name)
JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = v.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_sequence s ON s.seqrelid = d.refobjid
JOIN pg_attribute a ON a.attrelid = v.adrelid AND a.attnum = v.adnum
ORDER BY 1, 2";

/// A sequence of one side.
struct Sequence {
    /// `"schema"."table".column`, under which the other side has its own.
    name: String,
    /// As PostgreSQL writes it.
    own: String,
    increment: i64,
    /// None: it was never asked for a value.
    last: Option<i64>,
}

async fn read(session: &Session, moved: &Move) -> Result<Vec<Sequence>, ServerError> {
    let tables: Vec<String> = moved.tables.iter().map(|own| own.name.to_string()).collect();
    let rows = session.rows("look at the sequences", SEQUENCES, &[&tables]).await?;
    let of_row = |row: &Row| Sequence {
        name: format!("{}.{}", row.get::<_, String>(0), row.get::<_, String>(1)),
        own: row.get(2),
        increment: row.get(3),
        last: row.get(4),
    };
    Ok(rows.iter().map(of_row).collect())
}

/// Sets the taker's sequences `gap` values above the last of both, and notes where they begin.
///
/// # Errors
/// When a server does not answer, or the role may not set one.
pub async fn set(
    giver: &Session,
    taker: &Session,
    moved: &Move,
    gap: i64,
) -> Result<(), ServerError> {
    let doing = "set the sequences";
    let Some(sql) = setting(giver, taker, moved, gap).await? else { return Ok(()) };
    match taker.execute(doing, &sql, &[]).await? {
        1 => Ok(()),
        _ => Err(ServerError::other(taker.spot(), doing, "the marker's arrival is not noted")),
    }
}

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
    for Sequence { name, increment, last, .. } in read(giver, moved).await? {
        let first = began.iter().find(|row| row.get::<_, String>(0) == name);
        let (Some(first), Some(last)) = (first, last) else { continue };
        let left = (first.get::<_, i64>(1) - last) / increment;
        found.push(Room { name, left: left.max(0) });
    }
    Ok(found)
}

/// The statement for that, with what the giver has used until now; none: no sequence has been asked for a value.
///
/// # Errors
/// When a server does not answer.
pub async fn setting(
    giver: &Session,
    taker: &Session,
    moved: &Move,
    gap: i64,
) -> Result<Option<String>, ServerError> {
    let (own, its) = futures_util::future::try_join(read(giver, moved), read(taker, moved)).await?;
    let literal = |text: &str| {
        let literal = Literal::bare(text);
        literal.map_err(|why| ServerError::other(taker.spot(), "set the sequences", why))
    };
    let mut values = Vec::new();
    for Sequence { name, last, .. } in own {
        let other = its.iter().find(|other| other.name == name);
        let (Some(last), Some(Sequence { own, increment, .. })) = (last, other) else { continue };
        let (name, sequence) = (literal(&name)?, literal(own)?);
        let furthest = if *increment > 0 { "greatest" } else { "least" };
        let gap = gap.saturating_mul(*increment);
        values.push(format!(
            "({name}, setval({sequence}::regclass, {furthest}(pg_sequence_last_value({sequence}::regclass), {last}) + {gap}))"
        ));
    }
    let sql = format!(
        "UPDATE spillway.arrival SET sequences = (SELECT jsonb_object_agg(name, began) FROM (VALUES {}) v (name, began)) \
         WHERE move = {}",
        values.join(", "),
        moved.id
    );
    Ok((!values.is_empty()).then_some(sql))
}
