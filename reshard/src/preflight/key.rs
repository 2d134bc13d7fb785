//! Whether a table can be moved at all, and whether its key is what the map says.

use super::evidence::{Evidence, SideFacts};
use super::fault::{Fault, FaultKind};
use crate::catalog::{Column, Table, TableKind};
use crate::moved::{Move, MovedTable};
use rules::document::KeyType;

pub(super) fn faults(moved: &Move, evidence: &Evidence) -> Vec<Fault> {
    let mut found = Vec::new();
    for (side, _) in evidence.sides() {
        for (own, table) in moved.tables.iter().zip(&side.tables) {
            match table {
                Some(table) => {
                    found.extend(kind(side, table));
                    found.extend(key(side, own, table, moved.range.key_type()));
                }
                None => found.push(Fault::new(
                    FaultKind::TableMissing,
                    (&side.shard, &own.name.shown()),
                    "there is no such table",
                    format!("create it as the other shard has it (pg_dump --schema-only), or correct --tables: {}", own.name),
                )),
            }
        }
    }
    found
}

/// Types of columns that hold the keys of a map.
pub(super) fn fitting(key_type: KeyType) -> &'static [&'static str] {
    match key_type {
        KeyType::Int => &["pg_catalog.int2", "pg_catalog.int4", "pg_catalog.int8"],
        KeyType::Text => &["pg_catalog.text", "pg_catalog.varchar"],
        KeyType::Uuid => &["pg_catalog.uuid"],
        KeyType::Timestamp => &["pg_catalog.timestamptz"],
    }
}

fn kind(side: &SideFacts, table: &Table) -> Vec<Fault> {
    let subject = table.name.shown();
    let spot = (side.shard.as_str(), subject.as_str());
    if let TableKind::Other(letter) = table.kind {
        return vec![Fault::new(
            FaultKind::NotATable,
            spot,
            format!("it is no table (relkind {letter})"),
            "name the tables behind it in --tables",
        )];
    }
    let mut found = Vec::new();
    if table.kind == TableKind::Partitioned || table.is_partition {
        found.push(Fault::new(
            FaultKind::PartitionedTable,
            spot,
            "it is partitioned, or a partition, which can't be moved yet",
            "move it by hand (docs/shards.md), or attach its rows to an ordinary table",
        ));
    } else if !table.links.relatives.is_empty() {
        found.push(Fault::new(
            FaultKind::TableInherits,
            spot,
            format!("it inherits from or to {}", table.links.relatives.join(", ")),
            format!("ALTER TABLE … NO INHERIT {}", table.name),
        ));
    }
    if table.persistence != 'p' {
        found.push(Fault::new(
            FaultKind::UnloggedTable,
            spot,
            "it is unlogged or temporary, so its changes are not sent",
            format!("ALTER TABLE {} SET LOGGED", table.name),
        ));
    }
    if table.primary_key.is_empty() {
        found.push(Fault::new(
            FaultKind::NoPrimaryKey,
            spot,
            "it has no primary key, or a deferrable one, by which no row is found",
            format!("ALTER TABLE {} ADD PRIMARY KEY (…), not deferrable", table.name),
        ));
    }
    found
}

fn key(side: &SideFacts, own: &MovedTable, table: &Table, key_type: KeyType) -> Vec<Fault> {
    if matches!(table.kind, TableKind::Other(_)) {
        return Vec::new();
    }
    let subject = table.name.shown();
    let spot = (side.shard.as_str(), subject.as_str());
    let Some(column) = table.column(own.key.as_str()) else {
        return vec![Fault::new(
            FaultKind::KeyMissing,
            spot,
            format!("it has no column {}", own.key.as_str()),
            format!("name the column of the key: --tables {}:COLUMN", own.name.shown()),
        )];
    };
    let mut found = Vec::new();
    let (name, key) = (&column.name, &own.key);
    if column.generated.is_some() {
        found.push(Fault::new(
            FaultKind::KeyGenerated,
            spot,
            format!("{name} is a generated column, of which a BEFORE trigger knows nothing"),
            "keep the key in an ordinary column",
        ));
    }
    if column.type_kind == 'd' {
        found.push(Fault::new(
            FaultKind::KeyDomain,
            spot,
            format!(
                "{name} is of the domain {}, which a row filter does not take",
                column.written_type
            ),
            format!(
                "ALTER TABLE {} ALTER {key} TYPE …, with the domain's checks on the table",
                table.name
            ),
        ));
    } else if !fitting(key_type).contains(&column.type_name.as_str()) {
        found.push(wrong_type(spot, column, key_type));
    }
    if let Some(collation) = column.collation.as_ref().filter(|_| key_type == KeyType::Text) {
        found.push(Fault::new(
            FaultKind::KeyCollation,
            spot,
            format!(
                "{name} has the collation {collation} of its own, which a row filter does not take"
            ),
            format!(
                "ALTER TABLE {} ALTER {key} TYPE {} COLLATE \"default\"",
                table.name, column.written_type
            ),
        ));
    }
    if !column.is_not_null {
        found.push(Fault::new(
            FaultKind::KeyNullable,
            spot,
            format!("{name} may be NULL, and such a row belongs to no shard"),
            format!("ALTER TABLE {} ALTER {key} SET NOT NULL", table.name),
        ));
    }
    found
}

fn wrong_type(spot: (&str, &str), column: &Column, key_type: KeyType) -> Fault {
    let types: Vec<&str> =
        fitting(key_type).iter().filter_map(|own| own.split('.').next_back()).collect();
    Fault::new(
        FaultKind::KeyType,
        spot,
        format!(
            "{} is {}, and keys of type {} lie in columns of {}",
            column.name,
            column.written_type,
            key_type.as_str(),
            types.join(", ")
        ),
        "give the column one of these types, or name another column; between two integers lie no keys of the map, and a time without zone is none",
    )
}

#[cfg(test)]
mod tests {
    use super::super::FaultKind;
    use super::super::samples::{evidence, kinds, moved, source_table};

    #[test]
    fn a_key_is_of_the_maps_type() {
        for (type_name, expected) in [
            ("pg_catalog.int2", None),
            ("pg_catalog.int8", None),
            ("pg_catalog.numeric", Some(FaultKind::KeyType)),
            ("pg_catalog.timestamp", Some(FaultKind::KeyType)),
            ("pg_catalog.text", Some(FaultKind::KeyType)),
        ] {
            let mut evidence = evidence();
            for side in [&mut evidence.source, &mut evidence.target] {
                source_table(side).columns[0].type_name = type_name.to_owned();
            }
            let found = kinds(&super::faults(&moved(), &evidence));
            let expected: Vec<_> = expected.into_iter().flat_map(|kind| [kind, kind]).collect();
            assert_eq!(found, expected, "{type_name}");
        }
    }
}
