//! `reshard run --dry-run`: the statements that bring a range to its target and make the way back.

use super::on_move::Databases;
use super::stop::Stop;
use crate::catalog::Table;
use crate::copy::chunk::{CopiedTable, chunks};
use crate::copy::indexes;
use crate::copy::worker::CHUNKS;
use crate::gate::{self, GateState};
use crate::journal;
use crate::moved::{Channel, Move, MovedTable};
use crate::replication::{marker, publication, subscription};
use crate::server::{ServerError, Session};
use crate::switch::ARRIVALS;
use std::io::Write;

/// Prints them by shard, in their order; those of the copy with the pages that the tables have now. The journal's
/// entries and the switch are left out: what they say is known only then.
///
/// # Errors
/// When a server does not answer, or has not the tables.
pub async fn print_statements(
    databases: &Databases,
    moved: &Move,
    removes_indexes: bool,
) -> Result<(), Stop> {
    let lines = statements(databases, moved, removes_indexes).await?;
    writeln!(std::io::stdout().lock(), "{}", lines.join("\n")).map_err(Stop::run)
}

async fn statements(
    databases: &Databases,
    moved: &Move,
    removes_indexes: bool,
) -> Result<Vec<String>, Stop> {
    let (source, target) = (&databases.source, &databases.target);
    let mut lines = Vec::new();
    let mut add = |shard: &str, statements: Vec<String>| {
        lines.push(format!("-- {shard}"));
        lines.extend(statements.into_iter().map(|statement| format!("{statement};")));
    };
    let triggers = || moved.tables.iter().flat_map(|table| gate::triggers(moved, table));
    let gate = |state| gate::objects(moved.id, state).into_iter().chain(triggers()).collect();
    let (there, back) = (moved.id.forward(), moved.id.back());
    add(&moved.source, vec![journal::CREATE.to_owned()]);
    add(&moved.target, gate(GateState::Closed));
    add(&moved.source, gate(GateState::Open));
    let removed = if removes_indexes { removable(target, moved).await? } else { Vec::new() };
    let lists = vec![marker::table(there), CHUNKS.to_owned()];
    add(&moved.target, [lists, indexes::removal(&removed)].concat());
    let slot = publication::slot_name(source, there).await.map_err(Stop::run)?;
    let create_slot =
        format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput (SNAPSHOT 'export')");
    let publication = publication::create(moved, there);
    add(&moved.source, vec![marker::table(there), publication, create_slot]);
    for table in &moved.tables {
        let own = CopiedTable::read(source, table, &shape(source, table).await?).await;
        let own = own.map_err(Stop::run)?;
        let parts = chunks(std::slice::from_ref(&own));
        add(&moved.source, parts.into_iter().map(|chunk| own.reads(moved, chunk)).collect());
        add(&moved.target, vec![own.writes()]);
    }
    add(&moved.target, removed.iter().flat_map(indexes::restoration).collect());
    let analyze = moved.tables.iter().map(|table| format!("ANALYZE {}", table.name));
    add(&moved.target, analyze.collect());
    add(&moved.target, vec![subscribe(source, target, there).await.map_err(Stop::run)?]);
    add(&moved.source, vec![ARRIVALS.to_owned(), marker::table(back)]);
    let lists = vec![ARRIVALS.to_owned(), marker::table(back)];
    let slot = publication::slot_name(target, back).await.map_err(Stop::run)?;
    let slot =
        format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", slot.as_str());
    add(&moved.target, [lists, vec![publication::create(moved, back), slot]].concat());
    add(&moved.source, vec![subscribe(target, source, back).await.map_err(Stop::run)?]);
    Ok(lines)
}

/// The subscription of `to`, with its connection string left out.
async fn subscribe(from: &Session, to: &Session, channel: Channel) -> Result<String, ServerError> {
    let slot = publication::slot_name(from, channel).await?;
    Ok(subscription::create(channel, &slot, to.version()).replace("%L", "'…'"))
}

/// What would be removed from the target's empty tables.
async fn removable(target: &Session, moved: &Move) -> Result<Vec<journal::Removed>, Stop> {
    let mut empty = Vec::new();
    for table in &moved.tables {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
        let row = target.row("look for rows", &sql, &[]).await.map_err(Stop::run)?;
        if !row.get::<_, bool>(0) {
            empty.push(shape(target, table).await?);
        }
    }
    let empty: Vec<&Table> = empty.iter().collect();
    indexes::removable(target, &empty).await.map_err(Stop::run)
}

async fn shape(session: &Session, table: &MovedTable) -> Result<Table, Stop> {
    crate::mover::shape(session, table).await.map_err(Stop::run)
}
