//! Ends jobs from outside their execution.

use super::record::{self, JobEnd, Outcome, Terminal, outcome_key};
use rules::UnixMillis;
use stores::results::{PutError, Results, StoreError};

/// The writer of the valid end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    Others,
}

/// Ends a job from outside, unless it has ended. Returns the valid end.
pub(super) async fn end_from_outside(
    results: &dyn Results,
    mut outcome: Outcome,
) -> Result<(Outcome, Whose), StoreError> {
    loop {
        let condition = match record::end(results, &outcome.id).await? {
            JobEnd::Is(outcome) => return Ok((outcome, Whose::Others)),
            JobEnd::Open { condition, attempts } => {
                outcome.attempt = attempts;
                condition
            }
        };
        match record::write(results, &outcome_key(&outcome.id), &outcome, condition).await {
            Ok(_) => return Ok((outcome, Whose::Ours)),
            // Another writer was first: its end is read next.
            Err(PutError::Precondition) => {}
            Err(PutError::Failed(error)) => return Err(error),
        }
    }
}

/// Cancels a job for its caller. Its known queue and route are kept.
///
/// # Errors
/// The store fails.
pub(super) async fn cancel(
    results: &dyn Results,
    id: &str,
    (queue, route): (Option<&str>, Option<&str>),
    now: UnixMillis,
) -> Result<Terminal, StoreError> {
    let mut outcome = Outcome::without_answer(id, Terminal::Cancelled, "caller", now);
    (outcome.queue, outcome.route) = (queue.map(str::to_owned), route.map(str::to_owned));
    let ended = end_from_outside(results, outcome).await;
    ended.map(|(outcome, _)| outcome.status)
}

/// Ends an adopted request whose process is gone: nobody will ever know how it ended.
///
/// # Errors
/// When the store fails.
pub(super) async fn lost(
    results: &dyn Results,
    id: &str,
    now: UnixMillis,
) -> Result<Outcome, StoreError> {
    let outcome = Outcome::without_answer(id, Terminal::Failed, "unknown", now);
    let ended = end_from_outside(results, outcome).await;
    ended.map(|(outcome, _)| outcome)
}
