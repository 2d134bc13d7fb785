//! What the rows themselves say: those that the target has, and those that can't be told apart there.

use super::evidence::{Evidence, Pair};
use super::fault::{Fault, FaultKind};
use super::row_facts::RowFacts;
use crate::catalog::{Feed, Index};
use crate::moved::Move;

pub(super) fn faults(moved: &Move, evidence: &Evidence) -> Vec<Fault> {
    let mut found = Vec::new();
    for (place, pair) in evidence.pairs(moved) {
        let Some(rows) = evidence.rows.get(place) else { continue };
        found.extend(present(moved, pair, rows));
        found.extend(unique(moved, pair, rows));
        found.extend(sequences(moved, pair));
        let subject = pair.moved.name.shown();
        found.extend(rows.strays.iter().map(|name| {
            Fault::new(
                FaultKind::ForeignKeyLeavesRange,
                (&moved.source, &subject),
                format!(
                    "the foreign key {name} ties rows of {} to rows outside of it",
                    moved.range
                ),
                "move these rows to one key first, or drop the foreign key",
            )
        }));
        found.extend(rows.unanswered.iter().map(|why| {
            Fault::new(
                FaultKind::NotChecked,
                (&moved.source, &subject),
                why.clone(),
                "ask again when the servers have less to do, or accept it: the copy would stop by name",
            )
        }));
    }
    found
}

fn present(moved: &Move, pair: Pair<'_>, rows: &RowFacts) -> Vec<Fault> {
    let spot = (moved.target.as_str(), &*pair.moved.name.shown());
    let mut found = Vec::new();
    if rows.target_has_range {
        let condition = moved.range.condition(&pair.moved.key, crate::sql::RowSide::Row);
        found.push(Fault::new(
            FaultKind::RowsInRange,
            spot,
            format!("it has rows of {} already, which this shard does not own", moved.range),
            format!("look at them, then DELETE FROM {} WHERE {condition}", pair.moved.name),
        ));
    }
    if let Some(example) = &rows.collision {
        found.push(Fault::new(
            FaultKind::KeyCollides,
            spot,
            format!("rows of the range have the primary key of other rows here: {example}"),
            format!(
                "PRIMARY KEY ({}, …) on all shards, or other numbers for one of the rows",
                pair.moved.key
            ),
        ));
    }
    found
}

fn unique(moved: &Move, pair: Pair<'_>, rows: &RowFacts) -> Vec<Fault> {
    let key = pair.moved.key.as_str();
    let secondary = |own: &&Index| own.is_unique && !own.is_primary && !own.holds(key);
    let own = pair.target.indexes.iter().filter(secondary).filter(|_| rows.target_has_rows);
    own.map(|own| {
        Fault::new(
            FaultKind::UniqueWithoutKey,
            (&moved.target, &pair.moved.name.shown()),
            format!("its unique index {} has not {key}, and it has rows that rows of the range may equal", own.name),
            format!("make it unique with {} in front on all shards, or move into an empty table", pair.moved.key),
        )
    })
    .collect()
}

/// Whether two sequences never give the same number.
fn are_disjoint(own: &Feed, other: &Feed) -> bool {
    own.increment == other.increment
        && own.increment.abs() > 1
        && own.start.rem_euclid(own.increment) != other.start.rem_euclid(own.increment)
}

fn sequences(moved: &Move, pair: Pair<'_>) -> Vec<Fault> {
    let (key, subject) = (pair.moved.key.as_str(), pair.moved.name.shown());
    let spot = (moved.target.as_str(), subject.as_str());
    let mut found = Vec::new();
    for own in &pair.source.links.feeds {
        let column = &own.column;
        let Some(other) = pair.target.links.feeds.iter().find(|feed| feed.column == *column) else {
            found.push(Fault::new(
                FaultKind::SequenceMissing,
                spot,
                format!("no sequence feeds {column}, as {} does at the source", own.sequence),
                format!("create the column's sequence here, as {} is", own.sequence),
            ));
            continue;
        };
        if own.last.is_some_and(|last| last > other.highest) {
            found.push(Fault::new(
                FaultKind::SequenceTooShort,
                spot,
                format!(
                    "{} ends at {}, and the source's has given {} already",
                    other.sequence,
                    other.highest,
                    own.last.unwrap_or_default()
                ),
                format!("ALTER SEQUENCE {} AS bigint NO MAXVALUE", other.sequence),
            ));
        }
        if !other.may_update {
            found.push(Fault::new(
                FaultKind::SequenceNotSettable,
                spot,
                format!(
                    "the role may not set {}, which must go on behind the source's",
                    other.sequence
                ),
                format!("GRANT USAGE, SELECT, UPDATE ON SEQUENCE {} TO the role", other.sequence),
            ));
        }
        let names = |index: &&Index| index.is_unique && index.holds(column) && !index.holds(key);
        if let Some(index) =
            pair.source.indexes.iter().find(names).filter(|_| !are_disjoint(own, other))
        {
            found.push(Fault::new(
                FaultKind::SequenceWithoutKey,
                spot,
                format!(
                    "{} has not {key}, and sequences of both shards feed {column}: both count on after the switch, and the way back ends when the source has used up the gap",
                    index.name
                ),
                format!("PRIMARY KEY ({}, {column}), or other starts with INCREMENT BY the number of shards on all of them; accept it where --gap lasts as long as the way back is wanted", pair.moved.key),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::samples::{evidence, kinds, moved};
    use super::*;

    #[test]
    fn a_question_that_was_not_answered_is_a_fault_that_may_be_accepted() {
        let mut own = evidence();
        assert_eq!(faults(&moved(), &own), []);
        own.rows[0].unanswered.push("it took too long".to_owned());
        assert_eq!(kinds(&faults(&moved(), &own)), [FaultKind::NotChecked]);
        assert!(FaultKind::NotChecked.is_acceptable());
    }

    #[test]
    fn sequences_of_one_step_and_other_starts_never_meet() {
        let feed = |start, increment| Feed {
            column: "id".to_owned(),
            sequence: "public.s".to_owned(),
            start,
            increment,
            highest: i64::MAX,
            last: None,
            may_update: true,
        };
        assert!(are_disjoint(&feed(1, 4), &feed(2, 4)));
        assert!(are_disjoint(&feed(-1, -2), &feed(-2, -2)));
        assert!(!are_disjoint(&feed(1, 4), &feed(5, 4)), "the same numbers");
        assert!(!are_disjoint(&feed(1, 4), &feed(2, 3)), "they meet at some time");
        assert!(!are_disjoint(&feed(1, 1), &feed(2, 1)));
    }
}
