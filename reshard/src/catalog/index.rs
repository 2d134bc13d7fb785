//! Indexes, checks and foreign keys of a table.

use crate::server::{ServerError, Session};
use crate::sql::{Identifier, TableName};
use tokio_postgres::Row;
use tokio_postgres::types::Oid;

/// Constraints of this tool, which differ from shard to shard by their nature.
const OWN_CHECKS: &str = "spillway_owns_%";

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub name: String,
    pub is_unique: bool,
    pub is_primary: bool,
    pub is_valid: bool,
    /// Names of its key columns; none for an expression.
    pub columns: Vec<Option<String>>,
    /// The types of its key columns as SQL writes them.
    pub types: Vec<String>,
    /// Whether it holds some rows only.
    pub is_partial: bool,
    /// What it is but for its name: `UNIQUE USING btree (k, id)`.
    pub shape: String,
}

/// A CHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckConstraint {
    pub name: String,
    /// `CHECK ((n > 0))`.
    pub text: String,
}

/// A foreign key from or to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    pub name: String,
    pub from: TableName,
    pub columns: Vec<String>,
    pub to: TableName,
    pub to_columns: Vec<String>,
    /// `FOREIGN KEY (id) REFERENCES …`.
    pub text: String,
}

const INDEXES: &str = "\
SELECT c.relname::text AS name, i.indisunique OR i.indisexclusion AS is_unique, i.indisprimary,
       i.indisvalid AND i.indisready AS is_valid, i.indpred IS NOT NULL AS is_partial,
       CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END
         || substr(pg_get_indexdef(i.indexrelid), strpos(pg_get_indexdef(i.indexrelid), ' USING ') + 1) AS shape,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(number, place)
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number > 0
             WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns,
       ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
             WHERE a.attrelid = i.indexrelid AND a.attnum <= i.indnkeyatts ORDER BY a.attnum) AS types
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1 ORDER BY c.relname";

const CHECKS: &str = "\
SELECT conname::text AS name, pg_get_constraintdef(oid) AS text FROM pg_constraint
WHERE conrelid = $1 AND contype = 'c' AND conname NOT LIKE $2 ORDER BY conname";

const FOREIGN_KEYS: &str = "\
SELECT k.conname::text AS name, pg_get_constraintdef(k.oid) AS text,
       fn.nspname::text AS from_schema, f.relname::text AS from_name,
       tn.nspname::text AS to_schema, t.relname::text AS to_name,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(number, place)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(number, place)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place) AS to_columns
FROM pg_constraint k JOIN pg_class f ON f.oid = k.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE k.contype = 'f' AND (k.conrelid = $1 OR k.confrelid = $1) ORDER BY k.conname";

impl Index {
    /// All indexes of a table.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read_all(session: &Session, table: Oid) -> Result<Vec<Self>, ServerError> {
        let rows = session.rows("read the indexes", INDEXES, &[&table]).await?;
        let of_row = |row: &Row| Self {
            name: row.get("name"),
            is_unique: row.get("is_unique"),
            is_primary: row.get("indisprimary"),
            is_valid: row.get("is_valid"),
            columns: row.get("columns"),
            types: row.get("types"),
            is_partial: row.get("is_partial"),
            shape: row.get("shape"),
        };
        Ok(rows.iter().map(of_row).collect())
    }

    /// Whether the column is one of its key columns.
    pub fn holds(&self, column: &str) -> bool {
        self.columns.iter().flatten().any(|own| own == column)
    }
}

impl CheckConstraint {
    /// All checks of a table but those of this tool.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read_all(session: &Session, table: Oid) -> Result<Vec<Self>, ServerError> {
        let rows = session.rows("read the checks", CHECKS, &[&table, &OWN_CHECKS]).await?;
        Ok(rows.iter().map(|row| Self { name: row.get("name"), text: row.get("text") }).collect())
    }
}

impl ForeignKey {
    /// All foreign keys from and to a table.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read_all(session: &Session, table: Oid) -> Result<Vec<Self>, ServerError> {
        let doing = "read the foreign keys";
        let rows = session.rows(doing, FOREIGN_KEYS, &[&table]).await?;
        let named = |row: &Row, schema: &str, name: &str| {
            let part = |column: &str| Identifier::new(row.get::<_, String>(column));
            match (part(schema), part(name)) {
                (Ok(schema), Ok(name)) => Ok(TableName { schema, name }),
                (Err(why), _) | (_, Err(why)) => {
                    Err(ServerError::other(session.spot(), doing, why))
                }
            }
        };
        let of_row = |row: &Row| {
            Ok(Self {
                name: row.get("name"),
                from: named(row, "from_schema", "from_name")?,
                columns: row.get("columns"),
                to: named(row, "to_schema", "to_name")?,
                to_columns: row.get("to_columns"),
                text: row.get("text"),
            })
        };
        rows.iter().map(of_row).collect()
    }
}
