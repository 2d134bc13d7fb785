//! Whether a replicated UPDATE or DELETE finds its row, and whether a publication lets it happen at all.

use super::evidence::Evidence;
use super::fault::{Fault, FaultKind};
use crate::catalog::{ReplicaIdentity, Table};
use crate::moved::Move;
use crate::sql::{IDENTIFIER_BYTES_MAX, Identifier};

pub(super) fn faults(moved: &Move, evidence: &Evidence) -> Vec<Fault> {
    let mut found = Vec::new();
    for (_, pair) in evidence.pairs(moved) {
        let key = &pair.moved.key;
        let both = [
            (&evidence.source, pair.source, pair.target),
            (&evidence.target, pair.target, pair.source),
        ];
        for (side, own, other) in both {
            let subject = own.name.shown();
            let spot = (side.shard.as_str(), subject.as_str());
            // Without a primary key there is a fault that says more.
            let is_known = own.column(key.as_str()).is_some() && !own.primary_key.is_empty();
            if is_known && !own.identity_columns.iter().any(|column| column == key.as_str()) {
                found.push(Fault::new(
                    FaultKind::KeyNotInIdentity,
                    spot,
                    format!(
                        "its replica identity is ({}), without {}: a publication with a filter by it would break every UPDATE and DELETE of the application",
                        own.identity_columns.join(", "),
                        key.as_str()
                    ),
                    remedy(own, key),
                ));
            }
            let sent = &other.identity_columns;
            let missing: Vec<&str> = looked_up(own)
                .iter()
                .filter(|column| !sent.contains(column))
                .map(String::as_str)
                .collect();
            if !missing.is_empty() && !sent.is_empty() {
                found.push(Fault::new(
                    FaultKind::IdentityDiffers,
                    spot,
                    format!(
                        "rows are found here by ({}), and the other shard sends ({})",
                        looked_up(own).join(", "),
                        sent.join(", ")
                    ),
                    "give both tables the same primary key, or a replica identity with all of these columns",
                ));
            }
        }
    }
    found
}

/// The columns by which a server finds the row of a change that it applies: its replica identity's, else its
/// primary key's.
fn looked_up(table: &Table) -> &[String] {
    match table.identity {
        ReplicaIdentity::Index => &table.identity_columns,
        _ => &table.primary_key,
    }
}

/// What to execute, so that the key belongs to the identity.
fn remedy(table: &Table, key: &Identifier) -> String {
    if table.primary_key.iter().any(|column| column == key.as_str()) {
        return format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT", table.name);
    }
    let names = table.primary_key.iter().filter_map(|name| Identifier::new(name.as_str()).ok());
    let columns: Vec<String> = names.map(|name| name.to_string()).collect();
    let mut name = format!("{}_spillway_identity", table.name.name.as_str());
    while name.len() > IDENTIFIER_BYTES_MAX {
        name.remove(0);
    }
    let index = Identifier::new(name).map_or_else(|why| why.to_string(), |own| own.to_string());
    format!(
        "CREATE UNIQUE INDEX CONCURRENTLY {index} ON {} ({key}, {}); ALTER TABLE {} REPLICA IDENTITY USING INDEX {index}",
        table.name,
        columns.join(", "),
        table.name
    )
}
