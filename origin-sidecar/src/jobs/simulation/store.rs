//! The store: objects with etags and conditional writes. What is written about a job is noted.

use super::log::{Event, What, hash_text, number};
use super::world::{Before, Ending, Link, State, Taking, To};
use crate::jobs::record::{Adopted, Lease, Outcome, Terminal};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use net::boxed::{Boxed, ObjectBody};
use rules::UnixMillis;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use stores::results::{Condition, Listed, Object, PutError, Results, StoreError};

#[derive(Default)]
pub(super) struct Objects {
    kept: BTreeMap<String, Kept>,
    written: u64,
}

#[derive(Clone)]
struct Kept {
    etag: u64,
    bytes: Bytes,
    at: u64,
}

fn quoted(etag: u64) -> String {
    format!("\"e{etag}\"")
}

fn failed() -> StoreError {
    StoreError { name: "unavailable", detail: "trouble".to_owned() }
}

/// What a key is for, and the id of its job.
fn kind(key: &str) -> (&'static str, &str) {
    let (folder, id) = key.split_once('/').unwrap_or((key, ""));
    let kinds = ["outcome", "leases", "adopted", "results", "jobs", "payload", "notified"];
    (kinds.into_iter().find(|kind| *kind == folder).unwrap_or("other"), id)
}

impl Objects {
    pub(super) fn read(&self, key: &str) -> Option<&Bytes> {
        self.kept.get(key).map(|kept| &kept.bytes)
    }

    fn is_met(&self, key: &str, condition: &Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::IfAbsent => !self.kept.contains_key(key),
            Condition::IfMatch(etag) => {
                self.kept.get(key).is_some_and(|kept| quoted(kept.etag) == *etag)
            }
        }
    }
}

impl Link {
    fn put_object(&self, key: &str, bytes: &Bytes, condition: &Condition) -> Option<String> {
        let (at, time) = (self.world.now(), self.world.time());
        let mut state = self.world.state();
        let (kind, id) = kind(key);
        // Results of later attempts have a suffix; numbering them as jobs of their own is harmless.
        let job = state.job(id);
        if !state.objects.is_met(key, condition) {
            state.log.push(Event { at, process: self.process, what: What::Met { kind, job } });
            return None;
        }
        match kind {
            "outcome" => state.ended(self, at, job, bytes),
            "leases" => state.leased(self, at, job, key, bytes),
            "adopted" => state.adopted(self, at, job, bytes),
            _ => {
                let is_new = !state.objects.kept.contains_key(key);
                let what = What::Written { kind, job, is_new };
                state.log.push(Event { at, process: self.process, what });
            }
        }
        state.objects.written += 1;
        let etag = state.objects.written;
        state.objects.kept.insert(key.to_owned(), Kept { etag, bytes: bytes.clone(), at: time.0 });
        Some(quoted(etag))
    }

    fn remove_object(&self, key: &str) {
        let at = self.world.now();
        let mut state = self.world.state();
        let (kind, id) = kind(key);
        let job = state.job(id);
        state.objects.kept.remove(key);
        state.log.push(Event { at, process: self.process, what: What::Removed { kind, job } });
    }

    async fn fetch(&self, name: &'static str, key: &str) -> Result<Option<Kept>, StoreError> {
        let key = key.to_owned();
        let read = move |link: &Self| link.world.state().objects.kept.get(&key).cloned();
        self.call(To::Store, name, read).await.ok_or_else(failed)
    }
}

impl State {
    fn ended(&mut self, link: &Link, at: u64, job: usize, bytes: &Bytes) {
        let Ok(outcome) = serde_json::from_slice::<Outcome>(bytes) else {
            return self.violated(|| "an outcome can't be read".to_owned());
        };
        let is_requeued = outcome.status == Terminal::Requeued;
        let before = self.jobs[job].outcome.as_ref().map(|end| end.outcome.status);
        if is_requeued && before == Some(Terminal::Failed) {
            return self.requeued(link, at, job);
        }
        if let Some(first) = &self.jobs[job].outcome {
            let first = first.outcome.status;
            let second = outcome.status;
            self.violated(|| format!("one outcome: j{job} has two, {first:?} and {second:?}"));
        }
        let what = What::Ended { job, status: number(outcome.status) };
        self.log.push(Event { at, process: link.process, what });
        let order = self.log.len();
        self.jobs[job].is_withdrawn |= outcome.reason.as_deref() == Some("withdrawn");
        self.jobs[job].outcome = Some(Ending { order, outcome });
    }

