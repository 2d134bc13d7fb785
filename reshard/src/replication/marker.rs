//! A table of one column in which the source writes numbers: a number that is seen at the target has brought
//! everything that was committed before it.

use super::subscription::{self, Following};
use crate::moved::{Channel, MoveId};
use crate::server::{ServerError, Session};
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks for a marker: short at first, as it arrives within milliseconds once the target has caught up.
const LOOK_MIN: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_millis(500);
/// When something that stands still is said, with its reason.
const STANDS_STILL: Duration = Duration::from_secs(30);

/// The statement that creates the table, on both sides.
pub fn table(id: MoveId) -> String {
    format!("CREATE TABLE IF NOT EXISTS {} (n bigint PRIMARY KEY)", id.marker())
}

/// Writes the next marker at the source.
///
/// # Errors
/// When the server does not take it.
pub async fn set(source: &Session, id: MoveId) -> Result<i64, ServerError> {
    let table = id.marker();
    let sql =
        format!("INSERT INTO {table} SELECT coalesce(max(n), 0) + 1 FROM {table} RETURNING n");
    Ok(source.row("write a marker", &sql, &[]).await?.get(0))
}

/// Whether a marker has arrived.
///
/// # Errors
/// When the server does not answer.
pub async fn is_there(target: &Session, id: MoveId, number: i64) -> Result<bool, ServerError> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE n = $1)", id.marker());
    Ok(target.row("look for a marker", &sql, &[&number]).await?.get(0))
}

/// Writes a marker and waits until it is at the target, however long that takes. Says how far the target is, and
/// why it stands still.
///
/// # Errors
/// When a server is gone, or the slot is lost.
pub async fn caught_up(
    source: &Session,
    target: &Session,
    channel: Channel,
    say: &dyn Fn(String),
) -> Result<(), ServerError> {
    let number = set(source, channel.id).await?;
    let (mut pause, mut said) = (LOOK_MIN, Instant::now());
    let mut before: Option<Following> = None;
    loop {
        if is_there(target, channel.id, number).await? {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_MAX);
        if said.elapsed() >= STANDS_STILL {
            said = Instant::now();
            let now = subscription::following(source, target, channel).await?;
            say(now.shown(before.as_ref()));
            before = Some(now);
        }
    }
}
