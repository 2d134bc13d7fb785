//! The steps of a move, from its plan to a target that owns the range. Each can be done over by whoever goes on.

use crate::catalog::Table;
use crate::copy::chunk::{CopiedTable, chunks};
use crate::copy::halt::Halt;
use crate::copy::indexes;
use crate::copy::pace::Pace;
use crate::copy::worker::{self, CHUNKS, Copy};
use crate::gate::{self, GateState, InsertTiming};
use crate::journal::{Entry, Step};
use crate::move_error::MoveError;
use crate::moved::{Channel, Move};
use crate::mover::{Listener, Mover, end_sessions, shape};
use crate::replication::lookout::Lookout;
use crate::replication::{marker, publication, subscription};
use crate::server::{ServerError, Session};
use crate::sql::RowSide;
use crate::switch::leg::Leg;
use crate::verify::memory::Memory;
use crate::verify::sides::Sides;
use futures_util::future::try_join_all;
use std::cell::RefCell;

impl Mover<'_> {
    /// Goes on from where the move is until the target owns the range and the source follows it, or until both have
    /// been found the same. A slot that is lost before lets the copy begin again, once by itself.
    ///
    /// # Errors
    /// Why it does not go on. It can be run again, or aborted.
    pub async fn go_on(&self, entry: &mut Entry, switches: bool) -> Result<(), MoveError> {
        let mut may_copy_again = self.options.may_copy_again;
        loop {
            let done = match self.bring(entry).await {
                Ok(()) if switches || entry.step != Step::Verified => self.hand_over(entry).await,
                done => done,
            };
            let Err(why) = done else { return done };
            let Some(lost) = why.lost_slot().filter(|_| is_undecided(entry.step)) else {
                return Err(why);
            };
            if entry.lost_slots > 0 && !std::mem::take(&mut may_copy_again) {
                return Err(MoveError::SlotLostAgain(lost.clone()));
            }
            self.listener.say(format!("{lost}; the copy begins again"));
            self.remove_channel(entry.moved.id.back()).await?;
            self.journal.copy_again(entry).await?;
            self.listener.step(Step::Copying);
        }
    }

    /// Goes on until both databases have been found the same.
    async fn bring(&self, entry: &mut Entry) -> Result<(), MoveError> {
        while let Some(next) = self.unless_interrupted(self.next_step(entry)).await? {
            self.journal.to(entry, next).await?;
            self.listener.step(next);
        }
        Ok(())
    }

    /// Does what leads to the next step, and returns that; none: both databases have been found the same.
    async fn next_step(&self, entry: &mut Entry) -> Result<Option<Step>, MoveError> {
        Ok(Some(match entry.step {
            Step::Planned => {
                self.create_gates(&entry.moved).await?;
                Step::Gated
            }
            Step::Gated => {
                self.begin_copy(entry).await?;
                Step::Copying
            }
            Step::Copying => {
                self.copy(entry).await?;
                Step::Copied
            }
            Step::Copied => {
                self.restore_indexes(entry).await?;
                Step::Indexed
            }
            Step::Indexed => {
                self.follow(&entry.moved).await?;
                Step::Following
            }
            Step::Following => {
                self.verify(&entry.moved).await?;
                Step::Verified
            }
            Step::Aborting | Step::Aborted => {
                return Err(MoveError::WrongStep(entry.step, "`reshard abort` ends that"));
            }
            _ => return Ok(None),
        }))
    }
    /// Goes on from two databases that are the same until the target owns the range and the source follows it.
    async fn hand_over(&self, entry: &mut Entry) -> Result<(), MoveError> {
        let moved = entry.moved.clone();
        let leg = Leg::there(&moved, self.source, self.target);
        loop {
            match entry.step {
                Step::Verified => {
                    self.unless_interrupted(self.prepare_way_back(entry)).await?;
                    self.journal.to(entry, Step::Prepared).await?;
                    self.listener.step(Step::Prepared);
                }
                Step::Prepared => self.switch(&leg, entry).await?,
                Step::Announced | Step::Fencing => self.resume_switch(&leg, entry).await?,
                Step::PastReturn => self.complete_again(&leg, entry).await?,
                Step::Committed => {
                    self.turn(entry).await?;
                    self.journal.to(entry, Step::Switched).await?;
                    self.listener.step(Step::Switched);
                }
                Step::Switched => return Ok(()),
                step => {
                    return Err(MoveError::WrongStep(step, "it is not on its way to the target"));
                }
            }
        }
    }

    /// The target's gate is there first: at no time do both accept writes of the range.
    async fn create_gates(&self, moved: &Move) -> Result<(), MoveError> {
        for session in [self.target, self.source] {
            for table in &moved.tables {
                shape(session, table).await?;
            }
        }
        // A CHECK is enforced on rows that are copied, too.
        self.replace_checks(moved, Some(&moved.range)).await?;
        gate::create(self.target, moved, GateState::Closed, &self.say()).await?;
        gate::create(self.source, moved, GateState::Open, &self.say()).await?;
        Ok(())
    }

    /// From here on, rows of the range at the target are the move's own.
    async fn begin_copy(&self, entry: &mut Entry) -> Result<(), MoveError> {
        let mut empty = Vec::new();
        for table in &entry.moved.tables {
            let name = &table.name;
            let condition = entry.moved.range.condition(&table.key, RowSide::Row);
            let sql = format!(
                "SELECT EXISTS (SELECT 1 FROM {name} WHERE {condition}), EXISTS (SELECT 1 FROM {name})"
            );
            let row = self.target.row("look for rows of the range", &sql, &[]).await?;
            if row.get(0) {
                let shard = self.target.spot().shard.clone();
                return Err(MoveError::RowsAtTarget(table.clone(), shard));
            }
            if !row.get::<_, bool>(1) {
                empty.push(shape(self.target, table).await?);
            }
        }
        let removed = if self.options.removes_indexes {
            let empty: Vec<&Table> = empty.iter().collect();
            indexes::removable(self.target, &empty).await?
        } else {
            Vec::new()
        };
        self.journal.keep(entry, removed).await?;
        Ok(())
    }

    /// Copies the snapshot that the slot begins at. The snapshot ends with its walsender, so a copy that was
    /// interrupted begins again.
    async fn copy(&self, entry: &Entry) -> Result<(), MoveError> {
        let moved = &entry.moved;
        self.remove_copy(entry).await?;
        self.source.batch("create the marker", &marker::table(moved.id.forward())).await?;
        self.target.batch("create the marker", &marker::table(moved.id.forward())).await?;
        self.target.batch("create the list of chunks", CHUNKS).await?;
        self.source
            .batch("create the publication", &publication::create(moved, moved.id.forward()))
            .await?;
        // Before the rows: their copy may take hours.
        let channel = moved.id.forward();
        if !subscription::probe(self.target, channel, &self.connection).await? {
            return Err(subscription::elsewhere(self.target).into());
        }
        for sql in indexes::removal(entry.removed.as_deref().unwrap_or_default()) {
            self.target.batch("remove the target's indexes", &sql).await?;
        }
        self.time_inserts(entry, InsertTiming::After).await?;
        let name = moved.session_name();
        let walsender = self.source_endpoint.walsender(&name).await?;
        let name_of_slot = publication::slot_name(self.source, moved.id.forward()).await?;
        let slot = walsender.create_slot(&name_of_slot).await?;
        let mut tables = Vec::new();
        for table in &moved.tables {
            let own = shape(self.source, table).await?;
            tables.push(CopiedTable::read(self.source, table, &own).await?);
        }
        self.listener.copies(&tables);
        let left = RefCell::new(chunks(&tables));
        let (pace, halt) = (Pace::new(self.options.rate), Halt::default());
        let copy = Copy {
            moved,
            tables: &tables,
            left: &left,
            pace: &pace,
            halt: &halt,
            arrived: &|chunk| self.listener.copied(chunk),
        };
        let workers = (0..self.options.jobs.max(1)).map(|_| async {
            let source = self.source_endpoint.session(&name).await?;
            worker::enter(&source, &slot.snapshot).await?;
            let target = self.target_endpoint.session(&name).await?;
            worker::work(&copy, &source, &target).await
        });
        let (say, on) = (self.say(), (moved, moved.id.forward()));
        let mut lookout = Lookout::new(self.source, self.target, on, &say);
        tokio::select! {
            biased;
            copied = try_join_all(workers) => copied.map(drop)?,
            failed = halt.watch(self.source, moved.id, &say) => match failed? {},
            failed = lookout.watch_copy() => match failed? {},
        }
        Ok(())
    }

    /// Sets when the gate of the target's empty tables refuses an INSERT. Nobody writes there, so nobody waits for it.
    async fn time_inserts(&self, entry: &Entry, timing: InsertTiming) -> Result<(), ServerError> {
        let removed = entry.removed.as_deref().unwrap_or_default();
        for table in indexes::bare(removed, &entry.moved.tables) {
            let doing = format!("set the gate of {} up", table.name.shown());
            let sql = vec![gate::insert_trigger(&entry.moved, table, timing)];
            gate::with_table(self.target, &doing, table, &sql, &self.say()).await?;
        }
        Ok(())
    }

    async fn restore_indexes(&self, entry: &Entry) -> Result<(), MoveError> {
        self.time_inserts(entry, InsertTiming::Before).await?;
        // One that still makes an index would be in the way of this one.
        end_sessions(self.target, &entry.moved).await?;
        let name = entry.moved.index_session_name();
        let more = (1..self.options.jobs).map(|_| self.target_endpoint.session(&name));
        let more = try_join_all(more).await?;
        let sessions: Vec<&Session> = std::iter::once(self.target).chain(&more).collect();
        let removed = entry.removed.as_deref().unwrap_or_default();
        indexes::restore(&sessions, removed, &self.say()).await?;
        for table in &entry.moved.tables {
            let doing = format!("gather statistics of {}", table.name.shown());
            self.target.batch(&doing, &format!("ANALYZE {}", table.name)).await?;
        }
        Ok(())
    }

    /// Lets the target follow, and waits until it has caught up.
    async fn follow(&self, moved: &Move) -> Result<(), ServerError> {
        let channel = moved.id.forward();
        let slot = publication::slot_name(self.source, channel).await?;
        subscription::begin(self.target, channel, &slot, &self.connection).await?;
        marker::caught_up(self.source, self.target, (moved, channel), &self.say()).await?;
        subscription::commit_to_disk(self.target, channel).await
    }

    async fn verify(&self, moved: &Move) -> Result<(), MoveError> {
        let channel = moved.id.forward();
        let memory = Memory::of(self.journal, moved.id).await?;
        let sides = [self.source, self.target];
        verify_tables(sides, (moved, channel), &memory, self.listener).await
    }

    /// Compares all tables of a move that was switched: the source follows.
    pub(crate) async fn verify_back(&self, moved: &Move) -> Result<(), MoveError> {
        let channel = moved.id.back();
        let sides = [self.target, self.source];
        verify_tables(sides, (moved, channel), &Memory::none(), self.listener).await
    }
}

/// Whether the source owns the range and no writes wait.
fn is_undecided(step: Step) -> bool {
    matches!(
        step,
        Step::Copying
            | Step::Copied
            | Step::Indexed
            | Step::Following
            | Step::Verified
            | Step::Prepared
    )
}

/// Compares all tables of a move, the first session's with those of the one that follows it.
///
/// # Errors
/// `Different` when both sides have caught up and differ.
pub async fn verify_tables(
    [source, target]: [&Session; 2],
    (moved, channel): (&Move, Channel),
    memory: &Memory<'_>,
    listener: &dyn Listener,
) -> Result<(), MoveError> {
    let say = |sentence| listener.say(sentence);
    let sides = Sides { source, target, moved, channel };
    sides.catch_up(&say).await?;
    let mut different = Vec::new();
    for table in &moved.tables {
        sides.wait_for_columns(&say).await?;
        let own = shape(source, table).await?;
        let progress = |sentence| listener.progress(sentence);
        let found = sides.compare(table, &own, memory, (&say, &progress)).await?;
        listener.compared(table, &found);
        if found.different_count > 0 {
            different.push((table.clone(), found));
        }
    }
    if different.is_empty() { Ok(()) } else { Err(MoveError::Different(different)) }
}
