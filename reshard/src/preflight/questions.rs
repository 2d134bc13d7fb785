//! Questions about the rows of the tables that move.

use super::evidence::SideFacts;
use super::key::fitting;
use super::links::holds_range;
use super::row_facts::RowFacts;
use crate::catalog::{Estimate, ForeignKey, Index, Table, TableKind};
use crate::moved::{Move, MovedTable};
use crate::server::{ServerError, Session};
use crate::sql::{Identifier, RowSide, TableName};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Rows of the source that are looked for at the target: enough to find a sequence that counts on both sides, in
/// a fraction of a second.
const COMPARED_MAX: i64 = 10_000;

/// Asks about the rows of one table. What can't be asked has a fault of its own, and leaves its answer empty.
///
/// # Errors
/// When a server is gone. That a question is refused or takes too long is an answer.
pub(super) async fn row_facts(
    moved: &Move,
    place: usize,
    (source, own): (&Session, &SideFacts),
    (target, other): (&Session, &SideFacts),
) -> Result<RowFacts, ServerError> {
    let mut facts = RowFacts::default();
    let table = &moved.tables[place];
    let own = own.tables[place].as_ref().filter(|it| is_askable(moved, table, it, own));
    let other = other.tables[place].as_ref().filter(|it| is_askable(moved, table, it, other));
    let (name, range) = (&table.name, moved.range.condition(&table.key, RowSide::Row));
    if let Some(own) = own {
        facts.bytes = Estimate::of(source, own, &range).await.bytes;
        for key in own.foreign_keys.iter().filter(|key| key.from == own.name) {
            let Some(sql) = stray_question(moved, key) else { continue };
            if ask(source, &sql, &[], &mut facts).await?.is_some_and(|row| row.get(0)) {
                facts.strays.push(key.name.clone());
            }
        }
    }
    if other.is_some() {
        let sql = format!("SELECT EXISTS (SELECT FROM {name})");
        facts.target_has_rows =
            ask(target, &sql, &[], &mut facts).await?.is_some_and(|row| row.get(0));
        let sql = format!("SELECT EXISTS (SELECT FROM {name} WHERE {range})");
        facts.target_has_range =
            ask(target, &sql, &[], &mut facts).await?.is_some_and(|row| row.get(0));
    }
    if let (Some(own), Some(_), true) = (own, other, facts.target_has_rows) {
        let lacks_key = |it: &&Index| it.is_primary && !it.holds(table.key.as_str());
        if let Some(primary) = own.indexes.iter().find(lacks_key) {
            facts.collision =
                collision((source, target), (name, primary), &range, &mut facts).await?;
        }
    }
    Ok(facts)
}

/// Whether a question about the table's rows can be answered.
fn is_askable(moved: &Move, own: &MovedTable, table: &Table, side: &SideFacts) -> bool {
    let column = table.column(own.key.as_str());
    let fits = |it: &str| fitting(moved.range.key_type()).contains(&it);
    let role = &side.server.role;
    let sees_all = !table.has_row_security || role.is_superuser || role.may_bypass_row_security;
    table.kind == TableKind::Ordinary
        && table.rights.may_read
        && sees_all
        && column.is_some_and(|column| fits(&column.type_name))
}

/// Asks one question. A refusal is written down as one that was not answered.
async fn ask(
    session: &Session,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    facts: &mut RowFacts,
) -> Result<Option<Row>, ServerError> {
    match session.rows("look at the rows", sql, parameters).await {
        Ok(rows) => Ok(rows.into_iter().next()),
        // Without a code the server has not answered at all.
        Err(why) if why.state.is_none() => Err(why),
        Err(why) => {
            facts.unanswered.push(why.to_string());
            Ok(None)
        }
    }
}

/// Whether a foreign key between two tables that move ties a row of the range to one that stays; none where that
/// can't be, or the other table stays as a whole.
fn stray_question(moved: &Move, own: &ForeignKey) -> Option<String> {
    let table = |name: &TableName| moved.tables.iter().find(|it| it.name == *name);
    let (from, to) = (table(&own.from)?, table(&own.to)?);
    if holds_range(moved, own) {
        return None;
    }
    let side = |table: &MovedTable, columns: &[String]| {
        let condition = moved.range.condition(&table.key, RowSide::Row);
        let columns = columns.iter().enumerate().map(|(place, name)| {
            let name = Identifier::new(name.as_str()).ok()?;
            Some(format!("{name} AS c{place}"))
        });
        let columns: Option<Vec<String>> = columns.collect();
        let columns = columns?.join(", ");
        Some(format!("(SELECT {columns}, {condition} AS moves FROM {})", table.name))
    };
    let (from, to) = (side(from, &own.columns)?, side(to, &own.to_columns)?);
    let same: Vec<String> =
        (0..own.columns.len()).map(|place| format!("a.c{place} = b.c{place}")).collect();
    Some(format!(
        "SELECT EXISTS (SELECT FROM {from} a JOIN {to} b ON {} WHERE a.moves IS DISTINCT FROM b.moves)",
        same.join(" AND ")
    ))
}

/// A primary key, in words, of a row of the range that another row at the target has.
async fn collision(
    (source, target): (&Session, &Session),
    (table, primary): (&TableName, &Index),
    range: &str,
    facts: &mut RowFacts,
) -> Result<Option<String>, ServerError> {
    let names = primary.columns.iter().map(|name| Identifier::new(name.as_deref()?).ok());
    let Some(names) = names.collect::<Option<Vec<_>>>() else { return Ok(None) };
    let texts: Vec<String> = names.iter().map(|name| format!("{name}::text")).collect();
    let gathered: Vec<String> =
        (0..names.len()).map(|place| format!("coalesce(array_agg(c{place}), '{{}}')")).collect();
    let selected: Vec<String> =
        texts.iter().enumerate().map(|(place, text)| format!("{text} AS c{place}")).collect();
    let sql = format!(
        "SELECT {} FROM (SELECT {} FROM {table} WHERE {range} LIMIT {COMPARED_MAX}) s",
        gathered.join(", "),
        selected.join(", ")
    );
    let Some(row) = ask(source, &sql, &[], facts).await? else { return Ok(None) };
    let values: Vec<Vec<String>> = (0..names.len()).map(|place| row.get(place)).collect();
    let arrays: Vec<String> = (1..=names.len()).map(|place| format!("${place}::text[]")).collect();
    let aliases: Vec<String> = (0..names.len()).map(|place| format!("c{place}")).collect();
    let same: Vec<String> = names
        .iter()
        .zip(&primary.types)
        .enumerate()
        .map(|(place, (name, kind))| format!("t.{name} = u.c{place}::{kind}"))
        .collect();
    let sql = format!(
        "SELECT concat_ws(', ', {}) FROM {table} t JOIN unnest({}) u({}) ON {} LIMIT 1",
        aliases.iter().map(|name| format!("u.{name}")).collect::<Vec<_>>().join(", "),
        arrays.join(", "),
        aliases.join(", "),
        same.join(" AND ")
    );
    let parameters: Vec<&(dyn ToSql + Sync)> =
        values.iter().map(|own| own as &(dyn ToSql + Sync)).collect();
    let found = ask(target, &sql, &parameters, facts).await?;
    Ok(found.map(|row| row.get(0)))
}
