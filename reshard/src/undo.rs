//! The way back of a move that was not switched: the source as it was, and nothing left at the target.

use crate::copy::indexes;
use crate::gate::{self, GateState};
use crate::journal::{Entry, Step};
use crate::move_error::MoveError;
use crate::moved::{Move, MoveId, MovedTable};
use crate::mover::Mover;
use crate::owner_check;
use crate::server::{ServerError, Session};
use crate::sql::KeyRange;
use crate::switch::leg::Leg;

impl Mover<'_> {
    /// Undoes the move, from whatever step it is at before its switch. The source is open before anything else is
    /// done.
    ///
    /// # Errors
    /// When the move was switched; when a server is gone or refuses a statement. It can be called again.
    pub async fn undo(&self, entry: &mut Entry) -> Result<(), MoveError> {
        let moved = entry.moved.clone();
        if matches!(entry.step, Step::Announced | Step::Fencing) {
            let leg = Leg::there(&moved, self.source, self.target);
            self.reopen(&leg, entry).await?;
        }
        if is_past_return(entry.step) {
            return Err(MoveError::WrongStep(
                entry.step,
                "it can only go on: `reshard run` ends the switch, then `reshard rollback` gives the range back",
            ));
        }
        // Not before: a map whose fence is left would let writes wait.
        self.unless_interrupted(self.remove_move(entry)).await
    }

    /// Removes everything of a move whose range belongs to the source.
    ///
    /// # Errors
    /// When a server or the map's store is gone.
    pub(crate) async fn remove_move(&self, entry: &mut Entry) -> Result<(), MoveError> {
        let id = entry.moved.id;
        if self.forget_taken_number(entry).await? {
            return Ok(());
        }
        if gate::exists(self.source, id).await? {
            gate::set(self.source, id, GateState::Open).await?;
        }
        self.journal.to(entry, Step::Aborting).await?;
        self.listener.step(Step::Aborting);
        self.remove_channel(id.back()).await?;
        self.remove_copy(entry).await?;
        let removed = entry.removed.as_deref().unwrap_or_default();
        indexes::restore(&[self.target], removed, &self.say()).await?;
        self.replace_checks(&entry.moved, None).await?;
        self.remove_gates(&entry.moved, &|_, _| Vec::new()).await?;
        self.journal.to(entry, Step::Aborted).await?;
        self.listener.step(Step::Aborted);
        Ok(())
    }

    /// Whether another move has this one's number at one of the databases: then this one has come no further than its
    /// gates, and nothing of the other is touched.
    async fn forget_taken_number(&self, entry: &mut Entry) -> Result<bool, MoveError> {
        let (mut is_taken, moved) = (false, entry.moved.clone());
        for session in [self.target, self.source] {
            is_taken |= gate::other(session, &moved).await?.is_some();
        }
        if !is_taken {
            return Ok(false);
        }
        for session in [self.target, self.source] {
            if gate::other(session, &moved).await?.is_none() {
                remove_gate(session, &moved, &|_| Vec::new(), &self.say()).await?;
            }
        }
        self.replace_checks(&moved, None).await?;
        self.journal.to(entry, Step::Aborted).await?;
        self.listener.step(Step::Aborted);
        Ok(true)
    }

    /// Where the target has checks of its owner, they are those of the map now. `also`: a range that comes here.
    pub(crate) async fn replace_checks(
        &self,
        moved: &Move,
        also: Option<&KeyRange>,
    ) -> Result<(), MoveError> {
        let object = self.spillway.map(&moved.map).await?;
        for table in &moved.tables {
            if owner_check::exists(self.target, &moved.map, table).await? {
                let sql = owner_check::replacement(&object, &moved.target, table, also);
                let doing = format!("set the owner's check of {}", table.name.shown());
                gate::with_table(self.target, &doing, table, &sql, &self.say()).await?;
            }
        }
        Ok(())
    }

    /// Removes gates, markers and lists from both databases. `instead`: what a table of a shard gets in place of the
    /// gate.
    pub(crate) async fn remove_gates(
        &self,
        moved: &Move,
        instead: &dyn Fn(&str, &MovedTable) -> Vec<String>,
    ) -> Result<(), ServerError> {
        for (session, shard) in [(self.target, &moved.target), (self.source, &moved.source)] {
            remove_gate(session, moved, &|table| instead(shard, table), &self.say()).await?;
        }
        Ok(())
    }
}

/// Removes gate, markers and lists of a move from one database.
pub(crate) async fn remove_gate(
    session: &Session,
    moved: &Move,
    instead: &dyn Fn(&MovedTable) -> Vec<String>,
    say: &dyn Fn(String),
) -> Result<(), ServerError> {
    gate::remove(session, moved, instead, say).await?;
    session.batch("remove the markers", &markers(moved.id)).await?;
    session.batch("remove the lists of the move", &lists(moved.id)).await
}

/// Whether the range belongs to the target, or can only come to belong to it.
pub(crate) fn is_past_return(step: Step) -> bool {
    matches!(
        step,
        Step::PastReturn
            | Step::Committed
            | Step::Switched
            | Step::BackAnnounced
            | Step::BackFencing
            | Step::BackPastReturn
            | Step::Finishing
            | Step::Finished
    )
}

/// Removes the markers of both directions.
fn markers(id: MoveId) -> String {
    let names = [id.forward(), id.back()].map(|channel| channel.marker().to_string());
    format!("DROP TABLE IF EXISTS {}", names.join(", "))
}

/// Removes what the lists of chunks and arrivals have of this move, the lists if no other move uses them, and the
/// schema if nothing is left in it.
fn lists(id: MoveId) -> String {
    let list = |name: &str| {
        format!(
            "IF to_regclass('{name}') IS NOT NULL THEN DELETE FROM {name} WHERE move = {id}; \
             IF NOT EXISTS (SELECT 1 FROM {name}) THEN DROP TABLE {name}; END IF; END IF;"
        )
    };
    format!(
        "DO $d$ BEGIN {} {} IF EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'spillway') AND NOT EXISTS ( \
         SELECT 1 FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid \
         WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname = 'spillway') THEN DROP SCHEMA spillway; \
         END IF; END $d$",
        list("spillway.chunk"),
        list("spillway.arrival")
    )
}
