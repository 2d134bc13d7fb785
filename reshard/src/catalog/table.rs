//! A table with its columns and its keys.

use super::index::{CheckConstraint, ForeignKey, Index};
use super::letter::letter;
use super::links::Links;
use crate::server::{ServerError, Session};
use crate::sql::TableName;
use tokio_postgres::types::Oid;

/// What kind of relation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    Ordinary,
    Partitioned,
    /// A view, a foreign table, an index: it can't be moved. The letter is that of `pg_class.relkind`.
    Other(char),
}

/// By which columns a replicated UPDATE or DELETE finds its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// An index that was chosen.
    Index,
    /// All columns.
    Full,
    Nothing,
}

/// One column, in the table's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub number: i16,
    pub name: String,
    /// The type as SQL writes it: `numeric(10,2)`.
    pub written_type: String,
    /// Schema and name of the type: `pg_catalog.int8`.
    pub type_name: String,
    /// `pg_type.typtype`: b, c, d (domain), e, m, p, r.
    pub type_kind: char,
    pub is_not_null: bool,
    pub default: Option<String>,
    /// `pg_attribute.attgenerated`: s (stored), v (virtual); none: an ordinary column.
    pub generated: Option<char>,
    /// `pg_attribute.attidentity`: a (always), d (by default).
    pub identity: Option<char>,
    /// Schema and name of a collation that is not the type's default.
    pub collation: Option<String>,
    /// Whether equal texts may have different bytes.
    pub is_nondeterministic: bool,
    /// What the type, or that of its elements, is made of: labels of an enum, attributes of a composite, base and
    /// checks of a domain.
    pub made_of: Option<String>,
}

/// What our role may do with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableRights {
    /// To see its schema and read its rows.
    pub may_read: bool,
    /// To act as its owner: triggers, publications and indexes need it.
    pub is_owner: bool,
    /// To become its owner by SET ROLE.
    pub may_become_owner: bool,
}

/// A table as one server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub oid: Oid,
    pub name: TableName,
    pub kind: TableKind,
    /// `pg_class.relpersistence`: p, u (unlogged), t.
    pub persistence: char,
    pub owner: String,
    pub is_partition: bool,
    pub has_row_security: bool,
    pub rights: TableRights,
    pub identity: ReplicaIdentity,
    /// Names of the primary key's columns, in its order; empty: there is none.
    pub primary_key: Vec<String>,
    /// Names of the columns of the replica identity, in the index's order; all columns of a FULL one.
    pub identity_columns: Vec<String>,
    /// Size in bytes with indexes and TOAST.
    pub bytes: i64,
    pub columns: Vec<Column>,
    pub indexes: Vec<Index>,
    pub checks: Vec<CheckConstraint>,
    /// From it and to it.
    pub foreign_keys: Vec<ForeignKey>,
    pub links: Links,
}

const TABLE: &str = "\
SELECT c.oid, c.relkind, c.relpersistence, pg_get_userbyid(c.relowner)::text AS owner, c.relispartition,
       c.relrowsecurity, c.relreplident, pg_total_relation_size(c.oid) AS bytes,
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS may_read,
       pg_has_role(c.relowner, 'USAGE') AS is_owner, pg_has_role(c.relowner, $3) AS may_become_owner,
       ARRAY(SELECT a.attname::text FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(number, place)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
             WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND k.place <= i.indnkeyatts
             ORDER BY k.place) AS primary_key,
       ARRAY(SELECT a.attname::text FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(number, place)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
             WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND k.place <= i.indnkeyatts
             ORDER BY k.place) AS chosen
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2";

