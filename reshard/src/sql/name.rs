//! Names of PostgreSQL's objects, always quoted where they stand in SQL.

use std::fmt;

/// The longest name in bytes (NAMEDATALEN less its end). PostgreSQL cuts a longer one off without an error, so
/// that it would mean something else.
pub const IDENTIFIER_BYTES_MAX: usize = 63;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// It has no letter at all.
    Empty,
    /// It is longer than [`IDENTIFIER_BYTES_MAX`].
    TooLong(String),
    /// It contains the byte 0, which PostgreSQL's protocol ends a text with.
    Nul,
    /// A quote is not closed, or something stands beside the quoted text.
    Unreadable(String),
}

impl fmt::Display for NameError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => out.write_str("a name is empty"),
            Self::TooLong(name) => write!(
                out,
                "the name `{name}` has more than {IDENTIFIER_BYTES_MAX} bytes: PostgreSQL would cut it off"
            ),
            Self::Nul => out.write_str("a name contains the byte 0"),
            Self::Unreadable(text) => write!(
                out,
                "`{text}` can't be read as a name: write schema.table, with double quotes around a part that has capitals or special characters"
            ),
        }
    }
}

impl std::error::Error for NameError {}

/// A name of PostgreSQL as the catalog has it. `Display` writes it quoted, for SQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier(String);

impl Identifier {
    /// Takes a name exactly as it is written.
    ///
    /// # Errors
    /// When PostgreSQL could not have an object of that name.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > IDENTIFIER_BYTES_MAX {
            return Err(NameError::TooLong(name));
        }
        if name.contains('\0') {
            return Err(NameError::Nul);
        }
        Ok(Self(name))
    }

    /// The name of something that a move creates: it has few letters and none that is special.
    pub(crate) fn of_move(what: &'static str, number: u32) -> Self {
        Self(format!("{what}_{number}"))
    }

    /// The name of a shard's own check of a map, whose name has few letters and none that is special.
    pub(crate) fn of_check(map: &str) -> Self {
        Self(format!("spillway_owns_{map}"))
    }

    /// The name without quotes, for parameters and messages.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a name at the start of the text as PostgreSQL does, and returns what follows it: quoted exactly, else in
    /// small letters up to one of `.:,`.
    fn read(text: &str) -> Result<(Self, &str), NameError> {
        let unreadable = || NameError::Unreadable(text.to_owned());
        let Some(mut rest) = text.strip_prefix('"') else {
            let end = text.find(['.', ':', ',']).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            if name.contains(|c: char| c == '"' || c.is_whitespace()) {
                return Err(unreadable());
            }
            return Ok((Self::new(name.to_ascii_lowercase())?, rest));
        };
        let mut name = String::new();
        loop {
            let (part, after) = rest.split_once('"').ok_or_else(unreadable)?;
            name.push_str(part);
            let Some(more) = after.strip_prefix('"') else {
                return Ok((Self::new(name)?, after));
            };
            name.push('"');
            rest = more;
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A table with its schema. `Display` writes both quoted, for SQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    pub schema: Identifier,
    pub name: Identifier,
}

impl TableName {
    /// The schema of a table that is named without one.
    const DEFAULT_SCHEMA: &str = "public";

    /// Something in the schema that this tool has for itself.
    pub(crate) fn of_move(what: &'static str, number: u32) -> Self {
        let schema = Identifier("spillway".to_owned());
        Self { schema, name: Identifier::of_move(what, number) }
    }

    /// Reads `table`, `schema.table`, either of them with `:column` behind it. What has no quotes is taken in
    /// small letters, as in SQL.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn read_with_column(text: &str) -> Result<(Self, Option<Identifier>), NameError> {
        let unreadable = || NameError::Unreadable(text.to_owned());
        let (first, mut rest) = Identifier::read(text)?;
        let own = match rest.strip_prefix('.') {
            Some(after) => {
                let (name, after) = Identifier::read(after)?;
                rest = after;
                Self { schema: first, name }
            }
            None => Self { schema: Identifier(Self::DEFAULT_SCHEMA.to_owned()), name: first },
        };
        let column = match rest.strip_prefix(':') {
            Some(after) => {
                let (column, after) = Identifier::read(after)?;
                rest = after;
                Some(column)
            }
            None => None,
        };
        if rest.is_empty() { Ok((own, column)) } else { Err(unreadable()) }
    }

    /// The name for messages: `schema.table`, without quotes.
    pub fn shown(&self) -> String {
        format!("{}.{}", self.schema.as_str(), self.name.as_str())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.schema, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(schema: &str, name: &str) -> TableName {
        let own = |text| Identifier::new(text).expect("a name");
        TableName { schema: own(schema), name: own(name) }
    }

    #[test]
    fn a_table_is_read_as_postgresql_reads_it() {
        let read = |text| TableName::read_with_column(text).expect(text);
        let key = Identifier::new("k").ok();
        assert_eq!(read("Orders"), (table("public", "orders"), None));
        assert_eq!(read("shop.orders:K"), (table("shop", "orders"), key.clone()));
        assert_eq!(read("\"Shop\".\"a.b:\"\"c\"\"\":\"k\""), (table("Shop", "a.b:\"c\""), key));
        for wrong in ["", ".", "a.", "a.b.c", "a:b:c", "\"a", "\"a\"b", "a b", "a\"b\"", "a:"] {
            assert!(TableName::read_with_column(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_that_postgresql_would_cut_off_is_refused() {
        assert!(Identifier::new("ä".repeat(31) + "x").is_ok());
        assert!(matches!(Identifier::new("ä".repeat(32)), Err(NameError::TooLong(_))));
        assert_eq!(Identifier::new("a\0b"), Err(NameError::Nul));
    }

    proptest! {
        #[test]
        fn a_quoted_name_reads_back_as_itself_and_ends_where_it_ends(
            schema in "[^\0]{1,15}", name in "[^\0]{1,15}", column in "[^\0]{1,15}"
        ) {
            let own = table(&schema, &name);
            let column = Identifier::new(column).expect("a name");
            let text = format!("{own}:{column}");
            prop_assert_eq!(TableName::read_with_column(&text), Ok((own, Some(column))));
        }
    }
}
