//! `reshard run --dry-run`: the statements of a whole move, up to the target that owns the range.

use super::on_move::Databases;
use super::stop::Stop;
use crate::catalog::Table;
use crate::copy::chunk::{CopiedTable, chunks};
use crate::copy::indexes;
use crate::copy::worker::CHUNKS;
use crate::gate::{self, GateState, InsertTiming};
use crate::journal::{self, Step};
use crate::limits::PauseLimits;
use crate::moved::{Channel, Move, MovedTable};
use crate::replication::{marker, publication, subscription};
use crate::server::{ServerError, Session};
use crate::switch::leg::Leg;
use crate::switch::{ARRIVALS, pause, sequences};
use std::io::Write;

/// Prints them by shard, in their order: those of the copy with the pages that the tables have now, those of the switch
/// with the numbers that the sequences have now. Where a number is known only then, `$1` stands for it.
///
/// # Errors
/// When a server does not answer, or has not the tables.
pub async fn print_statements(
    databases: &Databases,
    moved: &Move,
    removes_indexes: bool,
    limits: &PauseLimits,
) -> Result<(), Stop> {
    let mut script = Script { moved, lines: Vec::new() };
    script.gates();
    script.copy(databases, removes_indexes).await?;
    script.follow(databases).await?;
    script.switch(databases, limits).await?;
    writeln!(std::io::stdout().lock(), "{}", script.lines.join("\n")).map_err(Stop::run)
}

/// The statements so far.
struct Script<'m> {
    moved: &'m Move,
    lines: Vec<String>,
}

impl Script<'_> {
    fn at_source(&mut self, statements: impl IntoIterator<Item = String>) {
        self.add(&self.moved.source, statements);
    }

    fn at_target(&mut self, statements: impl IntoIterator<Item = String>) {
        self.add(&self.moved.target, statements);
    }

    fn add(&mut self, shard: &str, statements: impl IntoIterator<Item = String>) {
        self.lines.push(format!("-- {shard}"));
        self.lines.extend(statements.into_iter().map(|statement| format!("{statement};")));
    }

    fn step(&mut self, step: Step) {
        self.at_source([journal::noting(self.moved.id, step)]);
    }

    /// A call of `spillway shards`.
    fn map(&mut self, command: &[String]) {
        let quoted = command.iter().map(|part| match part.contains(' ') {
            true => format!("'{part}'"),
            false => part.clone(),
        });
        let quoted: Vec<String> = quoted.collect();
        self.lines.push(format!("-- the map\n--   spillway shards {}", quoted.join(" ")));
    }

    fn gates(&mut self) {
        let moved = self.moved;
        let triggers = || moved.tables.iter().flat_map(|table| gate::triggers(moved, table));
        let gate = |state| gate::objects(moved, state).into_iter().chain(triggers());
        self.at_source([journal::CREATE.to_owned(), journal::BEGIN.to_owned()]);
        self.at_target(gate(GateState::Closed));
        self.at_source(gate(GateState::Open));
        self.step(Step::Gated);
    }

    async fn copy(&mut self, databases: &Databases, removes_indexes: bool) -> Result<(), Stop> {
        let (source, target) = (&databases.source, &databases.target);
        let (moved, there) = (self.moved, self.moved.id.forward());
        let removed = if removes_indexes { removable(target, moved).await? } else { Vec::new() };
        let lists = [marker::table(there), CHUNKS.to_owned()];
        self.step(Step::Copying);
        self.at_target(lists.into_iter().chain(indexes::removal(&removed)));
        let timed = |timing| {
            let bare = indexes::bare(&removed, &moved.tables);
            bare.map(move |table| gate::insert_trigger(moved, table, timing))
        };
        self.at_target(timed(InsertTiming::After));
        let slot = publication::slot_name(source, there).await?;
        let create_slot =
            format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput (SNAPSHOT 'export')");
        let publication = publication::create(moved, there);
        self.at_source([marker::table(there), publication, create_slot]);
        for table in &moved.tables {
            let own = CopiedTable::read(source, table, &shape(source, table).await?).await?;
            let parts = chunks(std::slice::from_ref(&own));
            self.at_source(parts.into_iter().map(|chunk| own.reads(moved, chunk)));
            self.at_target([own.writes()]);
        }
        self.step(Step::Copied);
        self.at_target(timed(InsertTiming::Before));
        self.at_target(indexes::restoration(&removed));
        self.at_target(moved.tables.iter().map(|table| format!("ANALYZE {}", table.name)));
        self.step(Step::Indexed);
        Ok(())
    }

    async fn follow(&mut self, databases: &Databases) -> Result<(), Stop> {
        let (source, target) = (&databases.source, &databases.target);
        let (there, back) = (self.moved.id.forward(), self.moved.id.back());
        self.at_target([subscribe(source, target, there).await?]);
        self.at_source([marker::writing(there)]);
        self.at_target([subscription::committing_to_disk(there)]);
        self.step(Step::Following);
        self.step(Step::Verified);
        self.at_source([ARRIVALS.to_owned(), marker::table(back)]);
        let slot = publication::keeping(&publication::slot_name(target, back).await?);
        let publication = publication::create(self.moved, back);
        self.at_target([ARRIVALS.to_owned(), marker::table(back), publication, slot]);
        self.at_source([subscribe(target, source, back).await?]);
        self.step(Step::Prepared);
        Ok(())
    }

    async fn switch(&mut self, databases: &Databases, limits: &PauseLimits) -> Result<(), Stop> {
        let (source, target) = (&databases.source, &databases.target);
        let (moved, id) = (self.moved, self.moved.id);
        let leg = Leg::there(moved, source, target);
        self.step(Step::Announced);
        self.map(&leg.announcing(limits));
        self.step(Step::Fencing);
        self.map(&leg.fencing(limits.drain.as_secs().max(1)));
        self.at_source([
            gate::setting(id, GateState::Closed),
            pause::draining(id, limits.drain),
            marker::writing(id.forward()),
        ]);
        self.at_target([pause::arriving(id.forward(), "n")]);
        self.at_target(sequences::setting(source, target, moved, limits.gap).await?);
        self.map(&leg.passing_return());
        self.step(Step::PastReturn);
        self.at_source([gate::setting(id, GateState::Moved)]);
        self.at_target([gate::setting(id, GateState::Open)]);
        self.map(&leg.committing());
        self.step(Step::Committed);
        self.at_target(subscription::removal(id.forward()));
        let slot = publication::slot_name(source, id.forward()).await?;
        self.at_source([publication::dropping(&slot), publication::remove(id.forward())]);
        if source.version().min(target.version()) < subscription::ORIGIN_SINCE {
            self.at_source([subscription::LEAVING_OUT.to_owned()]);
        }
        self.at_source([subscription::enabling(id.back())]);
        self.step(Step::Switched);
        Ok(())
    }
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
        let row = target.row("look for rows", &sql, &[]).await.map_err(Stop::from)?;
        if !row.get::<_, bool>(0) {
            empty.push(shape(target, table).await?);
        }
    }
    let empty: Vec<&Table> = empty.iter().collect();
    indexes::removable(target, &empty).await.map_err(Stop::from)
}

async fn shape(session: &Session, table: &MovedTable) -> Result<Table, Stop> {
    crate::mover::shape(session, table).await.map_err(Stop::from)
}
