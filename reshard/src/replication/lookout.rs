//! Looks after replication while somebody waits for it: what stands still is said with its reason, and what can not
//! go on any more is an error.

use super::subscription::{self, Following};
use crate::columns::{self, DifferentColumn};
use crate::moved::{Channel, Move};
use crate::server::{ServerError, Session};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at both servers; a column that came is told within two of them.
const LOOK: Duration = Duration::from_secs(1);
/// After this, something stands still: a worker that lost its connection is back sooner.
const STANDS_STILL: Duration = Duration::from_secs(6);
/// Between two sentences about the same.
const SAID_AGAIN: Duration = Duration::from_secs(30);

/// Looks at both sides from time to time.
pub struct Lookout<'l> {
    from: &'l Session,
    to: &'l Session,
    moved: &'l Move,
    channel: Channel,
    say: &'l dyn Fn(String),
    began: Instant,
    looked: Instant,
    /// When the next sentence about how far it is comes.
    due: Instant,
    before: Option<Following>,
    differ: Vec<DifferentColumn>,
}

impl<'l> Lookout<'l> {
    pub fn new(
        from: &'l Session,
        to: &'l Session,
        (moved, channel): (&'l Move, Channel),
        say: &'l dyn Fn(String),
    ) -> Self {
        let (began, differ) = (Instant::now(), Vec::new());
        let due = began + STANDS_STILL;
        Self { from, to, moved, channel, say, began, looked: began, due, before: None, differ }
    }

    /// Looks, if the last look is long enough ago.
    ///
    /// # Errors
    /// When a server is gone, or the slot is: then nothing is going to arrive.
    pub async fn look(&mut self) -> Result<(), ServerError> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        self.look_at_columns().await?;
        let now = subscription::following(self.from, self.to, self.channel).await?;
        now.checked(self.from)?;
        if self.looked >= self.due {
            self.due = self.looked + SAID_AGAIN;
            let seconds = self.began.elapsed().as_secs();
            (self.say)(format!("for {seconds} s {}", now.shown(self.before.as_ref())));
        }
        self.before.get_or_insert(now);
        Ok(())
    }

    /// Looks until somebody ends it, while the slot is not in use yet.
    ///
    /// # Errors
    /// When a server is gone, or the slot is.
    pub async fn watch_copy(&mut self) -> Result<Infallible, ServerError> {
        loop {
            self.look_at_columns().await?;
            let now = subscription::following(self.from, self.to, self.channel).await?;
            now.checked(self.from)?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until both sides have the same columns.
    ///
    /// # Errors
    /// When a server is gone.
    pub async fn wait_for_columns(&mut self) -> Result<(), ServerError> {
        loop {
            self.look_at_columns().await?;
            if self.differ.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look_at_columns(&mut self) -> Result<(), ServerError> {
        let now = columns::different(self.from, self.to, self.moved).await?;
        if now == self.differ {
            return Ok(());
        }
        (self.say)(match now.is_empty() {
            true => "both shards have the same columns again: the move goes on".to_owned(),
            false => {
                format!("the move waits for a table to be changed\n  {}", columns::shown(&now))
            }
        });
        self.differ = now;
        Ok(())
    }
}
