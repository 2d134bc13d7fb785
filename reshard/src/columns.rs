//! Whether both sides of a move still have the same columns: somebody may change a table while its rows move, and
//! replication carries rows, not definitions.

use crate::catalog::{Column, Table};
use crate::moved::{Move, MovedTable};
use crate::server::{ServerError, Session};
use crate::sql::Identifier;
use std::fmt;

/// A column that is not the same on both sides, and the two ways in which it becomes so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferentColumn {
    /// What differs, as a sentence without its full stop.
    pub what: String,
    /// A shard and the statement to run there; either of them will do.
    pub remedies: [(String, String); 2],
}

impl fmt::Display for DifferentColumn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(shard, sql), (other, other_sql)] = &self.remedies;
        write!(
            out,
            "{}: run at shard `{shard}`: {sql}; or at shard `{other}`: {other_sql};",
            self.what
        )
    }
}

/// For people: all that differs.
pub fn shown(found: &[DifferentColumn]) -> String {
    let lines: Vec<String> = found.iter().map(DifferentColumn::to_string).collect();
    lines.join("\n  ")
}

/// What differs now between the tables of a move.
///
/// # Errors
/// When a server does not answer.
pub async fn different(
    from: &Session,
    to: &Session,
    moved: &Move,
) -> Result<Vec<DifferentColumn>, ServerError> {
    let mut found = Vec::new();
    for table in &moved.tables {
        let (own, its) = futures_util::future::join(
            Table::read(from, &table.name),
            Table::read(to, &table.name),
        )
        .await;
        // One that is gone is told by whoever needs it.
        if let (Some(own), Some(its)) = (own?, its?) {
            let shards = [&*from.spot().shard, &*to.spot().shard];
            found.extend(compare(table, shards, [&own.columns, &its.columns]));
        }
    }
    Ok(found)
}

/// Defaults are left out: they do not matter to rows that move, and a preflight may have accepted that they differ.
fn compare(
    table: &MovedTable,
    shards: [&str; 2],
    [own, its]: [&[Column]; 2],
) -> Vec<DifferentColumn> {
    let name = &table.name;
    let sides = |sql: [String; 2]| {
        let [first, second] = sql;
        [(shards[1].to_owned(), first), (shards[0].to_owned(), second)]
    };
    let mut found = Vec::new();
    for column in own {
        let Some(other) = its.iter().find(|other| other.name == column.name) else {
            let remedies = sides([addition(table, column), removal(table, column)]);
            found.push(missing(table, column, shards[0], remedies));
            continue;
        };
        let alter =
            |what: String| format!("ALTER TABLE {name} ALTER COLUMN {} {what}", quoted(column));
        if type_of(column) != type_of(other) {
            let [first, second] = [type_of(column), type_of(other)];
            found.push(DifferentColumn {
                what: format!(
                    "columns-differ: column {} of {} is of type {first} at shard `{}` and of type {second} at shard `{}`",
                    column.name,
                    name.shown(),
                    shards[0],
                    shards[1]
                ),
                remedies: sides([&column.written_type, &other.written_type].map(|own| alter(format!("TYPE {own}")))),
            });
        }
        if column.is_not_null != other.is_not_null {
            let nullable = |own: &Column| {
                alter(if own.is_not_null { "SET NOT NULL" } else { "DROP NOT NULL" }.to_owned())
            };
            let shard = shards[usize::from(other.is_not_null)];
            found.push(DifferentColumn {
                what: format!(
                    "columns-differ: column {} of {} is NOT NULL at shard `{shard}` only",
                    column.name,
                    name.shown()
                ),
                remedies: sides([nullable(column), nullable(other)]),
            });
        }
    }
    let is_new = |column: &&Column| own.iter().all(|own| own.name != column.name);
    found.extend(its.iter().filter(is_new).map(|column| {
        let remedies = sides([removal(table, column), addition(table, column)]);
        missing(table, column, shards[1], remedies)
    }));
    found
}

fn missing(
    table: &MovedTable,
    column: &Column,
    shard: &str,
    remedies: [(String, String); 2],
) -> DifferentColumn {
    let what = format!(
        "columns-differ: column {} of {} is at shard `{shard}` only",
        column.name,
        table.name.shown()
    );
    DifferentColumn { what, remedies }
}

