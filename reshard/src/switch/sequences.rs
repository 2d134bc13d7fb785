//! Sequences are not replicated: before the taker is opened, its own stand above both.

use crate::moved::MovedTable;
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

/// Sets the taker's sequences of a table `gap` values above the last of both.
///
/// # Errors
/// When a server does not answer, or the role may not set one.
pub async fn set(
    giver: &Session,
    taker: &Session,
    table: &MovedTable,
    gap: i64,
) -> Result<(), ServerError> {
    let doing = format!("set the sequences of {}", table.name.shown());
    for sql in setting(giver, taker, table, gap).await? {
        taker.rows(&doing, &sql, &[]).await?;
    }
    Ok(())
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
) -> Result<Vec<String>, ServerError> {
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
        found.push(format!(
            "SELECT setval({sequence}::regclass, {furthest}(pg_sequence_last_value({sequence}::regclass), {last}) + {gap})"
        ));
    }
    Ok(found)
}