const COLUMNS: &str = "\
SELECT a.attnum, a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS written_type,
       tn.nspname || '.' || t.typname AS type_name, t.typtype, a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid) AS default, a.attgenerated, a.attidentity,
       CASE WHEN a.attcollation <> t.typcollation THEN ln.nspname || '.' || l.collname END AS collation,
       NOT coalesce(l.collisdeterministic, true) AS is_nondeterministic,
       CASE e.typtype
         WHEN 'e' THEN (SELECT string_agg(v.enumlabel, ', ' ORDER BY v.enumsortorder) FROM pg_enum v WHERE v.enumtypid = e.oid)
         WHEN 'c' THEN (SELECT string_agg(f.attname || ' ' || format_type(f.atttypid, f.atttypmod), ', ' ORDER BY f.attnum)
                        FROM pg_attribute f WHERE f.attrelid = e.typrelid AND f.attnum > 0 AND NOT f.attisdropped)
         WHEN 'd' THEN format_type(e.typbasetype, e.typtypmod) || coalesce((SELECT string_agg(
                        ' ' || pg_get_constraintdef(k.oid), '' ORDER BY k.conname) FROM pg_constraint k WHERE k.contypid = e.oid), '')
       END AS made_of
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace
JOIN pg_type e ON e.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

impl Table {
    /// Reads a table; none where the server has none of that name.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read(session: &Session, name: &TableName) -> Result<Option<Self>, ServerError> {
        let doing = format!("read what table {} is", name.shown());
        let (schema, own) = (name.schema.as_str(), name.name.as_str());
        // 16 tells membership from the right to SET ROLE.
        let becoming = if session.major() >= 16 { "SET" } else { "MEMBER" };
        let rows = session.rows(&doing, TABLE, &[&schema, &own, &becoming]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let oid: Oid = row.get("oid");
        let columns = session.rows(&doing, COLUMNS, &[&oid]).await?;
        let columns: Vec<Column> = columns.iter().map(Column::of_row).collect();
        let identity = match letter(row.get("relreplident")) {
            Some('d') => ReplicaIdentity::Default,
            Some('i') => ReplicaIdentity::Index,
            Some('f') => ReplicaIdentity::Full,
            _ => ReplicaIdentity::Nothing,
        };
        let primary_key: Vec<String> = row.get("primary_key");
        let identity_columns = match identity {
            ReplicaIdentity::Default => primary_key.clone(),
            ReplicaIdentity::Index => row.get("chosen"),
            ReplicaIdentity::Full => columns.iter().map(|own| own.name.clone()).collect(),
            ReplicaIdentity::Nothing => Vec::new(),
        };
        Ok(Some(Self {
            oid,
            name: name.clone(),
            kind: match letter(row.get("relkind")) {
                Some('r') => TableKind::Ordinary,
                Some('p') => TableKind::Partitioned,
                other => TableKind::Other(other.unwrap_or('?')),
            },
            persistence: letter(row.get("relpersistence")).unwrap_or('?'),
            owner: row.get("owner"),
            is_partition: row.get("relispartition"),
            has_row_security: row.get("relrowsecurity"),
            rights: TableRights {
                may_read: row.get("may_read"),
                is_owner: row.get("is_owner"),
                may_become_owner: row.get("may_become_owner"),
            },
            identity,
            primary_key,
            identity_columns,
            bytes: row.get("bytes"),
            columns,
            indexes: Index::read_all(session, oid).await?,
            checks: CheckConstraint::read_all(session, oid).await?,
            foreign_keys: ForeignKey::read_all(session, oid).await?,
            links: Links::read(session, oid).await?,
        }))
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|own| own.name == name)
    }
}

impl Column {
    /// A column of a type of PostgreSQL's own that may be NULL and has nothing special, for tests.
    #[cfg(test)]
    pub(crate) fn sample(name: &str, written_type: &str, type_name: &str) -> Self {
        Self {
            number: 1,
            name: name.to_owned(),
            written_type: written_type.to_owned(),
            type_name: type_name.to_owned(),
            type_kind: 'b',
            is_not_null: false,
            default: None,
            generated: None,
            identity: None,
            collation: None,
            is_nondeterministic: false,
            made_of: None,
        }
    }

    fn of_row(row: &tokio_postgres::Row) -> Self {
        Self {
            number: row.get("attnum"),
            name: row.get("name"),
            written_type: row.get("written_type"),
            type_name: row.get("type_name"),
            type_kind: letter(row.get("typtype")).unwrap_or('?'),
            is_not_null: row.get("attnotnull"),
            default: row.get("default"),
            generated: letter(row.get("attgenerated")),
            identity: letter(row.get("attidentity")),
            collation: row.get("collation"),
            is_nondeterministic: row.get("is_nondeterministic"),
            made_of: row.get("made_of"),
        }
    }
}
