use super::*;
use crate::jobs::caller::Caller;
use crate::jobs::id::{self, JobKind};
use crate::jobs::record::Again;
use crate::secrets::Secrets;
use rules::{Rules, UnixMillis};
use std::collections::BTreeMap;
use stores::results::Results;
use stores::results::dir::DirResults;

const RULES: &str = "[[route]]\nname = 'reports'\nmatch = { path = '/r' }\n\
    offload = { queue = 'work', when = 'always', auth = 'none' }\n[queue.work]\n";

/// A store of its own, which is gone with it.
struct World {
    folder: std::path::PathBuf,
    stores: Stores,
}

impl World {
    fn new(name: &str, secrets: Option<Secrets>) -> Self {
        let folder =
            std::env::temp_dir().join(format!("spillway-jobs-{name}-{}", std::process::id()));
        let results: Arc<dyn Results> = Arc::new(DirResults::open(&folder).expect("a store"));
        let document = rules::file::check(RULES).expect("good rules").document;
        let rules = Arc::new(Rules::new(document).expect("good rules"));
        let stores = Stores {
            queues: BTreeMap::new(),
            results,
            rules,
            secrets: secrets.map(Arc::new),
            now: UnixMillis(1_000),
        };
        Self { folder, stores }
    }

    async fn write<T: serde::Serialize>(&self, key: &str, record: &T) {
        let results = self.stores.results.as_ref();
        record::write(results, key, record, Condition::Always).await.expect("room");
    }

    async fn list(&self, shown: JobFilter, limit: usize) -> String {
        let mut out = Vec::new();
        self.stores.list(&mut out, shown, limit).await.expect("a list");
        String::from_utf8(out).expect("text")
    }

    async fn cancel(&self, id: &str) -> Result<String, String> {
        let mut out = Vec::new();
        self.stores.cancel(&mut out, id).await?;
        Ok(String::from_utf8(out).expect("text"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn lease(until: UnixMillis, again: Option<Again>) -> Lease {
    let route = Some("reports".to_owned());
    Lease { holder: "c".to_owned(), until, attempt: 1, waiting: None, route, again }
}

fn secret() -> Secrets {
    Secrets::parse(&"s".repeat(32)).expect("long enough")
}

fn queued_id(route: &str) -> String {
    id::fresh(&secret(), JobKind::Queued, route, &Caller::Anyone, UnixMillis(1))
        .expect("random bytes")
}

#[tokio::test]
async fn a_job_that_runs_is_listed_however_many_wait_for_their_next_attempt() {
    let world = World::new("running", None);
    world.write(&lease_key("v1.runs"), &lease(UnixMillis(2_000), None)).await;
    for number in 0..20 {
        world.write(&lease_key(&format!("v1.waits{number}")), &lease(UnixMillis(0), None)).await;
    }
    let out = world.list(JobFilter::Running, 5).await;
    assert!(out.contains("reports") && out.contains("v1.runs") && !out.contains("waits"), "{out}");
}

#[tokio::test]
async fn a_job_that_is_tried_again_is_listed_with_the_reason_and_when() {
    let world = World::new("waiting", None);
    let again = |reason: &str, at| Some(Again { reason: reason.to_owned(), at });
    world
        .write(&lease_key("v1.later"), &lease(UnixMillis(0), again("http-500", UnixMillis(9_000))))
        .await;
    world
        .write(&lease_key("v1.over"), &lease(UnixMillis(0), again("http-502", UnixMillis(9_000))))
        .await;
    world.write(&lease_key("v1.left"), &lease(UnixMillis(0), None)).await;
    let end = Outcome::without_answer("v1.over", Terminal::Succeeded, "-", UnixMillis(1));
    world.write(&outcome_key("v1.over"), &end).await;
    let out = world.list(JobFilter::Waiting, 5).await;
    let row = out.lines().find(|line| line.ends_with("v1.later")).expect("its row");
    assert!(row.starts_with("waiting") && row.contains("http-500, in 8s"), "{row}");
    assert!(!out.contains("v1.over") && !out.contains("v1.left"), "{out}");
}

#[tokio::test]
async fn failed_jobs_are_found_by_their_messages_and_those_that_never_had_one_by_their_ids() {
    let world = World::new("failed", None);
    for (id, status) in [
        ("v1.failed", Terminal::Failed),
        ("v1.again", Terminal::Succeeded),
        ("v1.done", Terminal::Succeeded),
        ("a1.lost", Terminal::Failed),
    ] {
        world
            .write(
                &outcome_key(id),
                &Outcome::without_answer(id, status, "http-500", UnixMillis(1)),
            )
            .await;
    }
    let copy = FailedMessage { body: "{}".to_owned(), attributes: BTreeMap::new(), group: None };
    for id in ["v1.failed", "v1.again"] {
        world.write(&failed_key(id), &copy).await;
    }
    // A damaged outcome is an error of whoever reads it.
    let (results, damaged) = (&world.stores.results, outcome_key("v1.not-read"));
    results.put(&damaged, "{".into(), Condition::Always).await.expect("room");
    let out = world.list(JobFilter::Failed, 5).await;
    let shown: Vec<_> = out.lines().skip(1).filter_map(|row| row.split(' ').next_back()).collect();
    assert_eq!(shown.len(), 2, "{out}");
    assert!(shown.contains(&"v1.failed") && shown.contains(&"a1.lost"), "{out}");
}

#[tokio::test]
async fn an_id_that_nobody_knows_is_not_cancelled() {
    let world = World::new("typo", Some(secret()));
    let id = queued_id("reports");
    let other_digit = id.replacen("v1.1.", "v1.2.", 1);
    for typo in [&id[..id.len() - 1], &other_digit, &queued_id("other"), "a1.1.x", "", "a/b"] {
        let refused = world.cancel(typo).await.expect_err(typo);
        assert!(refused.contains("no such job"), "{refused}");
    }
    assert!(!world.list(JobFilter::All, 9).await.contains("cancelled"));
    assert_eq!(world.cancel(&id).await, Ok(format!("{id} cancelled\n")));
    let out = world.list(JobFilter::Cancelled, 9).await;
    assert!(out.contains("reports") && out.contains("caller"), "{out}");
}

#[tokio::test]
async fn without_the_secret_the_form_of_an_id_is_looked_at_and_the_operator_is_told() {
    let world = World::new("form", None);
    let id = queued_id("anything");
    assert!(world.cancel(&id[1..]).await.is_err());
    let cancelled = world.cancel(&id).await.expect("cancelled");
    assert!(cancelled.contains("without --secret-file"), "{cancelled}");
    world.write(&lease_key("4d86a1c2"), &lease(UnixMillis(2_000), None)).await;
    assert_eq!(world.cancel("4d86a1c2").await, Ok("4d86a1c2 cancelled\n".to_owned()));
}
