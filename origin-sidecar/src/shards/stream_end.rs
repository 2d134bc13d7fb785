//! When a stream must end because its data is, or will be, elsewhere.

use super::live_maps::LiveMaps;
use crate::message::body::StreamEnd;
use crate::secrets;
use rules::shard::Resolved;
use std::sync::Arc;
use std::time::Duration;

/// Over what time streams end after a commit: their clients come back at once, to the new owner, and all of
/// them together would be a load that nobody has ordered.
const END_SPREAD: Duration = Duration::from_millis(1500);

/// Ends soon after the keys of a stream have another owner. One that may write (`is_write`) ends as soon as its
/// range is fenced: what it sends is not held, as it is no request.
pub fn stream_end(maps: &Arc<LiveMaps>, resolved: Resolved, is_write: bool) -> StreamEnd {
    let maps = Arc::clone(maps);
    Box::pin(async move {
        let mut changes = maps.active.changes();
        loop {
            match maps.newest(&resolved) {
                Ok(newest) if is_write && newest.must_wait(true) => return,
                Ok(newest) if newest.shard() == resolved.shard() => {}
                _ => break,
            }
            // The sender lives as long as the process.
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
        tokio::time::sleep(secrets::random_part(END_SPREAD)).await;
    })
}
