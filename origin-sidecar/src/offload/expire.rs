//! Ends that nobody who runs the job writes: a cancellation, an adopted execution whose process
//! died; and objects that have outlived their job.

use super::adopt;
use super::record::{
    self, ADOPTED, Adopted, EXPIRING, End, Outcome, PAYLOAD, Terminal, outcome_key,
};
use crate::app::App;
use crate::proxy::Worker;
use crate::results::{PutError, Results, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// How often leases of adopted executions are looked through: one listing each time.
const REAP_INTERVAL: Duration = Duration::from_secs(5);
/// A lease that was not renewed for so long is read; renewed it is every 5 s.
const STALE_MS: u64 = 10_000;
/// How often a store that keeps everything for good is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// Objects live so much longer than the longest `result_ttl`: those of a job are not of one age.
const SWEEP_MARGIN_MS: u64 = 24 * 3_600_000;
/// Keys in one listing.
const PAGE: usize = 500;

/// Ends a job from outside, unless it has ended: the end that counts.
async fn end_from_outside(
    results: &dyn Results,
    id: &str,
    status: Terminal,
    reason: &str,
    now: u64,
) -> Result<Outcome, StoreError> {
    loop {
        let (condition, attempts) = match record::end(results, id).await? {
            End::Is(outcome) => return Ok(outcome),
            End::Open { condition, attempts } => (condition, attempts),
        };
        let outcome = Outcome::without_answer(id, status, reason, now);
        let outcome = Outcome { attempt: attempts, ..outcome };
        match record::write(results, &outcome_key(id), &outcome, condition).await {
            Ok(_) => return Ok(outcome),
            // Somebody was first: see who.
            Err(PutError::Precondition) => {}
            Err(PutError::Failed(error)) => return Err(error),
        }
    }
}

/// The caller wants it no more.
///
/// # Errors
/// When the store fails.
pub(super) async fn cancel(
    results: &dyn Results,
    id: &str,
    now: u64,
) -> Result<Terminal, StoreError> {
    let ended = end_from_outside(results, id, Terminal::Cancelled, "caller", now).await;
    ended.map(|outcome| outcome.status)
}

/// The process that executed an adopted request is gone: nobody will ever know how it ended.
///
/// # Errors
/// When the store fails.
pub(super) async fn lost(results: &dyn Results, id: &str, now: u64) -> Result<Outcome, StoreError> {
    end_from_outside(results, id, Terminal::Failed, "unknown", now).await
}

/// Ends the adopted jobs whose process died, whether somebody asks for them or not. Never returns.
pub async fn reap(worker: Arc<Worker>, results: Arc<dyn Results>) {
    loop {
        tokio::time::sleep(REAP_INTERVAL).await;
        if let Err(error) = reap_once(&worker, results.as_ref()).await {
            tracing::warn!(%error, "leases of adopted requests not looked through");
        }
    }
}

pub(super) async fn reap_once(worker: &Worker, results: &dyn Results) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let page = results.list(ADOPTED, &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.key);
        let now = worker.app.clock.now();
        let stale = page.iter().filter(|lease| lease.written.saturating_add(STALE_MS) <= now);
        for lease in stale {
            end_if_lost(worker, results, &lease.key, now).await?;
        }
    }
}

async fn end_if_lost(
    worker: &Worker,
    results: &dyn Results,
    key: &str,
    now: u64,
) -> Result<(), StoreError> {
    let Some((lease, _)) = record::read::<Adopted>(results, key).await? else { return Ok(()) };
    let Some(id) = key.strip_prefix(ADOPTED).filter(|_| lease.until <= now) else { return Ok(()) };
    let outcome = lost(results, id, now).await?;
    let reason = outcome.reason.as_deref().unwrap_or_default();
    tracing::warn!(job = id, route = lease.route, reason, "an adopted request's process is gone");
    worker.app.metrics.jobs.ended(&lease.queue, outcome.status.as_str(), reason);
    let rules = worker.app.rules();
    adopt::tell(worker, results, &rules, &lease, &outcome).await;
    results.delete(key).await
}

