//! Looks for changes of live maps in the result store, whether or not anybody pushes them.

use super::live_maps::LiveMaps;
use super::member::Member;
use crate::drain::DrainState;
use crate::secrets;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// While a range moves. A move stands still for about a second: a process that no push reaches must not be
/// the one that all wait for.
const POLL_MOVING: Duration = Duration::from_millis(500);
/// One look; a store that hangs must not keep the next map from being looked at.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks every `interval` ± 20 %, so that pods which were started together do not ask together; every 500 ms
/// while a range moves. Goes on until nothing is in flight any more (`over`): a process that drains still writes, and
/// is a member of the move.
pub async fn watch(maps: Arc<LiveMaps>, interval: Duration, mut over: watch::Receiver<bool>) {
    let mut member = Member::default();
    let mut changes = maps.active.changes();
    let mut next = Instant::now();
    loop {
        changes.mark_unchanged();
        let names = maps.names();
        if next <= Instant::now() {
            for name in &names {
                if let Ok(Err(error)) = tokio::time::timeout(LOOK_TIMEOUT, maps.look(name)).await {
                    tracing::debug!(map = &**name, %error, "the result store did not answer");
                }
                maps.show_age(name);
            }
        }
        for name in &names {
            let _ = tokio::time::timeout(LOOK_TIMEOUT, member.report(&maps, name)).await;
        }
        let is_moving = names.iter().any(|name| maps.is_moving(name));
        let pause = if is_moving { POLL_MOVING } else { spread(interval) };
        next = if next <= Instant::now() {
            Instant::now() + pause
        } else {
            next.min(Instant::now() + pause)
        };
        tokio::select! {
            biased;
            () = DrainState::begun(&mut over) => break,
            // A map that was pushed: the coordinator is told at once.
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
    member.leave(&maps).await;
}

/// Between 80 % and 120 % of a time.
fn spread(interval: Duration) -> Duration {
    interval.mul_f64(0.8) + secrets::random_part(interval.mul_f64(0.4))
}
