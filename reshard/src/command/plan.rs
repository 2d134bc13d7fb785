//! `reshard plan`: what would move, before anything is asked of anybody.

use super::arguments::MoveArguments;
use super::on_move::SESSION;
use super::open::{addresses, endpoint, wanted};
use super::planned::{EVENT, PlannedMove};
use super::report::{Report, mebibytes};
use super::stop::Stop;
use crate::catalog::{Estimate, Table};
use crate::moved::{Move, MoveId};
use crate::sql::RowSide;
use serde_json::json;

/// Prints every move that is asked for. Rows and bytes are the planner's: no row is read.
///
/// # Errors
/// Code 78 when an argument is wrong; 1 when a range can't move, or its owner does not answer.
pub async fn plan(own: &MoveArguments) -> Result<(), Stop> {
    let report = Report::new(own.json);
    let addresses = addresses(&own.connections)?;
    for wanted in wanted(own).await? {
        if own.plan.is_some() && wanted.is_done() {
            continue;
        }
        let moved = wanted.from_owner(MoveId(0))?;
        let source = endpoint(&addresses, &moved.source)?.session(SESSION).await?;
        let (mut all, mut lines) = (Estimate::default(), Vec::new());
        for table in &moved.tables {
            let name = table.name.shown();
            let Some(shape) = Table::read(&source, &table.name).await? else {
                let shard = &moved.source;
                return Err(Stop::run(format!("no-table: shard `{shard}` has no table {name}")));
            };
            let condition = moved.range.condition(&table.key, RowSide::Row);
            let part = Estimate::of(&source, &shape, &condition).await;
            let size = mebibytes(part.bytes);
            let whole = mebibytes(shape.bytes.unsigned_abs());
            lines.push(format!(
                "\n  {name} by {}: some {} rows, {size:.1} MiB of {whole:.1}",
                table.key, part.rows
            ));
            all = Estimate { rows: all.rows + part.rows, bytes: all.bytes + part.bytes };
        }
        say(&report, &moved, all, &lines.concat());
    }
    Ok(())
}

fn say(report: &Report, moved: &Move, all: Estimate, tables: &str) {
    let (range, source, target) = (&moved.range, &moved.source, &moved.target);
    let sentence = format!("{range} of {} moves from {source} to {target}{tables}", moved.map);
    let planned = PlannedMove {
        event: EVENT.to_owned(),
        map: moved.map.clone(),
        range: range.text(),
        from: Some(source.clone()),
        to: target.clone(),
        tables: moved.tables.iter().map(|own| format!("{}:{}", own.name, own.key)).collect(),
        rows: all.rows,
        bytes: all.bytes,
    };
    report.event(EVENT, json!(planned), &sentence);
}
