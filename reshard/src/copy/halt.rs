//! A copy that stands still between two chunks, because somebody asked for it from another process.

use crate::moved::MoveId;
use crate::server::{ServerError, Session};
use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

/// How often the journal is asked.
const LOOK: Duration = Duration::from_secs(1);
/// How often a worker that stands still looks whether it may go on.
const WAIT: Duration = Duration::from_millis(100);

/// Notes whether the copy of a move is to stand still. The tool that copies holds the source's lock; this needs none.
///
/// # Errors
/// When the server does not take it.
pub async fn ask(source: &Session, id: MoveId, is_paused: bool) -> Result<(), ServerError> {
    let sql = "UPDATE spillway.move SET paused = $2 WHERE id = $1";
    source.execute("note whether the copy stands still", sql, &[&id.number(), &is_paused]).await?;
    Ok(())
}

/// Whether it is to stand still.
///
/// # Errors
/// When the server does not answer.
pub async fn is_asked(source: &Session, id: MoveId) -> Result<bool, ServerError> {
    let sql = "SELECT paused FROM spillway.move WHERE id = $1";
    Ok(source.row("ask whether the copy stands still", sql, &[&id.number()]).await?.get(0))
}

/// What the workers of a copy look at.
#[derive(Debug, Default)]
pub struct Halt(Cell<bool>);

impl Halt {
    /// Waits until the copy may go on.
    pub async fn passed(&self) {
        while self.0.get() {
            tokio::time::sleep(WAIT).await;
        }
    }

    /// Looks into the journal for as long as the copy lasts.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn watch(
        &self,
        source: &Session,
        id: MoveId,
        say: &dyn Fn(String),
    ) -> Result<Infallible, ServerError> {
        loop {
            let is_asked = is_asked(source, id).await?;
            if self.0.replace(is_asked) != is_asked {
                say(match is_asked {
                    true => "the copy stands still: `reshard resume` lets it go on".to_owned(),
                    false => "the copy goes on".to_owned(),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
