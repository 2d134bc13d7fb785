//! Checks that no other call makes: whether the bucket exists before the first job, and whether
//! folders still do.

use super::{Call, Dependency, FOLDER_MISSING, RefusedCall, Soundness};
use crate::telemetry::metrics::Metrics;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use stores::queue::Queue;
use stores::results::{Condition, Results};
use tokio::time::{Instant, timeout};

/// The interval between checks of local folders.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between checks while something is refused, and between log lines about it.
const AGAIN: Duration = Duration::from_secs(10);
/// The interval between read checks of the bucket while it works and jobs come.
const READ_INTERVAL: Duration = Duration::from_secs(30);
/// The interval between write checks while it works and jobs come.
const WRITE_INTERVAL: Duration = Duration::from_secs(600);
/// The interval between read checks while no job comes: 0.02 $ a month.
const READ_IDLE: Duration = Duration::from_secs(60);
/// The interval between write checks while no job comes: 0.007 $ a month. The first job makes the
/// next check due.
const WRITE_IDLE: Duration = Duration::from_secs(1_800);
/// The prefix of objects for checks.
const PROBES: &str = "probe/";
/// An empty object, one for all processes.
const PROBE: &str = "probe/written";
/// An object that never exists.
const PROBE_ABSENT: &str = "probe/absent";

/// The backends that are checked.
pub struct CheckedDependencies {
    pub soundness: Arc<Soundness>,
    /// By name.
    pub queues: BTreeMap<String, Arc<dyn Queue>>,
    pub results: Option<Arc<dyn Results>>,
    /// The folder of `--spool`.
    pub spool: PathBuf,
    pub metrics: Arc<Metrics>,
}

/// Checks the backends as long as the process runs. Never returns.
pub async fn watch(parts: CheckedDependencies) {
    let soundness = &parts.soundness;
    let results = parts.results.as_deref().filter(|results| !results.keeps_for_good());
    let mut asked = LastChecks::default();
    // The first check of a backend includes a listing.
    let mut lists = true;
    loop {
        let has_faults = soundness.has_faults();
        let (read, write) = match soundness.has_traffic() {
            _ if has_faults => (AGAIN, AGAIN),
            true => (READ_INTERVAL, WRITE_INTERVAL),
            false => (READ_IDLE, WRITE_IDLE),
        };
        look(&parts).await;
        if let Some(results) = results {
            if is_due(&mut asked.written, write) {
                ask_all(results, lists || has_faults).await;
                lists = false;
            } else if is_due(&mut asked.read, read) {
                // The watcher sees the answer.
                let _ = results.get(PROBE_ABSENT, None).await;
            }
        }
        if !has_faults {
            // New refusals are logged as they come.
            asked.said = Some(Instant::now());
        } else if is_due(&mut asked.said, AGAIN) {
            soundness.remind();
        }
        let mut changed = pin!(soundness.changed.notified());
        changed.as_mut().enable();
        soundness.publish(&parts.metrics);
        let _ = timeout(LOOK_INTERVAL, changed).await;
    }
}

/// When each check was last made.
#[derive(Default)]
struct LastChecks {
    read: Option<Instant>,
    written: Option<Instant>,
    said: Option<Instant>,
}

/// Whether a check is due; if so, it counts as made now.
fn is_due(last: &mut Option<Instant>, pause: Duration) -> bool {
    let is_due = last.is_none_or(|last| last.elapsed() >= pause);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}

/// Makes all checks; the watcher sees the answers. A listing costs as much as twelve reads, and the
/// consumer, which needs that permission, lists leases regularly anyway.
async fn ask_all(results: &dyn Results, lists: bool) {
    let said = Bytes::from_static(b"spillway");
    let listed = async {
        if lists {
            let _ = results.list(PROBES, "", 1).await;
        }
    };
    let _ = tokio::join!(
        results.get(PROBE_ABSENT, None),
        results.put(PROBE, said, Condition::Always),
        listed,
    );
}

/// Checks that folders are where they were. A spool can be created again: its contents are lost
/// either way.
async fn look(parts: &CheckedDependencies) {
    let soundness = &parts.soundness;
    let note = |part: Dependency, stands: Result<(), String>| match stands {
        Ok(()) => soundness.works(&part, Call::Stand),
        Err(detail) => soundness.refuses(&part, Call::Stand, FOLDER_MISSING, &detail),
    };
    let gone = || "its files are not where they were".to_owned();
    for (name, queue) in &parts.queues {
        if !queue.stands() {
            note(Dependency::Queue(name.clone()), Err(gone()));
        }
    }
    if let Some(results) = parts.results.as_deref().filter(|it| it.keeps_for_good()) {
        note(Dependency::Results, if results.stands() { Ok(()) } else { Err(gone()) });
    }
    let folder = parts.spool.as_path();
    if !tokio::fs::try_exists(folder).await.unwrap_or(false) {
        let made = tokio::fs::create_dir_all(folder).await;
        if made.is_ok() {
            let (folder, reason) = (folder.display().to_string(), FOLDER_MISSING);
            tracing::warn!(folder, reason, "the folder of --spool was missing; created it again");
        }
        note(Dependency::Spool, made.map_err(|error| format!("{}: {error}", folder.display())));
    } else {
        note(Dependency::Spool, Ok(()));
    }
}

/// Resolves with the refused call when this process can't do its work and never could.
pub async fn start_refused(soundness: &Soundness) -> RefusedCall {
    loop {
        if let Some(refusal) = soundness.of_start() {
            return refusal;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
