//! `reshard preflight`: everything that would stop a move, at once.

use super::arguments::MoveArguments;
use super::open::{Planned, addresses, planned, session};
use super::stop::Stop;
use crate::moved::MoveId;

/// What sessions of this command are called in `pg_stat_activity`.
const SESSION: &str = "reshard preflight";

/// Looks at both servers and says what is wrong.
///
/// # Errors
/// Code 78 when an argument is wrong, 1 when something would stop the move.
pub async fn preflight(own: &MoveArguments) -> Result<(), Stop> {
    let addresses = addresses(&own.connections)?;
    let Planned { moved, .. } = planned(own, MoveId(0)).await?;
    for shard in [&moved.source, &moved.target] {
        session(&addresses, shard, SESSION).await?;
    }
    Ok(())
}
