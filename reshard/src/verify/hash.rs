//! The hash of a row, the same on two servers whose types have other numbers.

use crate::catalog::{Column, Table};
use crate::sql::{Identifier, NameError};
use std::fmt;

/// Types of PostgreSQL with a hash that depends on the value alone. Of all others the text is hashed: enums and
/// composites hash the numbers that their types have on one server, and json, xml, point and the like have no hash.
const HASHED: [&str; 24] = [
    "bool",
    "bpchar",
    "bytea",
    "cidr",
    "date",
    "float4",
    "float8",
    "inet",
    "int2",
    "int4",
    "int8",
    "interval",
    "jsonb",
    "macaddr",
    "name",
    "numeric",
    "oid",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "uuid",
    "varchar",
];
/// Of these the elements must be hashed by their bytes: texts that are equal in a collation may differ.
const TEXTS: [&str; 4] = ["bpchar", "name", "text", "varchar"];

/// Why rows of a table have no hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashError {
    Name(NameError),
    /// The table has no primary key to name its rows by.
    NoKey(String),
}

impl fmt::Display for HashError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(why) => why.fmt(out),
            Self::NoKey(table) => write!(out, "{table} has no primary key to name its rows by"),
        }
    }
}

impl std::error::Error for HashError {}

/// How rows of a table are hashed and named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowHash {
    /// An expression of type numeric over the row `t`, so that a sum has room.
    pub row: String,
    /// An expression of type text that names the row by its primary key.
    pub key: String,
}

impl RowHash {
    /// Takes all columns, also generated ones: both sides must have computed the same.
    ///
    /// # Errors
    /// When there is no primary key.
    pub fn of(table: &Table) -> Result<Self, HashError> {
        if table.primary_key.is_empty() {
            return Err(HashError::NoKey(table.name.shown()));
        }
        Self::of_columns(&table.columns, &table.primary_key)
    }

    fn of_columns(columns: &[Column], primary_key: &[String]) -> Result<Self, HashError> {
        let columns: Result<Vec<String>, NameError> = columns.iter().map(hashed).collect();
        let columns = columns.map_err(HashError::Name)?;
        let keys = primary_key.iter().map(|own| Identifier::new(own).map_err(HashError::Name));
        let keys: Result<Vec<String>, HashError> =
            keys.map(|own| own.map(|own| format!("t.{own}::text"))).collect();
        Ok(Self {
            row: format!("hash_record_extended(ROW({}), 0)::numeric", columns.join(", ")),
            key: format!("(ARRAY[{}]::text[])::text", keys?.join(", ")),
        })
    }
}

fn hashed(column: &Column) -> Result<String, NameError> {
    let name = Identifier::new(&column.name)?;
    let own = column.type_name.strip_prefix("pg_catalog.");
    let element = own.map(|own| own.strip_prefix('_').unwrap_or(own));
    let is_array = own.is_some_and(|own| own.starts_with('_'));
    Ok(match element {
        Some(own) if TEXTS.contains(&own) && !is_array => format!("t.{name} COLLATE \"C\""),
        // An array of texts: its elements may have a collation in which different bytes are equal.
        Some(own) if TEXTS.contains(&own) => format!("t.{name}::text COLLATE \"C\""),
        Some(own) if HASHED.contains(&own) => format!("t.{name}"),
        _ => format!("t.{name}::text COLLATE \"C\""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_hash_of_its_value_alone_is_hashed_as_text() {
        let types = [
            "pg_catalog.int8",
            "pg_catalog.text",
            "pg_catalog._int4",
            "pg_catalog._text",
            "pg_catalog.json",
            "public.mood",
        ];
        let columns = types.iter().zip(["a", "b", "c", "d", "e", "f"]);
        let columns: Vec<Column> =
            columns.map(|(own, name)| Column::sample(name, own, own)).collect();
        let keys = ["a".to_owned(), "b".to_owned()];
        let own = RowHash::of_columns(&columns, &keys).expect("a hash");
        assert_eq!(
            own.row,
            "hash_record_extended(ROW(t.\"a\", t.\"b\" COLLATE \"C\", t.\"c\", t.\"d\"::text COLLATE \"C\", \
             t.\"e\"::text COLLATE \"C\", t.\"f\"::text COLLATE \"C\"), 0)::numeric"
        );
        assert_eq!(own.key, "(ARRAY[t.\"a\"::text, t.\"b\"::text]::text[])::text");
    }
}