    /// The operator wants it to be run again.
    fn requeued(&mut self, link: &Link, at: u64, job: usize) {
        let what = What::Ended { job, status: number(Terminal::Requeued) };
        self.log.push(Event { at, process: link.process, what });
        (self.jobs[job].outcome, self.jobs[job].is_requeued) = (None, true);
        for promise in self.promises.iter_mut().filter(|promise| promise.job == job) {
            promise.told = None;
        }
    }

    fn leased(&mut self, link: &Link, at: u64, job: usize, key: &str, bytes: &Bytes) {
        let Ok(lease) = serde_json::from_slice::<Lease>(bytes) else {
            return self.violated(|| "a lease can't be read".to_owned());
        };
        let Lease { holder, until, attempt, .. } = lease;
        let now = link.world.time().0;
        let before = self.objects.kept.get(key).and_then(|kept| {
            let lease = serde_json::from_slice::<Lease>(&kept.bytes).ok()?;
            let written = kept.at.saturating_sub(now - at);
            Some((lease.holder, Before { until: lease.until.0, written }))
        });
        let what = What::Leased {
            job,
            until: until.0.saturating_sub(now - at),
            attempt,
            holder: hash_text(&holder),
        };
        self.log.push(Event { at, process: link.process, what });
        let order = self.log.len();
        if before.as_ref().is_none_or(|(before, _)| *before != holder) {
            let now = now.saturating_add_signed(self.processes[link.process].offset);
            let before = before.map(|(_, before)| before);
            let process = link.process;
            self.jobs[job].leases.push(Taking { order, process, now, before });
        }
    }
}

impl State {
    fn adopted(&mut self, link: &Link, at: u64, job: usize, bytes: &Bytes) {
        let Ok(Adopted { until, .. }) = serde_json::from_slice(bytes) else {
            return self.violated(|| "an adopted request's lease can't be read".to_owned());
        };
        let until = until.0.saturating_sub(link.world.time().0 - at);
        self.log.push(Event { at, process: link.process, what: What::Adopted { job, until } });
        self.jobs[job].is_adopted = true;
    }
}

/// One process's handle to the store.
pub(super) struct SimStore(pub Link);

fn body(bytes: Bytes) -> ObjectBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn part(bytes: &Bytes, range: Option<(u64, u64)>) -> Bytes {
    let Some((from, to)) = range else { return bytes.clone() };
    let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(at(from)..at(to + 1))
}

impl Results for SimStore {
    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let write = move |link: &Link| link.put_object(&key, &body, &condition);
            match self.0.call(To::Store, "put", write).await {
                Some(Some(etag)) => Ok(etag),
                Some(None) => Err(PutError::Precondition),
                None => Err(PutError::Failed(failed())),
            }
        })
    }

    fn put_file<'a>(
        &'a self,
        _: &'a str,
        _: &'a Path,
        _: Condition,
    ) -> Boxed<'a, Result<String, PutError>> {
        // Files belong to the machine, not to the schedule: results are small here.
        Box::pin(std::future::ready(Err(PutError::Failed(failed()))))
    }

    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<(u64, u64)>,
    ) -> Boxed<'a, Result<Option<Object>, StoreError>> {
        Box::pin(async move {
            let kept = self.0.fetch("get", key).await?;
            Ok(kept.map(|Kept { etag, bytes, .. }| Object {
                etag: quoted(etag),
                length: bytes.len() as u64,
                body: body(part(&bytes, range)),
            }))
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(String, u64)>, StoreError>> {
        Box::pin(async move {
            let kept = self.0.fetch("head", key).await?;
            Ok(kept.map(|kept| (quoted(kept.etag), kept.bytes.len() as u64)))
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let remove = move |link: &Link| link.remove_object(&key);
            self.0.call(To::Store, "remove", remove).await.ok_or_else(failed)
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        max: usize,
    ) -> Boxed<'a, Result<Vec<Listed>, StoreError>> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        Box::pin(async move {
            let list = move |link: &Link| {
                let state = link.world.state();
                let kept = state.objects.kept.iter();
                let found = kept.filter(|(key, _)| key.starts_with(&prefix) && **key > after);
                found
                    .take(max)
                    .map(|(key, kept)| Listed { key: key.clone(), written: UnixMillis(kept.at) })
                    .collect::<Vec<_>>()
            };
            self.0.call(To::Store, "list", list).await.ok_or_else(failed)
        })
    }

    fn signed_url<'a>(
        &'a self,
        _: &'a str,
        _: Duration,
        _: &'a [(String, String)],
    ) -> Boxed<'a, Result<Option<String>, StoreError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn is_billed(&self) -> bool {
        true
    }

    fn bucket(&self) -> &str {
        "bucket"
    }
}