/// Removes what has expired from a store that would keep it for good. Never returns.
pub async fn sweep(app: Arc<App>, results: Arc<dyn Results>) {
    loop {
        match sweep_once(&app, results.as_ref()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "expired objects removed"),
            Err(error) => tracing::warn!(%error, "expired objects not removed"),
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

/// How many were removed.
async fn sweep_once(app: &App, results: &dyn Results) -> Result<u64, StoreError> {
    let rules = app.rules();
    let Some(ttl) = rules.document.queues.values().map(|queue| queue.result_ttl).max() else {
        return Ok(0);
    };
    let before = app.clock.now().saturating_sub(ttl.saturating_add(SWEEP_MARGIN_MS));
    let mut count = 0;
    for prefix in EXPIRING {
        let mut after = String::new();
        loop {
            let page = results.list(prefix, &after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            for object in page.iter().filter(|object| object.written < before) {
                if may_go(results, &object.key).await? {
                    results.delete(&object.key).await?;
                    count += 1;
                }
            }
        }
    }
    Ok(count)
}

/// The body of a job that still waits is needed, however old it is.
async fn may_go(results: &dyn Results, key: &str) -> Result<bool, StoreError> {
    match key.strip_prefix(PAYLOAD) {
        Some(id) => Ok(matches!(record::end(results, id).await?, End::Is(_))),
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Parts;
    use crate::bindings::{Bindings, Upstream};
    use crate::clock::{Clock, System};
    use crate::results::Condition;
    use crate::results::dir::DirResults;
    use bytes::Bytes;
    use rules::Rules;

    const RULES: &str = "[queue.short]\nresult_ttl = \"1h\"\n[queue.long]\nresult_ttl = \"2d\"";

    /// So many milliseconds from now.
    struct Later(u64);

    impl Clock for Later {
        fn now(&self) -> u64 {
            System.now() + self.0
        }
    }

    fn app(clock: Later) -> App {
        let upstream = Upstream::parse("app", "http://127.0.0.1:1").expect("an address");
        let bindings = Bindings {
            app: upstream,
            upstreams: Default::default(),
            queues: Default::default(),
            results: None,
        };
        let parts = Parts {
            rules: Arc::new(Rules::from_toml(RULES).expect("good rules")),
            bindings,
            clock: Arc::new(clock),
            secrets: None,
            shard: None,
            spool: std::env::temp_dir(),
            admin_token: None,
            cache_bytes: 0,
        };
        App::new(parts).expect("an app")
    }

    #[tokio::test]
    async fn what_has_expired_is_removed_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("spillway-expire-{}", std::process::id()));
        let results = DirResults::open(&dir).expect("a store");
        for number in 0..PAGE + 1 {
            let key = format!("results/{number}");
            results.put(&key, Bytes::new(), Condition::Always).await.expect("stored");
        }
        let others =
            ["jobs/a", "adopted/a", "shards/market_data", "payload/failed", "payload/waits"];
        for key in others {
            results.put(key, Bytes::new(), Condition::Always).await.expect("stored");
        }
        lost(&results, "failed", 1).await.expect("an outcome");
        const DAY_MS: u64 = 86_400_000;
        let longest = app(Later(3 * DAY_MS - 60_000));
        assert_eq!(sweep_once(&longest, &results).await, Ok(0), "the longest TTL and a day");
        let after = app(Later(3 * DAY_MS + 60_000));
        assert_eq!(sweep_once(&after, &results).await, Ok(PAGE as u64 + 4));
        for (key, why) in [("shards/market_data", "no job's"), ("payload/waits", "still needed")] {
            assert!(results.head(key).await.expect("an answer").is_some(), "{key} is {why}");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
