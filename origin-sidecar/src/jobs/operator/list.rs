//! `spillway jobs list`: prints the depths of the queues, then jobs that run, wait for another
//! attempt, or have ended.

use super::opened::{CommandResult, Stores, line, text};
use crate::jobs::record::{
    self, ADOPTED, Adopted, FAILED, Lease, Outcome, Terminal, failed_key, outcome_key,
};
use rules::Millis;
use std::collections::BTreeSet;
use std::io::Write;
use stores::results::Listed;

/// The newest keys that are considered.
const KEYS_MAX: usize = 10_000;
/// Keys in one call to the store.
const PAGE: usize = 1_000;
const OUTCOMES: &str = "outcome/";
const LEASES: &str = "leases/";

/// Which jobs to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum JobFilter {
    All,
    Running,
    /// For another attempt
    Waiting,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobFilter {
    fn takes(self, status: Terminal) -> bool {
        match self {
            Self::All => true,
            Self::Running | Self::Waiting => false,
            Self::Succeeded => status == Terminal::Succeeded,
            Self::Failed => status == Terminal::Failed,
            Self::Cancelled => status == Terminal::Cancelled,
        }
    }

    fn is_of_leases(self) -> bool {
        matches!(self, Self::All | Self::Running | Self::Waiting)
    }
}

/// One line of the list.
struct Row<'a> {
    status: &'a str,
    age: Millis,
    attempt: u64,
    route: Option<&'a str>,
    reason: Option<&'a str>,
    id: &'a str,
}

impl Row<'_> {
    fn print(&self, out: &mut dyn Write) -> CommandResult {
        let Self { status, attempt, id, .. } = self;
        let (route, reason) = (self.route.unwrap_or("-"), self.reason.unwrap_or("-"));
        let age = age(self.age);
        line(out, &format!("{status:<10} {age:<8} {attempt:<3} {route:<20} {reason:<24} {id}"))
    }
}

impl Stores {
    /// Prints queues with their depths, then the newest jobs that run, wait for another attempt, or
    /// have ended, newest first. Jobs that wait for their first attempt are only counted: nobody
    /// can look into SQS without receiving messages.
    ///
    /// # Errors
    /// The store fails, or the output is closed.
    pub async fn list(&self, out: &mut dyn Write, shown: JobFilter, limit: usize) -> CommandResult {
        for (name, queue) in &self.queues {
            let depth = queue.depth().await.map_err(text)?;
            let oldest = depth
                .oldest
                .map_or(String::new(), |oldest| format!(", oldest {}", age(self.now - oldest)));
            let (visible, in_flight, dead) = (depth.visible, depth.in_flight, depth.dead);
            line(
                out,
                &format!(
                    "queue {name}: {visible} waiting, {in_flight} in flight, {dead} dead letters{oldest}"
                ),
            )?;
        }
        line(
            out,
            &format!(
                "{:<10} {:<8} {:<3} {:<20} {:<24} id",
                "status", "age", "try", "route", "reason"
            ),
        )?;
        if shown.is_of_leases() {
            self.list_leases(out, shown, limit).await?;
        }
        if matches!(shown, JobFilter::All | JobFilter::Running) {
            self.list_adopted(out, limit).await?;
        }
        if matches!(shown, JobFilter::Running | JobFilter::Waiting) {
            return Ok(());
        }
        self.list_ended(out, shown, limit).await
    }

    async fn list_ended(
        &self,
        out: &mut dyn Write,
        shown: JobFilter,
        limit: usize,
    ) -> CommandResult {
        let mut newest = self.newest(OUTCOMES).await?;
        if shown == JobFilter::Failed {
            self.keep_failed(&mut newest).await?;
        }
        let mut left = limit;
        for listed in newest {
            if left == 0 {
                break;
            }
            let found = record::read::<Outcome>(self.results.as_ref(), &listed.key).await;
            let Some((outcome, _)) = found.map_err(text)? else { continue };
            if shown.takes(outcome.status) {
                left -= 1;
                let row = Row {
                    status: outcome.status.as_str(),
                    age: self.now - outcome.finished,
                    attempt: outcome.attempt,
                    route: outcome.route.as_deref(),
                    reason: outcome.reason.as_deref(),
                    id: &outcome.id,
                };
                row.print(out)?;
            }
        }
        Ok(())
    }

