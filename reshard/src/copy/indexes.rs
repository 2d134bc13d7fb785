//! Keys, indexes and foreign keys of an empty target: loading without them takes less than half of the CPU time. What
//! is removed stands in the journal before, and every way out puts it back.

use crate::catalog::Table;
use crate::journal::{Removed, RemovedKind};
use crate::moved::MovedTable;
use crate::server::{ServerError, Session};

/// Constraints that can be made again from what PostgreSQL says of them. One whose index has a tablespace, a
/// comment, statistics of its own or the table's order stays, as these would be lost.
const CONSTRAINTS: &str = "\
SELECT quote_ident(c.conname), c.contype = 'f', pg_get_constraintdef(c.oid), coalesce(i.indisreplident, false)
FROM pg_constraint c LEFT JOIN pg_index i ON i.indexrelid = c.conindid AND c.contype <> 'f'
LEFT JOIN pg_class x ON x.oid = i.indexrelid
WHERE c.conrelid = $1 AND c.contype IN ('p', 'u', 'x', 'f') AND c.conparentid = 0
  AND obj_description(c.oid, 'pg_constraint') IS NULL
  AND (c.contype = 'f' OR (x.reltablespace = 0 AND NOT i.indisclustered AND i.indisvalid
       AND obj_description(x.oid, 'pg_class') IS NULL
       AND NOT EXISTS (SELECT 1 FROM pg_constraint f WHERE f.conindid = x.oid AND f.contype = 'f' AND f.conrelid <> ALL ($2))))
ORDER BY 1";
const INDEXES: &str = "\
SELECT quote_ident(n.nspname) || '.' || quote_ident(x.relname), pg_get_indexdef(x.oid), i.indisreplident
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace
WHERE i.indrelid = $1 AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = x.oid AND c.conrelid = $1 AND c.contype IN ('p', 'u', 'x'))
  AND x.reltablespace = 0 AND NOT i.indisclustered AND i.indisvalid AND obj_description(x.oid, 'pg_class') IS NULL
  AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = x.oid AND a.attstattarget >= 0)
  AND NOT EXISTS (SELECT 1 FROM pg_constraint f WHERE f.conindid = x.oid AND f.contype = 'f' AND f.conrelid <> ALL ($2))
ORDER BY 1";

/// The tables from which something was removed.
pub fn bare<'m>(
    removed: &'m [Removed],
    tables: &'m [MovedTable],
) -> impl Iterator<Item = &'m MovedTable> {
    let is_bare =
        |table: &&MovedTable| removed.iter().any(|own| own.table == table.name.to_string());
    tables.iter().filter(is_bare)
}

/// What can be removed from these tables of the target.
///
/// # Errors
/// When the server does not answer.
pub async fn removable(target: &Session, tables: &[&Table]) -> Result<Vec<Removed>, ServerError> {
    let mut found = Vec::new();
    let all: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    for table in tables {
        let doing = format!("read the indexes of {}", table.name.shown());
        for row in target.rows(&doing, CONSTRAINTS, &[&table.oid, &all]).await? {
            let is_foreign: bool = row.get(1);
            found.push(Removed {
                table: table.name.to_string(),
                name: row.get(0),
                kind: if is_foreign { RemovedKind::ForeignKey } else { RemovedKind::Key },
                definition: row.get(2),
                is_replica_identity: row.get(3),
            });
        }
        for row in target.rows(&doing, INDEXES, &[&table.oid, &all]).await? {
            found.push(Removed {
                table: table.name.to_string(),
                name: row.get(0),
                kind: RemovedKind::Index,
                definition: row.get(1),
                is_replica_identity: row.get(2),
            });
        }
    }
    Ok(found)
}

/// Statements that remove them: foreign keys before the keys that they lead to.
pub fn removal(removed: &[Removed]) -> Vec<String> {
    let of = |kind| removed.iter().filter(move |own: &&Removed| own.kind == kind);
    let constraints = of(RemovedKind::ForeignKey).chain(of(RemovedKind::Key));
    let constraints = constraints
        .map(|own| format!("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}", own.table, own.name));
    let indexes = of(RemovedKind::Index).map(|own| format!("DROP INDEX IF EXISTS {}", own.name));
    constraints.chain(indexes).collect()
}

/// Statements that make one of them again.
pub fn restoration(own: &Removed) -> Vec<String> {
    let Removed { table, name, definition, .. } = own;
    let mut found = match own.kind {
        RemovedKind::Index => vec![definition.clone()],
        RemovedKind::Key | RemovedKind::ForeignKey => {
            vec![format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")]
        }
    };
    if own.is_replica_identity {
        // The name of an index stands with its schema, which this statement does not take.
        let index = name.rsplit_once("\".").map_or(name.as_str(), |(_, index)| index);
        let index = index.rsplit_once('.').map_or(index, |(_, index)| index);
        found.push(format!("ALTER TABLE {table} REPLICA IDENTITY USING INDEX {index}"));
    }
    found
}

/// Whether it is there.
async fn is_there(target: &Session, own: &Removed) -> Result<bool, ServerError> {
    let sql = match own.kind {
        RemovedKind::Index => "SELECT to_regclass($2) IS NOT NULL AND $1::text IS NOT NULL",
        RemovedKind::Key | RemovedKind::ForeignKey => {
            "SELECT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass($1) AND quote_ident(conname) = $2)"
        }
    };
    let row = target.row("look for an index", sql, &[&own.table, &own.name]).await?;
    Ok(row.get(0))
}

/// Makes everything again that is not there: keys and indexes, then foreign keys, whose rows are checked by that.
///
/// # Errors
/// When rows contradict a key, or the server refuses a statement.
pub async fn restore(
    target: &Session,
    removed: &[Removed],
    say: &dyn Fn(String),
) -> Result<(), ServerError> {
    let (foreign, others): (Vec<&Removed>, Vec<&Removed>) =
        removed.iter().partition(|own| own.kind == RemovedKind::ForeignKey);
    for own in others.into_iter().chain(foreign) {
        if is_there(target, own).await? {
            continue;
        }
        say(format!("{}: makes {} on {}", target.spot().shard, own.name, own.table));
        let sql = restoration(own).join(";\n");
        target.batch(&format!("make {} on {} again", own.name, own.table), &sql).await?;
    }
    Ok(())
}
