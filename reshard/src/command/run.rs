//! `reshard run`: the range comes to the target, which follows until both databases are the same.

use super::arguments::RunArguments;
use super::on_move::{Databases, MoverParts, SESSION, limits};
use super::open::{Wanted, addresses, endpoint, wanted};
use super::preflight::{accepted, checked};
use super::report::Report;
use super::statements::print_statements;
use super::stop::Stop;
use crate::journal::{Clusters, Entry, Journal, Step, entries};
use crate::moved::{Move, MoveId};
use crate::mover::CopyOptions;
use crate::replication::subscription;
use crate::server::{Address, Addresses, Endpoint, Password};
use rules::shard::object::MapObject;
use serde_json::json;

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
    let wanted = wanted(&own.moved).await?;
    // Once a move is announced its range has no owner that it could move from.
    let moved = match begun(&addresses, &wanted, &own.moved.to).await? {
        Some(source) => wanted.from(&source, MoveId(0)),
        None => wanted.from_owner(MoveId(0))?,
    };
    let Wanted { spillway, object, map, .. } = wanted;
    let source = endpoint(&addresses, &moved.source)?;
    let target = endpoint(&addresses, &moved.target)?;
    let given = given_connections(own, &addresses)?;
    let (connection, back_connection) = (given(&source), given(&target));
    let limits = limits(&own.moved.switch, map.hold);
    let databases = Databases::open(source, target).await.map_err(Stop::run)?;
    let removes_indexes = owns_nothing(&object, &moved.target);
    if own.dry_run {
        return print_statements(&databases, &moved, removes_indexes).await;
    }
    let clusters = clusters(&databases).await?;
    if under_way(&databases, &moved, &clusters).await?.is_none() {
        let endpoints = [&databases.source_endpoint, &databases.target_endpoint];
        checked(&own.moved, accepted, (&moved, map), endpoints).await?;
        say_plan(&report, &moved);
        report.confirm(own.consent.yes)?;
    }
    let options =
        CopyOptions { jobs: usize::from(own.jobs), rate, removes_indexes, owner_check: true };
    let parts = MoverParts { databases, spillway, limits, connection, back_connection, options };
    let journal = Journal::open(&parts.databases.source, own.consent.take_over).await;
    let journal = journal.map_err(Stop::run)?;
    // Looked for again: another tool may have begun it before this one got the lock.
    let mut entry = match under_way(&parts.databases, &moved, &clusters).await? {
        Some(entry) => {
            let (id, step) = (entry.moved.id, entry.step.name());
            let sentence = format!("goes on with move {id}, which is {step}");
            report.event("plan", json!({ "move": id.0, "step": step }), &sentence);
            entry
        }
        None => journal.begin(&moved, clusters).await.map_err(Stop::run)?,
    };
    let mover = parts.mover(&journal, &report);
    mover.bring(&mut entry).await.map_err(Stop::run)?;
    if own.no_switch && entry.step == Step::Verified {
        return Ok(());
    }
    mover.hand_over(&mut entry).await.map_err(Stop::run)
}

/// The shard from which this range moves already.
async fn begun(addresses: &Addresses, wanted: &Wanted, to: &str) -> Result<Option<String>, Stop> {
    for shard in addresses.names().filter(|shard| *shard != to) {
        let session = endpoint(addresses, shard)?.session(SESSION).await.map_err(Stop::run)?;
        let entries = entries(&session).await.map_err(Stop::run)?;
        let is_own =
            |own: &Entry| !own.step.is_over() && own.moved == wanted.from(shard, own.moved.id);
        if entries.iter().any(is_own) {
            return Ok(Some(shard.to_owned()));
        }
    }
    Ok(None)
}

/// The move of these arguments that has not ended.
async fn under_way(
    databases: &Databases,
    moved: &Move,
    clusters: &Clusters,
) -> Result<Option<Entry>, Stop> {
    let all = entries(&databases.source).await.map_err(Stop::run)?;
    let mut open = all.into_iter().filter(|entry| !entry.step.is_over());
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

/// The connection string by which the other database reaches that of an endpoint.
fn given_connections(
    own: &RunArguments,
    addresses: &Addresses,
) -> Result<impl Fn(&Endpoint) -> String, Stop> {
    let mut given = Vec::new();
    for text in &own.replicate_from {
        let address = Address::read(text);
        let address = address.map_err(|why| Stop::config(format!("--replicate-from: {why}")))?;
        if addresses.of(&address.shard).is_none() {
            return Err(Stop::config(format!(
                "--replicate-from names shard `{}`, whose database is not given",
                address.shard
            )));
        }
        given.push(address);
    }
    let password = std::env::var(REPLICATION_PASSWORD).ok().map(Password::new);
    Ok(move |endpoint: &Endpoint| {
        let own = given.iter().find(|own| own.shard == endpoint.address.shard);
        let password = own.and(password.as_ref()).or(endpoint.password.as_ref());
        subscription::connection(own.unwrap_or(&endpoint.address), password)
    })
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
