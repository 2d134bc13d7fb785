use super::*;
use crate::results::dir::DirResults;

#[tokio::test]
async fn a_job_that_runs_is_listed_however_many_wait_for_their_next_attempt() {
    let folder = std::env::temp_dir().join(format!("spillway-jobs-{}", std::process::id()));
    let results: Arc<dyn Results> = Arc::new(DirResults::open(&folder).expect("a store"));
    let lease = async |id: &str, until: u64| {
        let lease = Lease { holder: "c".to_owned(), until, attempt: 1, waiting: None };
        let key = lease_key(id);
        let written = record::write(results.as_ref(), &key, &lease, Condition::Always);
        written.await.expect("room");
    };
    lease("v1.runs", 2_000).await;
    for number in 0..20 {
        lease(&format!("v1.waits{number}"), 0).await;
    }
    let stores = Stores { queues: BTreeMap::new(), results: Arc::clone(&results), now: 1_000 };
    let mut out = Vec::new();
    stores.list(&mut out, Shown::Running, 5).await.expect("a list");
    let out = String::from_utf8(out).expect("text");
    std::fs::remove_dir_all(&folder).expect("no folder is left");
    assert!(out.contains("v1.runs") && !out.contains("waits"), "{out}");
}
