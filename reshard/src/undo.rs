//! The way back of a move that was not switched: the source as it was, and nothing left at the target.

use crate::copy::indexes;
use crate::gate::{self, GateState};
use crate::journal::{Entry, Step};
use crate::server::ServerError;
use crate::steps::Mover;

impl Mover<'_> {
    /// Undoes the move, from whatever step it is at. The source is open before anything else is done.
    ///
    /// # Errors
    /// When a server is gone or refuses a statement. It can be called again.
    pub async fn undo(&self, entry: &mut Entry) -> Result<(), ServerError> {
        let id = entry.moved.id;
        if gate::exists(self.source, id).await? {
            gate::set(self.source, id, GateState::Open).await?;
        }
        self.journal.to(entry, Step::Aborting).await?;
        self.listener.step(Step::Aborting);
        self.remove_copy(entry).await?;
        let say = |sentence| self.listener.say(sentence);
        let removed = entry.removed.as_deref().unwrap_or_default();
        indexes::restore(self.target, removed, &say).await?;
        gate::remove(self.target, &entry.moved, &say).await?;
        gate::remove(self.source, &entry.moved, &say).await?;
        let marker = format!("DROP TABLE IF EXISTS {}", id.marker());
        self.target.batch("remove the marker", &marker).await?;
        self.source.batch("remove the marker", &marker).await?;
        self.target.batch("remove the list of chunks", UNUSED).await?;
        self.journal.to(entry, Step::Aborted).await?;
        self.listener.step(Step::Aborted);
        Ok(())
    }
}

/// Removes the list of chunks and the schema, if no other move uses them.
const UNUSED: &str = "\
DO $d$ BEGIN
  IF to_regclass('spillway.chunk') IS NOT NULL THEN
    IF NOT EXISTS (SELECT 1 FROM spillway.chunk) THEN DROP TABLE spillway.chunk; END IF;
  END IF;
  IF EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'spillway') AND NOT EXISTS (
    SELECT 1 FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid
    WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname = 'spillway') THEN
    DROP SCHEMA spillway;
  END IF;
END $d$";