    /// Keeps the jobs that may have failed, so that not every outcome is read: a queued job that
    /// fails leaves a copy of its message. Jobs that were executed at once leave none.
    async fn keep_failed(&self, ends: &mut Vec<Listed>) -> CommandResult {
        let copies = self.newest(FAILED).await?;
        let copies: BTreeSet<String> = copies.into_iter().map(|copy| copy.key).collect();
        ends.retain(|end| {
            let id = end.key.strip_prefix(OUTCOMES).unwrap_or_default();
            let is_without_message = id.starts_with("a1.") || id.starts_with("k1.");
            is_without_message || copies.contains(&failed_key(id))
        });
        Ok(())
    }

    /// Lists up to `limit` jobs of each kind: waiting ones have newer leases, and must not hide
    /// those that run.
    async fn list_leases(
        &self,
        out: &mut dyn Write,
        shown: JobFilter,
        limit: usize,
    ) -> CommandResult {
        let results = self.results.as_ref();
        let wanted =
            |of: JobFilter| if matches!(shown, JobFilter::All) || shown == of { limit } else { 0 };
        let (mut running, mut waiting) = (wanted(JobFilter::Running), wanted(JobFilter::Waiting));
        for listed in self.newest(LEASES).await? {
            if running == 0 && waiting == 0 {
                break;
            }
            let found = record::read::<Lease>(results, &listed.key).await.map_err(text)?;
            let Some((lease, _)) = found else { continue };
            let id = listed.key.strip_prefix(LEASES).unwrap_or_default();
            let (age, attempt) = (self.now - listed.written, lease.attempt);
            let route = lease.route.as_deref();
            let row = |status, reason| Row { status, age, attempt, route, reason, id };
            if lease.until > self.now {
                if running > 0 {
                    running -= 1;
                    row("running", None).print(out)?;
                }
                continue;
            }
            // A lease without a next attempt has expired, or belongs to a job that has ended.
            let Some(again) = lease.again.filter(|_| waiting > 0) else { continue };
            if results.head(&outcome_key(id)).await.map_err(text)?.is_none() {
                waiting -= 1;
                row("waiting", Some(&self.again(&again))).print(out)?;
            }
        }
        Ok(())
    }

    /// The reason and time of the next attempt.
    fn again(&self, again: &record::Again) -> String {
        let record::Again { reason, at } = again;
        match *at - self.now {
            Millis::ZERO => reason.clone(),
            rest => format!("{reason}, in {}", age(rest)),
        }
    }

    async fn list_adopted(&self, out: &mut dyn Write, limit: usize) -> CommandResult {
        let mut left = limit;
        for listed in self.newest(ADOPTED).await? {
            if left == 0 {
                break;
            }
            let found = record::read::<Adopted>(self.results.as_ref(), &listed.key).await;
            let Some((lease, _)) = found.map_err(text)? else { continue };
            let id = listed.key.strip_prefix(ADOPTED).unwrap_or_default();
            // For a job that has ended, the notification is in progress.
            let ended = outcome_key(id);
            if lease.until > self.now && self.results.head(&ended).await.map_err(text)?.is_none() {
                left -= 1;
                let row = Row {
                    status: "running",
                    age: self.now - listed.written,
                    attempt: 1,
                    route: Some(&lease.route),
                    reason: None,
                    id,
                };
                row.print(out)?;
            }
        }
        Ok(())
    }

    /// The keys below a prefix, newest first. Stores list by key, so all keys are read.
    async fn newest(&self, prefix: &str) -> Result<Vec<Listed>, String> {
        let (mut found, mut after): (Vec<Listed>, _) = (Vec::new(), String::new());
        loop {
            let page = self.results.list(prefix, &after, PAGE).await.map_err(text)?;
            let is_last = page.len() < PAGE;
            if let Some(last) = page.last() {
                after.clone_from(&last.key);
            }
            found.extend(page);
            if is_last || found.len() >= 2 * KEYS_MAX {
                found.sort_by_key(|listed| std::cmp::Reverse(listed.written));
                found.truncate(KEYS_MAX);
            }
            if is_last {
                return Ok(found);
            }
        }
    }
}

/// An age as `12s`, `3m`, `5h` or `2d`.
fn age(length: Millis) -> String {
    match length.as_secs() {
        seconds @ 0..=119 => format!("{seconds}s"),
        seconds @ 120..=7_199 => format!("{}m", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
