//! Ends jobs that no consumer ends: adopted executions whose process died; and removes objects that
//! have outlived their job.

use super::context::{JobContext, JobWorker};
use super::leases::{AGAIN, Leases, SKEW, TELL, is_lost};
use super::record::{self, ADOPTED, Adopted, EXPIRING, JobEnd, Outcome, PAYLOAD, Terminal};
use super::terminate::{Whose, end_from_outside};
use super::{notify, state};
use rules::offload;
use rules::{Millis, UnixMillis};
use std::sync::Arc;
use std::time::Duration;
use stores::results::{Condition, Results, StoreError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Ended adopted jobs whose receivers are notified at once.
const TELLING_MAX: usize = 64;
/// How often a store without expiry of its own is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// How much longer than the longest `result_ttl` objects live, in milliseconds: those of a job
/// differ in age.
const SWEEP_MARGIN: Millis = Millis(24 * 3_600_000);
/// Keys in one listing.
const PAGE: usize = 500;

/// Ends adopted jobs whose process died, whether or not somebody asks for them. Never returns.
pub async fn reap(worker: Arc<JobWorker>, results: Arc<dyn Results>) {
    let places = Arc::new(Semaphore::new(TELLING_MAX));
    // Dropping it aborts the notifications.
    let mut telling = JoinSet::new();
    let mut leases = Leases::new(results.is_billed());
    loop {
        if leases.is_list_due(may_adopt(&worker)) {
            let listed = leases.list(results.as_ref(), worker.context.clock.now()).await;
            if let Err(error) = listed {
                tracing::warn!(%error, "could not list the leases of adopted requests");
            }
        }
        for end in ends(&worker, results.as_ref(), &mut leases).await {
            // An end without a free permit is found again in the next iteration.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { break };
            let (worker, results) = (Arc::clone(&worker), Arc::clone(&results));
            telling.spawn(async move {
                end.tell(&worker, results.as_ref()).await;
                drop(place);
            });
        }
        while telling.try_join_next().is_some() {}
        tokio::time::sleep_until(leases.next()).await;
    }
}

/// Whether the rules allow adopted executions or foreign consumers: unsent notifications of both
/// are sent here.
fn may_adopt(worker: &JobWorker) -> bool {
    let rules = worker.context.active.rules();
    let document = &rules.document;
    document.queues.values().any(|queue| queue.foreign_consumers)
        || document.routes.iter().filter_map(|it| it.offload.as_ref()).any(offload::may_adopt)
}

/// An adopted request whose process is gone, and whose end is stored.
struct Orphan {
    key: String,
    etag: String,
    lease: Adopted,
    outcome: Outcome,
}

/// The result of checking a lease.
enum Look {
    /// The lease has expired, and the job's end is stored.
    Over(Box<Orphan>),
    /// The lease does not expire before this time.
    Good(Duration),
    Gone,
}

/// Stores the ends of all before anybody is notified, because receivers may be slow. A damaged
/// record affects its own job only.
async fn ends(worker: &JobWorker, results: &dyn Results, leases: &mut Leases) -> Vec<Orphan> {
    let mut ends = Vec::new();
    for key in leases.due() {
        match end_if_lost(worker, results, &key, worker.context.clock.now()).await {
            Ok(Look::Over(end)) => {
                leases.put_off(&key, AGAIN);
                ends.push(*end);
            }
            Ok(Look::Good(rest)) => leases.put_off(&key, rest),
            Ok(Look::Gone) => leases.forget(&key),
            Err(error) => {
                leases.put_off(&key, AGAIN);
                tracing::warn!(key, %error, "adopted request not ended");
            }
        }
    }
    ends
}

async fn end_if_lost(
    worker: &JobWorker,
    results: &dyn Results,
    key: &str,
    now: UnixMillis,
) -> Result<Look, StoreError> {
    let Some((lease, etag)) = record::read::<Adopted>(results, key).await? else {
        return Ok(Look::Gone);
    };
    if !is_lost(&lease, now) {
        let rest = lease.until + SKEW - now;
        return Ok(Look::Good(Duration::from(rest)));
    }
    let id = key.strip_prefix(ADOPTED).unwrap_or(key);
    let mut outcome = Outcome::without_answer(id, Terminal::Failed, "unknown", now);
    (outcome.queue, outcome.route) = (Some(lease.queue.clone()), Some(lease.route.clone()));
    let (outcome, whose) = end_from_outside(results, outcome).await?;
    if whose == Whose::Ours {
        let reason = outcome.reason.as_deref().unwrap_or_default();
        tracing::warn!(
            job = id,
            route = lease.route,
            reason,
            "the process that executed an adopted request is gone"
        );
        worker.context.metrics.jobs.ended(&lease.queue, outcome.status.as_str(), reason);
    }
    let orphan = Orphan { key: key.to_owned(), etag, lease, outcome };
    Ok(Look::Over(Box::new(orphan)))
}

impl Orphan {
    /// Notifies the receivers. One of all consumers does so: the one that gets the lease. If it
    /// dies too, the lease expires again.
    async fn tell(self, worker: &JobWorker, results: &dyn Results) {
        let Self { key, etag, lease, outcome } = self;
        let until = worker.context.clock.now() + TELL;
        let ours = Adopted { until, ..lease.clone() };
        let taken = record::write(results, &key, &ours, Condition::IfMatch(etag)).await;
        if taken.is_err() {
            return;
        }
        // Where the client got the answer at once, nobody is notified, unless a retry was promised
        // the end.
        let id = outcome.id.as_str();
        if !outcome.answered || state::is_promised(results, id).await {
            let rules = worker.context.active.rules();
            notify::tell(worker, results, &rules, &lease, &outcome).await;
        }
        if let Err(error) = results.delete(&key).await {
            tracing::debug!(key, %error, "lease not removed; its end is told again");
        }
    }
}

/// Removes expired objects from a store without expiry of its own. Never returns.
pub async fn sweep(context: Arc<JobContext>, results: Arc<dyn Results>) {
    loop {
        match sweep_once(&context, results.as_ref()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "expired objects removed"),
            Err(error) => tracing::warn!(%error, "could not remove expired objects"),
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

/// Sweeps once, and returns how many objects were removed.
async fn sweep_once(context: &JobContext, results: &dyn Results) -> Result<u64, StoreError> {
    let rules = context.active.rules();
    let Some(ttl) = rules.document.queues.values().map(|queue| queue.result_ttl).max() else {
        return Ok(0);
    };
    let before = context.clock.now() - (ttl + SWEEP_MARGIN);
    let mut count = 0;
    for prefix in EXPIRING {
        let mut after = String::new();
        loop {
            let page = results.list(prefix, &after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            for object in page.iter().filter(|object| object.written < before) {
                match remove(results, &object.key, before).await {
                    Ok(is_gone) => count += u64::from(is_gone),
                    Err(error) => tracing::warn!(object.key, %error, "not removed"),
                }
            }
        }
    }
    Ok(count)
}

async fn remove(results: &dyn Results, key: &str, before: UnixMillis) -> Result<bool, StoreError> {
    let may_go = match key.strip_prefix(PAYLOAD) {
        Some(id) => !is_needed(&record::end(results, id).await?, before),
        None => true,
    };
    if may_go {
        results.delete(key).await?;
    }
    Ok(may_go)
}

/// Whether the body is still needed: of a job that waits, however old it is, and of one that
/// failed, as long as it can be retried.
fn is_needed(end: &JobEnd, before: UnixMillis) -> bool {
    match end {
        JobEnd::Open { .. } => true,
        JobEnd::Is(outcome) => outcome.status == Terminal::Failed && outcome.finished >= before,
    }
}

#[cfg(test)]
mod tests {
    use super::super::terminate::lost;
    use super::*;
    use crate::clock::{Clock, System};
    use bytes::Bytes;
    use stores::results::dir::DirResults;

    const RULES: &str = "[queue.short]\nresult_ttl = \"1h\"\n[queue.long]\nresult_ttl = \"2d\"";

    const DAY: Millis = Millis(86_400_000);

    /// So long from now.
    struct Later(Millis);

    impl Clock for Later {
        fn now(&self) -> UnixMillis {
            System.now() + self.0
        }
    }

    fn app(clock: Later) -> JobContext {
        JobContext::alone(RULES, Arc::new(clock))
    }

    #[tokio::test]
    async fn what_has_expired_is_removed_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("spillway-expire-{}", std::process::id()));
        let results = DirResults::open(&dir).expect("a store");
        for number in 0..PAGE + 1 {
            let key = format!("results/{number}");
            results.put(&key, Bytes::new(), Condition::Always).await.expect("stored");
        }
        let others = [
            "jobs/a",
            "adopted/a",
            "shards/market_data",
            "payload/failed",
            "payload/failed-late",
            "payload/waits",
        ];
        for key in others {
            results.put(key, Bytes::new(), Condition::Always).await.expect("stored");
        }
        lost(&results, "failed", UnixMillis(1)).await.expect("an outcome");
        lost(&results, "failed-late", Later(DAY * 2).now()).await.expect("an outcome");
        results.put("payload/damaged", Bytes::new(), Condition::Always).await.expect("stored");
        results.put("outcome/damaged", Bytes::new(), Condition::Always).await.expect("stored");
        let longest = app(Later(DAY * 3 - Millis(60_000)));
        assert_eq!(sweep_once(&longest, &results).await, Ok(0), "the longest TTL and a day");
        let after = app(Later(DAY * 3 + Millis(60_000)));
        assert_eq!(sweep_once(&after, &results).await, Ok(PAGE as u64 + 6));
        let kept = [
            ("shards/market_data", "no job's"),
            ("payload/waits", "still needed"),
            ("payload/failed-late", "needed for a retry"),
        ];
        for (key, why) in kept {
            assert!(results.head(key).await.expect("an answer").is_some(), "{key} is {why}");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
