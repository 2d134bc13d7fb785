//! The switch of a range to its new owner: its writes wait for about a second, in which the last of them reach the
//! other database, one gate closes for good, the other opens, and the map says so.
//!
//! The order is what makes it safe: the giver is closed and drained before the marker is written; the taker has
//! written the marker to its disk before the map passes the point of no return; only then is the giver's gate marked
//! as moved, the taker's opened, and the map committed. At no time do both take writes.

pub mod leg;
pub mod pause;
pub mod sequences;

use crate::columns;
use crate::gate::{self, GateState};
use crate::journal::{Entry, Step};
use crate::limits::PauseReport;
use crate::move_error::MoveError;
use crate::moved::MovedTable;
use crate::mover::Mover;
use crate::owner_check;
use crate::replication::lookout::Lookout;
use crate::replication::{marker, publication, subscription};
use leg::Leg;
use std::time::Duration;

/// How often a switch is tried whose pause took too long, and the time before the second try, which doubles.
const TRIES: u32 = 4;
const TRY_PAUSE: Duration = Duration::from_secs(2);
/// Between two tries to store the commit, while the store is away.
const COMMIT_PAUSE: Duration = Duration::from_millis(500);

/// The table in which a taker notes that it has a marker: with that its disk has everything before it. Its log up to
/// `until` is none that the giver has to follow later.
pub const ARRIVALS: &str = "CREATE TABLE IF NOT EXISTS spillway.arrival (\
    move int PRIMARY KEY, marker bigint NOT NULL, until pg_lsn NOT NULL, \
    sequences jsonb NOT NULL DEFAULT '{}')";

