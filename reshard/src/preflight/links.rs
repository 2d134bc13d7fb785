//! Foreign keys, triggers, and who else reads or writes the tables.

use super::evidence::{Evidence, Pair, SideFacts};
use super::fault::{Fault, FaultKind};
use crate::catalog::{ForeignKey, Table, Trigger};
use crate::moved::Move;
use crate::sql::{Identifier, TableName};
use std::collections::BTreeSet;

/// Triggers fire in the order of their names, and the gate's name begins so.
const GATE_NAME: &str = "zz_spillway";

pub(super) fn faults(moved: &Move, evidence: &Evidence) -> Vec<Fault> {
    let mut found = foreign_keys(moved, evidence);
    for (side, _) in evidence.sides() {
        for table in side.tables.iter().flatten() {
            found.extend(table.links.triggers.iter().filter_map(|own| trigger(side, table, own)));
            found.extend(others(side, table));
        }
        found.extend(truncates(moved, side));
    }
    for (_, pair) in evidence.pairs(moved) {
        found.extend(different_triggers(moved, pair));
    }
    found
}

/// Foreign keys between a table that moves and one that stays. Both shards have the same ones, or that is a fault
/// of its own.
fn foreign_keys(moved: &Move, evidence: &Evidence) -> Vec<Fault> {
    let moves = |name: &TableName| moved.tables.iter().any(|own| own.name == *name);
    let tables = evidence.source.tables.iter().flatten();
    let keys = tables.flat_map(|table| table.foreign_keys.iter().map(move |own| (table, own)));
    let leaving = keys.filter(|(_, own)| !(moves(&own.from) && moves(&own.to)));
    leaving
        .map(|(table, own)| {
            let stays = if moves(&own.from) { &own.to } else { &own.from };
            Fault::new(
                FaultKind::ForeignKeyLeavesTables,
                (&moved.source, &table.name.shown()),
                format!(
                    "the foreign key {} leads from {} to {}, and {} does not move",
                    own.name,
                    own.from.shown(),
                    own.to.shown(),
                    stays.shown()
                ),
                format!("add {} to --tables, or drop the key; accept it where every shard has the same rows there", stays.shown()),
            )
        })
        .collect()
}

/// Whether a foreign key between two tables that move ties rows of one shard key only: both keys are a pair of its
/// columns.
pub(super) fn holds_range(moved: &Move, own: &ForeignKey) -> bool {
    let key = |name: &TableName| {
        moved.tables.iter().find(|table| table.name == *name).map(|table| table.key.as_str())
    };
    let (Some(from), Some(to)) = (key(&own.from), key(&own.to)) else { return false };
    own.columns.iter().zip(&own.to_columns).any(|(own, other)| own == from && other == to)
}

fn trigger(side: &SideFacts, table: &Table, own: &Trigger) -> Option<Fault> {
    let (name, subject) = (&own.name, table.name.shown());
    let spot = (side.shard.as_str(), subject.as_str());
    let quoted =
        Identifier::new(name.as_str()).map_or_else(|_| name.clone(), |own| own.to_string());
    if matches!(own.enabled, 'A' | 'R') {
        return Some(Fault::new(
            FaultKind::TriggerFiresOnLoad,
            spot,
            format!("the trigger {name} fires for rows that are copied and replicated, too"),
            format!("ALTER TABLE {} ENABLE TRIGGER {quoted}", table.name),
        ));
    }
    let is_late = own.is_before_row && own.enabled == 'O' && name.as_str() > GATE_NAME;
    is_late.then(|| {
        Fault::new(
            FaultKind::TriggerAfterGate,
            spot,
            format!(
                "the trigger {name} fires after the gate, which must see the row as it will be"
            ),
            format!(
                "ALTER TRIGGER {quoted} ON {} RENAME TO …, a name below {GATE_NAME}",
                table.name
            ),
        )
    })
}

fn others(side: &SideFacts, table: &Table) -> Vec<Fault> {
    let subject = table.name.shown();
    let spot = (side.shard.as_str(), subject.as_str());
    let publications = table.links.publications.iter().map(|name| {
        Fault::new(
            FaultKind::OtherPublication,
            spot,
            format!("the publication {name} sends its changes: its readers will see moved rows as new, and deleted at the source"),
            "tell the readers, and accept it; or take the table out of the publication for the time",
        )
    });
    let subscriptions = table.links.subscriptions.iter().map(|name| {
        Fault::new(
            FaultKind::SubscriptionWrites,
            spot,
            format!("the subscription {name} writes it, and the gate does not stop a subscription"),
            format!("ALTER SUBSCRIPTION {name} DISABLE does not do: take the table out of it (REFRESH PUBLICATION)"),
        )
    });
    let gates = table.links.gates.iter().map(|gate| {
        Fault::new(
            FaultKind::OtherGate,
            spot,
            format!("another move guards it: {gate}"),
            "`reshard status` of the shard that it came from says how far it is; where no move is under way, as in a restored backup, DROP SCHEMA spillway CASCADE",
        )
    });
    publications.chain(subscriptions).chain(gates).collect()
}

/// TRUNCATEs that name one of the tables.
fn truncates(moved: &Move, side: &SideFacts) -> Vec<Fault> {
    let mut found = Vec::new();
    for seen in &side.truncates {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let words: Vec<&str> = seen.statement.split(|c: char| !is_word(c)).collect();
        let named = moved.tables.iter().find(|own| words.contains(&own.name.name.as_str()));
        let Some(own) = named else { continue };
        found.push(Fault::new(
            FaultKind::TruncateSeen,
            (&side.shard, &own.name.shown()),
            format!("it has been truncated {} times (`{}`), which is refused from the move's begin to its end", seen.calls, seen.statement),
            "let what does that wait until the move is finished, and accept it",
        ));
    }
    found
}

fn different_triggers(moved: &Move, pair: Pair<'_>) -> Vec<Fault> {
    let of = |table: &Table| -> BTreeSet<(String, char, String)> {
        let own = table.links.triggers.iter();
        own.map(|own| (own.name.clone(), own.enabled, own.text.clone())).collect()
    };
    let (own, other) = (of(pair.source), of(pair.target));
    let sides = [(&moved.target, own.difference(&other)), (&moved.source, other.difference(&own))];
    let mut found = Vec::new();
    for (shard, lacking) in sides {
        found.extend(lacking.map(|(name, _, text)| {
            Fault::new(
                FaultKind::TriggerDiffers,
                (shard, &pair.moved.name.shown()),
                format!("it lacks the trigger {name} of the other shard ({text}), or has another one of that name"),
                "create it here, or drop it there",
            )
        }));
    }
    found
}
