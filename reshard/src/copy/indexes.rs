//! Keys, indexes and foreign keys of an empty target: loading without them takes less than half of the CPU time. What
//! is removed stands in the journal before, and every way out puts it back.

use crate::catalog::Table;
use crate::journal::{KeyIndex, Removed, RemovedKind};
use crate::moved::MovedTable;
use crate::server::{ServerError, Session};
use futures_util::future::try_join_all;
use std::cell::RefCell;
use std::collections::VecDeque;

/// Constraints that can be made again from what PostgreSQL says of them. One whose index has a tablespace, a
/// comment, statistics of its own or the table's order stays, as these would be lost.
const CONSTRAINTS: &str = "\
SELECT quote_ident(c.conname), c.contype = 'f', pg_get_constraintdef(c.oid), coalesce(i.indisreplident, false),
  c.contype IN ('p', 'u') AND a.amname = 'btree', quote_ident(n.nspname) || '.' || quote_ident(x.relname), pg_get_indexdef(x.oid),
  CASE c.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END || ' USING INDEX ' || quote_ident(x.relname)
    || CASE WHEN c.condeferrable THEN ' DEFERRABLE' ELSE '' END || CASE WHEN c.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END
FROM pg_constraint c LEFT JOIN pg_index i ON i.indexrelid = c.conindid AND c.contype <> 'f'
LEFT JOIN pg_class x ON x.oid = i.indexrelid LEFT JOIN pg_namespace n ON n.oid = x.relnamespace
LEFT JOIN pg_am a ON a.oid = x.relam
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
                by_index: row.get::<_, Option<bool>>(4).unwrap_or_default().then(|| KeyIndex {
                    name: row.get(5),
                    definition: row.get(6),
                    using: row.get(7),
                }),
                is_replica_identity: row.get(3),
            });
        }
        for row in target.rows(&doing, INDEXES, &[&table.oid, &all]).await? {
            found.push(Removed {
                table: table.name.to_string(),
                name: row.get(0),
                kind: RemovedKind::Index,
                definition: row.get(1),
                by_index: None,
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
    // Of a key there may be the index alone: a tool was killed between both.
    let keys = removed.iter().filter_map(|own| own.by_index.as_ref()).map(|own| &own.name);
    let indexes = of(RemovedKind::Index).map(|own| &own.name).chain(keys);
    let indexes = indexes.map(|name| format!("DROP INDEX IF EXISTS {name}"));
    constraints.chain(indexes).collect()
}

/// What makes something again, unless it is there.
struct Making<'r> {
    own: &'r Removed,
    is_index: bool,
    name: &'r str,
    sql: String,
}

/// Everything that was removed, first what several sessions make side by side: indexes. Then, one after the other, what
/// locks the whole table: keys, and foreign keys that lead to them.
fn makings(removed: &[Removed]) -> [Vec<Making<'_>>; 2] {
    let (mut indexes, mut keys, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
    for own in removed {
        let Removed { table, name, definition, .. } = own;
        let add = |what| format!("ALTER TABLE {table} ADD CONSTRAINT {name} {what}");
        let of = |is_index, name, sql| Making { own, is_index, name, sql };
        match (own.kind, &own.by_index) {
            (RemovedKind::Index, _) => indexes.push(of(true, name, definition.clone())),
            (RemovedKind::Key, Some(index)) => {
                indexes.push(of(true, &index.name, index.definition.clone()));
                keys.push(of(false, name, add(&index.using)));
            }
            (RemovedKind::Key, None) => keys.push(of(false, name, add(definition))),
            (RemovedKind::ForeignKey, _) => foreign.push(of(false, name, add(definition))),
        }
    }
    keys.extend(foreign);
    [indexes, keys]
}

/// The statement that lets updates of replicated rows find them by an index again.
fn identity(own: &Removed) -> Option<String> {
    // The name of an index stands with its schema, which this statement does not take.
    let index = own.name.rsplit_once("\".").map_or(own.name.as_str(), |(_, index)| index);
    let index = index.rsplit_once('.').map_or(index, |(_, index)| index);
    let sql = format!("ALTER TABLE {} REPLICA IDENTITY USING INDEX {index}", own.table);
    own.is_replica_identity.then_some(sql)
}

/// Statements that make everything again.
pub fn restoration(removed: &[Removed]) -> Vec<String> {
    let made = makings(removed).into_iter().flatten().map(|making| making.sql);
    made.chain(removed.iter().filter_map(identity)).collect()
}

/// Whether it is there.
async fn is_there(target: &Session, making: &Making<'_>) -> Result<bool, ServerError> {
    let sql = if making.is_index {
        "SELECT to_regclass($2) IS NOT NULL AND $1::text IS NOT NULL"
    } else {
        "SELECT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass($1) AND quote_ident(conname) = $2)"
    };
    let row = target.row("look for an index", sql, &[&making.own.table, &making.name]).await?;
    Ok(row.get(0))
}

/// Makes everything again that is not there: indexes by all sessions side by side, then by the first one keys and foreign
/// keys, whose rows are checked by that.
///
/// # Errors
/// When rows contradict a key, or the server refuses a statement.
pub async fn restore(
    sessions: &[&Session],
    removed: &[Removed],
    say: &dyn Fn(String),
) -> Result<(), ServerError> {
    let [indexes, others] = makings(removed);
    let left = RefCell::new(VecDeque::from(indexes));
    let work = sessions.iter().map(|session| make_all(session, &left, say));
    try_join_all(work).await?;
    let Some(target) = sessions.first() else { return Ok(()) };
    make_all(target, &RefCell::new(VecDeque::from(others)), say).await?;
    for own in removed {
        let doing = format!("set the replica identity of {}", own.table);
        let has_one = "SELECT EXISTS (SELECT 1 FROM pg_index WHERE indrelid = to_regclass($1) AND indisreplident)";
        let Some(sql) = identity(own) else { continue };
        if !target.row(&doing, has_one, &[&own.table]).await?.get::<_, bool>(0) {
            target.batch(&doing, &sql).await?;
        }
    }
    Ok(())
}

async fn make_all(
    target: &Session,
    left: &RefCell<VecDeque<Making<'_>>>,
    say: &dyn Fn(String),
) -> Result<(), ServerError> {
    loop {
        let next = left.borrow_mut().pop_front();
        let Some(making) = next else { return Ok(()) };
        if is_there(target, &making).await? {
            continue;
        }
        let what = format!("{} on {}", making.name, making.own.table);
        say(format!("{}: makes {what}", target.spot().shard));
        target.batch(&format!("make {what} again"), &making.sql).await?;
    }
}