/// With what it is made of: an enum that got another label differs, too.
fn type_of(column: &Column) -> String {
    let made_of = column.made_of.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
    format!("{}{made_of}", column.written_type)
}

fn quoted(column: &Column) -> String {
    // PostgreSQL takes no name that this refuses.
    Identifier::new(&column.name).map_or_else(|_| column.name.clone(), |name| name.to_string())
}

fn addition(table: &MovedTable, column: &Column) -> String {
    let mut sql =
        format!("ALTER TABLE {} ADD COLUMN {} {}", table.name, quoted(column), column.written_type);
    if let Some(collation) = &column.collation {
        sql.push_str(&format!(" COLLATE {collation}"));
    }
    match (column.generated, &column.default) {
        (Some(kind), Some(text)) => {
            let kind = if kind == 'v' { "VIRTUAL" } else { "STORED" };
            sql.push_str(&format!(" GENERATED ALWAYS AS ({text}) {kind}"));
        }
        (None, Some(text)) => sql.push_str(&format!(" DEFAULT {text}")),
        (_, None) => {}
    }
    match column.identity {
        Some('a') => sql.push_str(" GENERATED ALWAYS AS IDENTITY"),
        Some(_) => sql.push_str(" GENERATED BY DEFAULT AS IDENTITY"),
        None => {}
    }
    if column.is_not_null {
        sql.push_str(" NOT NULL");
    }
    sql
}

fn removal(table: &MovedTable, column: &Column) -> String {
    format!("ALTER TABLE {} DROP COLUMN {}", table.name, quoted(column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::TableName;

    fn column(name: &str, written_type: &str, is_not_null: bool) -> Column {
        let type_name = format!("pg_catalog.{written_type}");
        Column { is_not_null, ..Column::sample(name, written_type, &type_name) }
    }

    fn found(own: &[Column], its: &[Column]) -> Vec<String> {
        let (name, _) = TableName::read_with_column("shop.t").expect("a table");
        let key = Identifier::new("k").expect("a name");
        let table = MovedTable { name, key };
        compare(&table, ["b", "d"], [own, its]).iter().map(DifferentColumn::to_string).collect()
    }

    #[test]
    fn a_column_of_one_side_is_added_to_the_other_or_dropped() {
        let added = Column { default: Some("7".to_owned()), ..column("New", "integer", true) };
        let at_b = r#"columns-differ: column New of shop.t is at shard `b` only: run at shard `d`: ALTER TABLE "shop"."t" ADD COLUMN "New" integer DEFAULT 7 NOT NULL; or at shard `b`: ALTER TABLE "shop"."t" DROP COLUMN "New";"#;
        let at_d = r#"columns-differ: column New of shop.t is at shard `d` only: run at shard `d`: ALTER TABLE "shop"."t" DROP COLUMN "New"; or at shard `b`: ALTER TABLE "shop"."t" ADD COLUMN "New" integer DEFAULT 7 NOT NULL;"#;
        let both = [column("k", "bigint", true)];
        let more = [both[0].clone(), added];
        assert_eq!(found(&more, &both), [at_b]);
        assert_eq!(found(&both, &more), [at_d]);
        assert_eq!(found(&more, &more), [""; 0]);
    }

    #[test]
    fn a_column_that_was_altered_is_altered_on_either_side() {
        let before = [column("k", "integer", true), column("n", "text", false)];
        let after = [column("k", "bigint", true), column("n", "text", true)];
        let said = found(&after, &before);
        assert_eq!(
            said,
            [
                r#"columns-differ: column k of shop.t is of type bigint at shard `b` and of type integer at shard `d`: run at shard `d`: ALTER TABLE "shop"."t" ALTER COLUMN "k" TYPE bigint; or at shard `b`: ALTER TABLE "shop"."t" ALTER COLUMN "k" TYPE integer;"#,
                r#"columns-differ: column n of shop.t is NOT NULL at shard `b` only: run at shard `d`: ALTER TABLE "shop"."t" ALTER COLUMN "n" SET NOT NULL; or at shard `b`: ALTER TABLE "shop"."t" ALTER COLUMN "n" DROP NOT NULL;"#,
            ]
        );
    }
}
