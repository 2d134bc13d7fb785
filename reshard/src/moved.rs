//! What is to move: a range of a map's keys, and the tables with rows of these keys.

use crate::sql::{Identifier, KeyRange, NameError, TableName};
use std::collections::BTreeSet;
use std::fmt;

/// How the names of all copying sessions begin.
const COPYING: &str = "reshard move ";

/// The number of a move. All objects that it creates in the databases bear it: `spillway.gate_7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveId(pub u32);

impl fmt::Display for MoveId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl MoveId {
    /// As the columns of the journal and of the lists have it.
    pub fn number(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }

    /// The gate of the range: a sequence and the function of its triggers.
    pub fn gate(self) -> TableName {
        TableName::of_move("gate", self.0)
    }

    /// The function of the triggers that refuse always.
    pub fn refusal(self) -> TableName {
        TableName::of_move("refuse", self.0)
    }
}

/// One direction of replication of a move: a publication and a slot where the rows come from, a subscription where
/// they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    pub id: MoveId,
    /// Whether it leads from the target back to the source.
    pub is_back: bool,
}

impl Channel {
    /// The table whose rows say how far the other side has followed.
    pub fn marker(self) -> TableName {
        TableName::of_move(if self.is_back { "marker_back" } else { "marker" }, self.id.0)
    }

    /// The name of publication and subscription.
    pub fn name(self) -> Identifier {
        Identifier::of_move(if self.is_back { "spillway_back" } else { "spillway" }, self.id.0)
    }
}

impl MoveId {
    /// From the source to the target.
    pub fn forward(self) -> Channel {
        Channel { id: self, is_back: false }
    }

    /// From the target to the source: the way back.
    pub fn back(self) -> Channel {
        Channel { id: self, is_back: true }
    }
}

/// A table whose rows move, and the column that has their key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedTable {
    pub name: TableName,
    pub key: Identifier,
}

/// A range on its way from one shard to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub id: MoveId,
    /// Name of the map in the rules file.
    pub map: String,
    pub range: KeyRange,
    /// Name of the shard that owns the range.
    pub source: String,
    /// Name of the shard that will own it.
    pub target: String,
    pub tables: Vec<MovedTable>,
}

impl Move {
    /// For people, and to tell it from another one of the same number.
    pub fn described(&self) -> String {
        format!("{} of {} from {} to {}", self.range, self.map, self.source, self.target)
    }

    /// What its copying sessions are called in `pg_stat_activity`.
    pub fn session_name(&self) -> String {
        format!("{COPYING}{}", self.id)
    }

    /// What its sessions are called that make indexes, each in a transaction that may take hours.
    pub fn index_session_name(&self) -> String {
        format!("reshard indexes of move {}", self.id)
    }
}

/// Whether a session of this name copies the rows of some move.
pub fn is_copying(session_name: &str) -> bool {
    session_name.starts_with(COPYING)
}

/// Why a list of tables can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TablesError {
    Name(NameError),
    /// No column is named, neither for this table nor one for all.
    NoKey(TableName),
    /// The table stands in the list twice.
    Twice(TableName),
    /// The list is empty.
    NoTable,
}

impl fmt::Display for TablesError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(why) => why.fmt(out),
            Self::NoKey(table) => write!(
                out,
                "which column of {} has the key? Write {}:COLUMN, or --key COLUMN for all tables",
                table.shown(),
                table.shown()
            ),
            Self::Twice(table) => write!(out, "{} is named twice", table.shown()),
            Self::NoTable => out.write_str("no table is named"),
        }
    }
}

impl std::error::Error for TablesError {}

/// Reads lists of tables with their key columns: `prices,orders:instrument_id`. Where none stands behind a table, it is that of
/// `--key`, or the one column that the other tables name.
///
/// # Errors
/// When a name can't be read, a table has no key or stands there twice, or there is no table.
pub fn tables<'t>(
    texts: impl Iterator<Item = &'t str>,
    key: Option<&str>,
) -> Result<Vec<MovedTable>, TablesError> {
    let read: Result<Vec<_>, _> = texts.flat_map(listed).map(TableName::read_with_column).collect();
    let read = read.map_err(TablesError::Name)?;
    let named: BTreeSet<&Identifier> = read.iter().filter_map(|(_, key)| key.as_ref()).collect();
    let common = match (key, named.len()) {
        (Some(key), _) => Some(Identifier::new(key).map_err(TablesError::Name)?),
        (None, 1) => named.first().map(|key| (*key).clone()),
        (None, _) => None,
    };
    let mut found: Vec<MovedTable> = Vec::new();
    for (name, key) in read {
        if found.iter().any(|own| own.name == name) {
            return Err(TablesError::Twice(name));
        }
        let Some(key) = key.or_else(|| common.clone()) else {
            return Err(TablesError::NoKey(name));
        };
        found.push(MovedTable { name, key });
    }
    if found.is_empty() { Err(TablesError::NoTable) } else { Ok(found) }
}

/// The parts of a list. A comma inside quotes belongs to a name.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_a_column_has_the_key_of_the_others() {
        let read = |texts: &[&str], key| tables(texts.iter().copied(), key);
        let keys = |found: Result<Vec<MovedTable>, TablesError>| -> Vec<String> {
            found.expect("tables").iter().map(|own| own.key.to_string()).collect()
        };
        assert_eq!(keys(read(&["a", "b:k"], None)), ["\"k\"", "\"k\""]);
        assert_eq!(keys(read(&["a", "b:k"], Some("K"))), ["\"K\"", "\"k\""]);
        assert!(matches!(read(&["a", "b:k", "c:l"], None), Err(TablesError::NoKey(_))));
        assert!(matches!(read(&["a:k", "public.a:k"], None), Err(TablesError::Twice(_))));
        assert_eq!(read(&[], Some("k")), Err(TablesError::NoTable));
    }

    #[test]
    fn a_comma_in_quotes_belongs_to_a_name() {
        let found = tables([r#"a,"b,"",c":"k,",s.d"#, "e"].into_iter(), Some("k"));
        let found = found.expect("tables");
        let shown: Vec<String> =
            found.iter().map(|own| format!("{}:{}", own.name.shown(), own.key.as_str())).collect();
        assert_eq!(shown, ["public.a:k", r#"public.b,",c:k,"#, "s.d:k", "public.e:k"]);
        assert!(tables(["a,,b"].into_iter(), Some("k")).is_err());
    }
}
