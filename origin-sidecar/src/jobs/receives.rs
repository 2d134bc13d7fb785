//! How often a message may be received before the queue drops it.

use rules::document::{self, MAX_ATTEMPTS_DEFAULT, WAIT_FOR_APP_DEFAULT};
use std::time::Duration;

/// Deliveries of the embedded queue that are no attempts: it found the lease taken, its consumer
/// drained, or a consumer reports that no attempt is left. Only a message that never becomes an
/// attempt goes to the dead letters unreported.
pub const SPARE_RECEIVES: u64 = 20;

/// How often a message of the queue may have to be received before its job has ended: once per
/// attempt, and once per round of waiting for an application that is away.
pub fn receives(rule: Option<&document::Queue>) -> u64 {
    let (attempts, wait) = rule.map_or((MAX_ATTEMPTS_DEFAULT, WAIT_FOR_APP_DEFAULT), |rule| {
        (rule.max_attempts, rule.wait_for_app)
    });
    let rounds = u128::from(wait.0).div_ceil(ROUND.as_millis());
    attempts + SPARE_RECEIVES + u64::try_from(rounds).unwrap_or(u64::MAX)
}

/// The shortest interval between deliveries of a message whose job can't be executed: queues count
/// deliveries, and drop a message that has had too many.
pub(crate) const ROUND: Duration = Duration::from_secs(900);
