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

/// How long after the fence a stream through which clients write may still end by itself: the sidecar of its
/// owner ends it, and knows by that that it is over.
const OWNER_ENDS_WITHIN: Duration = Duration::from_secs(1);

/// What a stream is to its shard, which says when it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamUse {
    /// It only reads: it ends soon after its keys have another owner.
    Reads,
    /// It may write: it ends as soon as its range is fenced, since what it sends is not held, as it is no request.
    Writes,
    /// The same, and the sidecar that it leads to ends it, too.
    WritesElsewhere,
}

/// Ends when the stream must.
pub fn stream_end(maps: &Arc<LiveMaps>, resolved: Resolved, of: StreamUse) -> StreamEnd {
    let maps = Arc::clone(maps);
    Box::pin(async move {
        let mut changes = maps.active.changes();
        loop {
            match maps.newest(&resolved) {
                Ok(newest) if of != StreamUse::Reads && newest.must_wait(true) => {
                    if of == StreamUse::WritesElsewhere {
                        tokio::time::sleep(OWNER_ENDS_WITHIN).await;
                    }
                    return;
                }
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
