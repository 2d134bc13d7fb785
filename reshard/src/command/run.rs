//! `reshard run`: the range comes to the target, which follows until both databases are the same.

use super::arguments::RunArguments;
use super::on_move::{Databases, SESSION};
use super::open::{Planned, addresses, endpoint, planned};
use super::preflight::{accepted, checked};
use super::report::Report;
use super::stop::Stop;
use crate::catalog::Table;
use crate::copy::chunk::{CopiedTable, chunks};
use crate::gate::{self, GateState};
use crate::journal::{Clusters, Entry, Journal, Step, entries};
use crate::moved::{Move, MoveId};
use crate::replication::{publication, subscription};
use crate::server::{Address, Addresses, Endpoint, Password};
use crate::steps::{CopyOptions, Mover};
use rules::shard::object::MapObject;
use serde_json::json;
use std::io::Write;

/// The variable with the password by which the target reaches the source.
const REPLICATION_PASSWORD: &str = "RESHARD_REPLICATION_PASSWORD";

/// Begins the move, or goes on with it.
///
/// # Errors
/// Code 78 when an argument is wrong; 1 with the reason why the move does not go on.
pub async fn run(own: &RunArguments) -> Result<(), Stop> {
    let report = Report::new(own.moved.json);
    let accepted = accepted(&own.moved.accept)?;
    let rate = own.rate.as_deref().map(bytes).transpose()?;
    let addresses = addresses(&own.moved.connections)?;
    let Planned { moved, object, map, .. } = planned(&own.moved, MoveId(0)).await?;
    let source = endpoint(&addresses, &moved.source)?;
    let target = endpoint(&addresses, &moved.target)?;
    let connection = connection(own, &addresses, &source)?;
    let databases = Databases::open(source, target).await.map_err(Stop::run)?;
    if own.dry_run {
        return print_statements(&databases, &moved).await;
    }
    let clusters = clusters(&databases).await?;
    if under_way(&databases, &moved, &clusters).await?.is_none() {
        let endpoints = [&databases.source_endpoint, &databases.target_endpoint];
        checked(&own.moved, accepted, (&moved, map), endpoints).await?;
        say_plan(&report, &moved);
        report.confirm(own.consent.yes)?;
    }
    let journal = Journal::open(&databases.source, own.consent.take_over).await;
    let journal = journal.map_err(Stop::run)?;
    // Looked for again: another tool may have begun it before this one got the lock.
    let mut entry = match under_way(&databases, &moved, &clusters).await? {
        Some(entry) => {
            let (id, step) = (entry.moved.id, entry.step.name());
            let sentence = format!("goes on with move {id}, which is {step}");
            report.event("plan", json!({ "move": id.0, "step": step }), &sentence);
            entry
        }
        None => journal.begin(&moved, clusters).await.map_err(Stop::run)?,
    };
    let removes_indexes = owns_nothing(&object, &moved.target);
    let mover = Mover {
        journal: &journal,
        source: &databases.source,
        target: &databases.target,
        source_endpoint: &databases.source_endpoint,
        target_endpoint: &databases.target_endpoint,
        connection,
        options: CopyOptions { jobs: usize::from(own.jobs), rate, removes_indexes },
        listener: &report,
    };
    mover.forward(&mut entry).await.map_err(Stop::run)
}

/// The move of these arguments that has not ended.
async fn under_way(
    databases: &Databases,
    moved: &Move,
    clusters: &Clusters,
) -> Result<Option<Entry>, Stop> {
    let all = entries(&databases.source).await.map_err(Stop::run)?;
    let mut open = all.into_iter().filter(|entry| entry.step != Step::Aborted);
    let Some(entry) = open.next() else { return Ok(None) };
    let id = entry.moved.id;
    if (Move { id, ..moved.clone() }) != entry.moved {
        return Err(Stop::run(format!(
            "move-under-way: move {id} of {} from {} to {} has not ended: go on with it by its own arguments, or `reshard abort` it",
            entry.moved.range, entry.moved.source, entry.moved.target
        )));
    }
    if entry.clusters != *clusters {
        return Err(Stop::run(format!(
            "other-cluster: move {id} began between other clusters than these: a server was restored or replaced"
        )));
    }
    Ok(Some(entry))
}

