//! A table of one column in which one side writes numbers: a number that is seen at the other has brought everything
//! that was committed before it. Each direction has a table of its own, so that no marker comes back.

use super::lookout::Lookout;
use crate::moved::{Channel, Move};
use crate::server::{ServerError, Session};
use std::time::Duration;

/// Between two looks for a marker: short at first, as it arrives within milliseconds once the target has caught up.
const LOOK_MIN: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_millis(500);

/// The statement that creates the table, on both sides.
pub fn table(channel: Channel) -> String {
    format!("CREATE TABLE IF NOT EXISTS {} (n bigint PRIMARY KEY)", channel.marker())
}

/// Writes the next marker.
///
/// # Errors
/// When the server does not take it.
pub async fn set(from: &Session, channel: Channel) -> Result<i64, ServerError> {
    Ok(from.row("write a marker", &writing(channel), &[]).await?.get(0))
}

/// The statement that writes the next marker.
pub fn writing(channel: Channel) -> String {
    let table = channel.marker();
    format!("INSERT INTO {table} SELECT coalesce(max(n), 0) + 1 FROM {table} RETURNING n")
}

/// Whether a marker has arrived.
///
/// # Errors
/// When the server does not answer.
pub async fn is_there(to: &Session, channel: Channel, number: i64) -> Result<bool, ServerError> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE n = {number})", channel.marker());
    Ok(to.row("look for a marker", &sql, &[]).await?.get(0))
}

/// Writes a marker and waits until it is on the other side, however long that takes. Says how far that is, and why it
/// stands still.
///
/// # Errors
/// When a server is gone, or the slot is lost.
pub async fn caught_up(
    from: &Session,
    to: &Session,
    (moved, channel): (&Move, Channel),
    say: &dyn Fn(String),
) -> Result<(), ServerError> {
    let number = set(from, channel).await?;
    let mut lookout = Lookout::new(from, to, (moved, channel), say);
    let mut pause = LOOK_MIN;
    while !is_there(to, channel, number).await? {
        lookout.look().await?;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_MAX);
    }
    Ok(())
}
