//! `reshard run`: the range comes to the target, which follows until both databases are the same.

use super::arguments::RunArguments;
use super::given::GivenConnections;
use super::on_move::{Databases, MoverParts, SESSION, limits};
use super::open::{PLAN_IS_DONE, Wanted, addresses, endpoint, wanted};
use super::persist::Attempts;
use super::preflight::{accepted, checked};
use super::report::Report;
use super::statements::print_statements;
use super::stop::Stop;
use crate::journal::{Clusters, Entry, entries};
use crate::moved::{Move, MoveId};
use crate::mover::CopyOptions;
use crate::server::{Addresses, Endpoint};
use serde_json::json;

/// Begins the move, or goes on with it.
///
/// # Errors
/// Code 78 when an argument is wrong; 1 with the reason why the move does not go on.
pub async fn run(own: &RunArguments) -> Result<(), Stop> {
    let report = Report::new(own.moved.json);
    let accepted = accepted(&own.moved.accept)?;
    let rate = own.rate.as_deref().map(bytes).transpose()?;
    let addresses = addresses(&own.moved.connections)?;
    let mut all = wanted(&own.moved).await?;
    let (place, moved) = chosen(own, &addresses, &all).await?;
    let left = all.len() - place - 1;
    let asked = Asked {
        source: endpoint(&addresses, &moved.source)?,
        target: endpoint(&addresses, &moved.target)?,
        given: GivenConnections::read(&own.moved, &addresses)?,
        moved,
        wanted: all.swap_remove(place),
    };
    let databases = Databases::open(asked.source.clone(), asked.target.clone()).await?;
    if own.dry_run {
        let limits = limits(&own.moved.switch, asked.wanted.map.hold);
        let removes_indexes = asked.removes_indexes();
        return print_statements(&databases, &asked.moved, removes_indexes, &limits).await;
    }
    if under_way(&databases, &asked.moved, &clusters(&databases).await?).await?.is_none() {
        let map = asked.wanted.map.clone();
        let databases = [&asked.source, &asked.target].map(|own| asked.given.reachable(own));
        checked(&own.moved, accepted, (&asked.moved, map), databases).await?;
        say_plan(&report, &asked.moved);
        report.confirm(own.consent.yes)?;
    }
    let options = CopyOptions {
        jobs: usize::from(own.jobs),
        rate,
        removes_indexes: asked.removes_indexes(),
        may_copy_again: own.copy_again,
        owner_check: true,
    };
    let attempts = Attempts::new(&report, own.consent.take_over)?;
    let (mut begun, mut opened) = (None, Some(databases));
    attempts
        .persist(async || {
            let parts = asked.parts(own, opened.take(), options).await?;
            go_on(own, &attempts, &asked.moved, &parts, &mut begun).await
        })
        .await?;
    if left > 0 {
        let sentence = format!(
            "moves of the plan that are left: {left}; `reshard finish` this one, then run the same again"
        );
        report.event("left", json!({ "moves": left }), &sentence);
    }
    Ok(())
}

/// What a run is about.
struct Asked {
    source: Endpoint,
    target: Endpoint,
    given: GivenConnections,
    moved: Move,
    wanted: Wanted,
}

impl Asked {
    /// Whether the target owns no range: then nobody writes to its tables.
    fn removes_indexes(&self) -> bool {
        self.wanted.object.shards().all(|shard| shard != self.moved.target)
    }

    /// What works on the move; sessions are opened where none are left of an earlier try.
    async fn parts(
        &self,
        own: &RunArguments,
        opened: Option<Databases>,
        options: CopyOptions,
    ) -> Result<MoverParts, Stop> {
        let databases = match opened {
            Some(databases) => databases,
            None => Databases::open(self.source.clone(), self.target.clone()).await?,
        };
        Ok(MoverParts {
            databases,
            spillway: self.wanted.spillway.clone(),
            limits: limits(&own.moved.switch, self.wanted.map.hold),
            connection: self.given.of(&self.source),
            back_connection: self.given.of(&self.target),
            options,
        })
    }
}

/// One try of the whole.
async fn go_on(
    own: &RunArguments,
    attempts: &Attempts<'_>,
    moved: &Move,
    parts: &MoverParts,
    begun: &mut Option<MoveId>,
) -> Result<(), Stop> {
    let databases = &parts.databases;
    let clusters = clusters(databases).await?;
    let journal = attempts.journal(&databases.source).await?;
    // Looked for again: another tool may have begun it before this one got the lock, or ended it since.
    let mut entry = match (under_way(databases, moved, &clusters).await?, *begun) {
        (Some(entry), Some(id)) if entry.moved.id == id => entry,
        (_, Some(id)) => {
            return Err(Stop::run(format!("no-such-move: another tool has ended move {id}")));
        }
        (Some(entry), None) => {
            let (id, step) = (entry.moved.id, entry.step.name());
            let sentence = format!("goes on with move {id}, which is {step}");
            attempts.report.event("move", json!({ "move": id.0, "step": step }), &sentence);
            entry
        }
        (None, None) => journal.begin(&databases.target, moved, clusters).await?,
    };
    *begun = Some(entry.moved.id);
    let mover = parts.mover(&journal, attempts.report, &attempts.interrupt);
    let done = mover.go_on(&mut entry, !own.no_switch).await;
    done.map_err(|why| Stop::at(entry.step, why))
}

/// The move to go on with, and its place among those that are wanted: the first of a plan that is not done.
async fn chosen(
    own: &RunArguments,
    addresses: &Addresses,
    all: &[Wanted],
) -> Result<(usize, Move), Stop> {
    for (place, wanted) in all.iter().enumerate() {
        // Once a move is announced its range has no owner that it could move from.
        if let Some(source) = begun(addresses, wanted).await? {
            return Ok((place, wanted.from(&source, MoveId(0))));
        }
        if own.moved.plan.is_none() || !wanted.is_done() {
            return Ok((place, wanted.from_owner(MoveId(0))?));
        }
    }
    Err(Stop::run(PLAN_IS_DONE))
}

/// The shard from which this range moves already.
async fn begun(addresses: &Addresses, wanted: &Wanted) -> Result<Option<String>, Stop> {
    for shard in addresses.names().filter(|shard| *shard != wanted.target()) {
        let session = endpoint(addresses, shard)?.session(SESSION).await?;
        let is_own =
            |own: &Entry| !own.step.is_over() && own.moved == wanted.from(shard, own.moved.id);
        if entries(&session).await?.iter().any(is_own) {
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
    let all = entries(&databases.source).await?;
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
        source: of(&databases.source_endpoint).await?,
        target: of(&databases.target_endpoint).await?,
    })
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
    report.event("begins", facts, &sentence);
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
