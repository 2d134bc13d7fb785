//! How often a message may be received before the queue gives it up.

use rules::document::{self, MAX_ATTEMPTS_DEFAULT, WAIT_FOR_APP_DEFAULT};
use std::time::Duration;

/// Deliveries of the embedded queue that are no attempts: it found the lease taken, its consumer
/// was drained, or a consumer says that no attempt is left. Only a message that never becomes one
/// goes to the dead letters without a word.
pub const SPARE_RECEIVES: u64 = 20;

/// How often a message of the queue may have to be received before its job has ended: for each attempt,
/// and for each round of waiting for an application that is away.
pub fn receives(rule: Option<&document::Queue>) -> u64 {
    let (attempts, wait) = rule.map_or((MAX_ATTEMPTS_DEFAULT, WAIT_FOR_APP_DEFAULT), |rule| {
        (rule.max_attempts, rule.wait_for_app)
    });
    let rounds = u128::from(wait.0).div_ceil(ROUND.as_millis());
    attempts + SPARE_RECEIVES + u64::try_from(rounds).unwrap_or(u64::MAX)
}

/// A message is received once in so long at most while its job can't be executed: queues count what
/// they give out, and bury a message that they have given out too often.
pub(crate) const ROUND: Duration = Duration::from_secs(900);