async fn clusters(databases: &Databases) -> Result<Clusters, Stop> {
    let of =
        async |endpoint: &Endpoint| endpoint.walsender(SESSION).await?.system_identifier().await;
    Ok(Clusters {
        source: of(&databases.source_endpoint).await.map_err(Stop::run)?,
        target: of(&databases.target_endpoint).await.map_err(Stop::run)?,
    })
}

fn connection(
    own: &RunArguments,
    addresses: &Addresses,
    source: &Endpoint,
) -> Result<String, Stop> {
    let Some(text) = &own.replicate_from else {
        return Ok(subscription::connection(&source.address, source.password.as_ref()));
    };
    let address =
        Address::read(text).map_err(|why| Stop::config(format!("--replicate-from: {why}")))?;
    if addresses.of(&address.shard).is_none() || address.shard != source.address.shard {
        return Err(Stop::config(format!(
            "--replicate-from names shard `{}`; the range moves from `{}`",
            address.shard, source.address.shard
        )));
    }
    let given = std::env::var(REPLICATION_PASSWORD).ok().map(Password::new);
    let password = given.or_else(|| source.password.clone());
    Ok(subscription::connection(&address, password.as_ref()))
}

/// Whether the target owns no range: then nobody writes to its tables.
fn owns_nothing(object: &MapObject, target: &str) -> bool {
    object.shards().all(|shard| shard != target)
}

fn say_plan(report: &Report, moved: &Move) {
    let tables: Vec<String> =
        moved.tables.iter().map(|own| format!("{} by {}", own.name.shown(), own.key)).collect();
    let sentence = format!(
        "moves {} of {} from {} to {}: {}\n  the application's TRUNCATE of these tables, and updates that carry a row into or out of the range, are refused until the move ends",
        moved.range,
        moved.map,
        moved.source,
        moved.target,
        tables.join(", ")
    );
    let facts = json!({
        "map": moved.map, "range": moved.range.to_string(), "source": moved.source, "target": moved.target,
        "tables": tables,
    });
    report.event("plan", facts, &sentence);
}

/// Prints the statements of all steps; those of the copy with the pages that the tables have now.
async fn print_statements(databases: &Databases, moved: &Move) -> Result<(), Stop> {
    let mut lines = Vec::new();
    let mut add = |shard: &str, statements: Vec<String>| {
        lines.push(format!("-- {shard}"));
        lines.extend(statements.into_iter().map(|statement| format!("{statement};")));
    };
    let triggers = || moved.tables.iter().flat_map(|table| gate::triggers(moved, table));
    let gate = |state| gate::objects(moved.id, state).into_iter().chain(triggers()).collect();
    add(&moved.target, gate(GateState::Closed));
    add(&moved.source, gate(GateState::Open));
    let slot = publication::slot_name(&databases.source, moved.id).await.map_err(Stop::run)?;
    let create_slot =
        format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput (SNAPSHOT 'export')");
    add(&moved.source, vec![publication::create(moved), create_slot]);
    for table in &moved.tables {
        let shape = Table::read(&databases.source, &table.name).await.map_err(Stop::run)?;
        let missing = || Stop::run(format!("no-table: {} is not there", table.name.shown()));
        let own = CopiedTable::read(&databases.source, table, &shape.ok_or_else(missing)?).await;
        let own = own.map_err(Stop::run)?;
        let parts = chunks(std::slice::from_ref(&own));
        add(&moved.source, parts.into_iter().map(|chunk| own.reads(moved, chunk)).collect());
        add(&moved.target, vec![own.writes()]);
    }
    let version = databases.target.version();
    let create = subscription::create(moved.id, &slot, version).replace("%L", "'…'");
    add(&moved.target, vec![create]);
    writeln!(std::io::stdout().lock(), "{}", lines.join("\n")).map_err(Stop::run)
}

/// Reads an amount of bytes: `20MiB`.
fn bytes(text: &str) -> Result<u64, Stop> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "B" => Some(1),
        "KiB" => Some(1024),
        "MiB" => Some(1024 * 1024),
        "GiB" => Some(1024 * 1024 * 1024),
        _ => None,
    };
    let found =
        number.parse::<u64>().ok().zip(factor).and_then(|(own, factor)| own.checked_mul(factor));
    found.filter(|bytes| *bytes > 0).ok_or_else(|| {
        Stop::config(format!("--rate {text}: write a number of B, KiB, MiB or GiB, such as 20MiB"))
    })
}
