//! `reshard status`: how far the moves of a source are, from the journal and the servers alone.

use super::arguments::OnMove;
use super::on_move::SESSION;
use super::open::{addresses, endpoint};
use super::report::{Report, described};
use super::stop::Stop;
use crate::copy::worker::{CopiedSoFar, so_far};
use crate::journal::{Entry, Step, entries};
use crate::replication::subscription;
use crate::server::{ServerError, Session};
use crate::switch::sequences::{self, Room};
use serde_json::json;

/// Prints each move, and of one that has not ended how much was copied and how far the target follows.
///
/// # Errors
/// When the source does not answer; code 78 when an address is missing.
pub async fn status(own: &OnMove) -> Result<(), Stop> {
    let report = Report::new(own.json);
    let addresses = addresses(&own.connections)?;
    let source = endpoint(&addresses, &own.source)?.session(SESSION).await?;
    let all = entries(&source).await?;
    let meant = all.iter().filter(|entry| own.number.is_none_or(|own| own == entry.moved.id.0));
    for entry in meant {
        say(&report, entry);
        if entry.step.is_over() || addresses.of(&entry.moved.target).is_none() {
            continue;
        }
        let target = endpoint(&addresses, &entry.moved.target)?.session(SESSION).await;
        match target {
            Ok(target) => progress(&report, entry, &source, &target).await?,
            Err(why) => {
                report.event("away", json!({ "why": why.to_string() }), &format!("  {why}"))
            }
        }
    }
    if all.is_empty() {
        let sentence = format!("no move has begun at shard `{}`", own.source);
        report.event("none", json!({ "source": own.source }), &sentence);
    }
    Ok(())
}

fn say(report: &Report, entry: &Entry) {
    let moved = &entry.moved;
    let tables: Vec<String> = moved.tables.iter().map(|own| own.name.shown()).collect();
    let sentence = format!(
        "move {}: {} of {} from {} to {} ({}), begun {} s ago\n  {}: {}",
        moved.id,
        moved.range,
        moved.map,
        moved.source,
        moved.target,
        tables.join(", "),
        entry.age,
        entry.step.name(),
        described(entry.step)
    );
    let facts = json!({
        "move": moved.id.0, "map": moved.map, "range": moved.range.to_string(), "source": moved.source,
        "target": moved.target, "tables": tables, "step": entry.step.name(), "age_seconds": entry.age,
    });
    report.event("move", facts, &sentence);
}

async fn progress(
    report: &Report,
    entry: &Entry,
    source: &Session,
    target: &Session,
) -> Result<(), ServerError> {
    if entry.step == Step::Copying
        && let Some(CopiedSoFar { chunks, rows, bytes }) = so_far(target, entry.moved.id).await?
    {
        let facts = json!({ "chunks": chunks, "rows": rows, "bytes": bytes });
        let sentence =
            format!("  {rows} rows and {bytes} bytes are at the target, in {chunks} chunks");
        report.event("copied", facts, &sentence);
    }
    let id = entry.moved.id;
    let own = match entry.step {
        Step::Indexed
        | Step::Following
        | Step::Verified
        | Step::Prepared
        | Step::Announced
        | Step::Fencing
        | Step::PastReturn => subscription::following(source, target, id.forward()).await?,
        Step::Switched | Step::BackAnnounced | Step::BackFencing | Step::BackPastReturn => {
            subscription::following(target, source, id.back()).await?
        }
        _ => return Ok(()),
    };
    let facts = json!({
        "behind_bytes": own.behind, "wal_status": own.wal_status, "is_applying": own.is_applying,
        "apply_errors": own.apply_errors,
    });
    report.event("following", facts, &format!("  {}", own.shown(None)));
    if entry.step == Step::Switched {
        for Room { name, left } in sequences::room(source, target, &entry.moved).await? {
            let sentence = format!(
                "  the source's sequence of {name} has {left} values left before those of the target"
            );
            report.event("sequence", json!({ "column": name, "left": left }), &sentence);
        }
    }
    Ok(())
}