impl Mover<'_> {
    /// Makes the way back, long before it is needed: a slot at the target keeps what is written there from the
    /// switch on, and a subscription of the source sleeps until then.
    pub(crate) async fn prepare_way_back(&self, entry: &Entry) -> Result<(), MoveError> {
        let back = entry.moved.id.back();
        for session in [self.source, self.target] {
            session.batch("create the list of arrivals", ARRIVALS).await?;
            session.batch("create the marker of the way back", &marker::table(back)).await?;
        }
        // Begun anew: of a run that was killed nobody knows how far it was.
        self.remove_channel(back).await?;
        let publication = publication::create(&entry.moved, back);
        self.target.batch("create the publication of the way back", &publication).await?;
        publication::keep_slot(self.target, back).await?;
        let slot = publication::slot_name(self.target, back).await?;
        subscription::begin(self.source, back, &slot, &self.back_connection).await?;
        Ok(())
    }

    /// Announces the move, and switches it. A pause that takes too long is undone and tried again.
    ///
    /// # Errors
    /// When no try succeeds; the giver takes writes then.
    pub(crate) async fn switch(&self, leg: &Leg<'_>, entry: &mut Entry) -> Result<(), MoveError> {
        let mut pause = TRY_PAUSE;
        for left in (0..TRIES).rev() {
            self.unless_interrupted(self.wait_until_ready(leg)).await?;
            self.journal.to(entry, leg.steps.announced).await?;
            // A job may take minutes to end; from the fence on, nothing is interrupted.
            let announcing = async { Ok(leg.announce(self.spillway, &self.limits).await?) };
            let announced = self.unless_interrupted(announcing).await;
            if matches!(announced, Err(MoveError::Interrupted)) {
                self.reopen(leg, entry).await?;
            }
            announced?;
            match self.pause(leg, entry).await {
                Ok(report) => {
                    self.journal.to(entry, leg.steps.past_return).await?;
                    self.complete(leg, entry).await?;
                    self.listener.paused(&report);
                    return Ok(());
                }
                Err(why) => {
                    self.reopen(leg, entry).await?;
                    // A command of a tool that was killed may have passed the point of no return meanwhile.
                    if entry.step == leg.steps.past_return {
                        return self.complete_again(leg, entry).await;
                    }
                    if left == 0 || !why.may_pass() {
                        return Err(why);
                    }
                    let seconds = pause.as_secs();
                    self.listener
                        .say(format!("the switch was undone: {why}; again in {seconds} s"));
                    self.sleep(pause).await?;
                    pause *= 2;
                }
            }
        }
        Ok(())
    }

    /// Waits until nothing is known any more that the pause would have to wait for.
    async fn wait_until_ready(&self, leg: &Leg<'_>) -> Result<(), MoveError> {
        let (say, on) = (self.say(), (leg.moved, leg.channel));
        Lookout::new(leg.giver, leg.taker, on, &say).wait_for_columns().await?;
        Ok(marker::caught_up(leg.giver, leg.taker, on, &say).await?)
    }

    /// The time in which writes wait. The announce may have taken minutes, so the columns are looked at once more.
    async fn pause(&self, leg: &Leg<'_>, entry: &mut Entry) -> Result<PauseReport, MoveError> {
        let differ = columns::different(leg.giver, leg.taker, leg.moved).await?;
        if !differ.is_empty() {
            return Err(MoveError::ColumnsDiffer(differ));
        }
        self.journal.to(entry, leg.steps.fencing).await?;
        self.listener.step(leg.steps.fencing);
        let progress = |sentence| self.listener.progress(sentence);
        leg.pause(self.spillway, &self.limits, &progress).await
    }

    /// The giver takes writes again, and then the map says so. Where the map has passed the point of no return
    /// meanwhile, by a command of a tool that was killed, the move can only go on.
    pub(crate) async fn reopen(&self, leg: &Leg<'_>, entry: &mut Entry) -> Result<(), MoveError> {
        if leg.map_is_past_return(self.spillway).await? {
            self.journal.to(entry, leg.steps.past_return).await?;
            return Ok(());
        }
        gate::set(leg.giver, leg.id, GateState::Open).await?;
        if leg.abort(self.spillway).await? {
            self.journal.to(entry, leg.steps.before).await?;
        } else {
            gate::set(leg.giver, leg.id, GateState::Closed).await?;
            self.journal.to(entry, leg.steps.past_return).await?;
        }
        Ok(())
    }

    /// Goes on with a switch that was interrupted between its announce and its point of no return.
    pub(crate) async fn resume_switch(
        &self,
        leg: &Leg<'_>,
        entry: &mut Entry,
    ) -> Result<(), MoveError> {
        self.listener.say("the last switch was interrupted: it is undone, or ended".to_owned());
        self.reopen(leg, entry).await?;
        if entry.step == leg.steps.past_return {
            return self.complete_again(leg, entry).await;
        }
        self.switch(leg, entry).await
    }

    /// Ends a switch that another tool has brought past the point of no return: nobody knows what that tool had seen
    /// arrive, so everything is brought over once more.
    pub(crate) async fn complete_again(
        &self,
        leg: &Leg<'_>,
        entry: &mut Entry,
    ) -> Result<(), MoveError> {
        leg.bring_over_without_end(&self.limits, &self.say()).await?;
        self.complete(leg, entry).await
    }

    async fn complete(&self, leg: &Leg<'_>, entry: &mut Entry) -> Result<(), MoveError> {
        gate::set(leg.giver, leg.id, GateState::Moved).await?;
        gate::set(leg.taker, leg.id, GateState::Open).await?;
        let mut has_said = false;
        while let Err(why) = leg.commit(self.spillway).await {
            if !has_said {
                has_said = true;
                self.listener.say(format!("the commit is tried until it is stored: {why}"));
            }
            self.sleep(COMMIT_PAUSE).await?;
        }
        self.journal.to(entry, leg.steps.committed).await?;
        self.listener.step(leg.steps.committed);
        Ok(())
    }

    /// Turns replication round: the target need not follow any more, the source follows from now on.
    pub(crate) async fn turn(&self, entry: &Entry) -> Result<(), MoveError> {
        let id = entry.moved.id;
        self.remove_channel(id.forward()).await?;
        if self.source.version().min(self.target.version()) < subscription::ORIGIN_SINCE {
            let sql = "SELECT until::text FROM spillway.arrival WHERE move = $1";
            let row = self.target.row("read the list of arrivals", sql, &[&id.number()]).await?;
            subscription::leave_out(self.source, id.back(), row.get(0)).await?;
        }
        subscription::enable(self.source, id.back()).await?;
        Ok(())
    }

    /// Gives the range back to its first owner, with all that was written at the target since, and removes the move.
    ///
    /// # Errors
    /// As [`Mover::hand_over`].
    pub async fn roll_back(&self, entry: &mut Entry) -> Result<(), MoveError> {
        let moved = entry.moved.clone();
        let leg = Leg::back(&moved, self.source, self.target);
        match entry.step {
            Step::Switched => self.switch(&leg, entry).await?,
            Step::BackAnnounced | Step::BackFencing => self.resume_switch(&leg, entry).await?,
            Step::BackPastReturn => self.complete_again(&leg, entry).await?,
            Step::RolledBack | Step::Aborting => {}
            step => {
                return Err(MoveError::WrongStep(
                    step,
                    "only a move that was switched can be rolled back; `reshard abort` undoes one that was not",
                ));
            }
        }
        self.unless_interrupted(self.remove_move(entry)).await
    }

    /// Ends a move that was switched: the way back is closed, and the source's rows of the range are removed. Where
    /// nothing is compared the way back may be broken: the target owns the range, and its rows are the true ones.
    ///
    /// # Errors
    /// When both differ, or a server does not do what is asked.
    pub async fn finish(&self, entry: &mut Entry, compares: bool) -> Result<(), MoveError> {
        self.unless_interrupted(self.finish_move(entry, compares)).await
    }

    async fn finish_move(&self, entry: &mut Entry, compares: bool) -> Result<(), MoveError> {
        match entry.step {
            Step::Switched if compares => self.verify_back(&entry.moved).await?,
            Step::Switched | Step::Finishing => {}
            step => {
                return Err(MoveError::WrongStep(
                    step,
                    "only a move that was switched can be finished",
                ));
            }
        }
        self.journal.to(entry, Step::Finishing).await?;
        self.listener.step(Step::Finishing);
        let moved = &entry.moved;
        self.remove_channel(moved.id.back()).await?;
        self.remove_rows(self.source, moved).await?;
        let object = self.spillway.map(&moved.map).await?;
        let checks = |shard: &str, table: &MovedTable| match self.options.owner_check {
            true => owner_check::replacement(&object, shard, table, None),
            false => Vec::new(),
        };
        self.remove_gates(moved, &checks).await?;
        for session in [self.source, self.target] {
            owner_check::validate(session, moved, &self.say()).await?;
        }
        self.journal.to(entry, Step::Finished).await?;
        self.listener.step(Step::Finished);
        Ok(())
    }
}
