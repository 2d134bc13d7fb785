//! Watches the rules file and the certificate. Valid changes take effect without dropping a
//! connection.

use super::bound::ProcessBindings;
use super::process::Process;
use crate::telemetry::metrics::Metrics;
use net::tls::Certificates;
use rules::Rules;
use rules::fallback::{Unreadable, Wish, choose};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often the file is read. A ConfigMap mount swaps a symlink, which file watchers miss; the
/// file is small, so that reading it once a second costs nothing.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often the log says that there are no valid rules.
const REMINDER: Duration = Duration::from_secs(60);

/// Reads a rules file.
///
/// # Errors
/// All its faults as text, ready to print.
pub fn load(path: &Path) -> Result<Rules, String> {
    parse(path, std::fs::read(path))
}

fn parse(path: &Path, read: io::Result<Vec<u8>>) -> Result<Rules, String> {
    let text = read.map_err(|error| error.to_string()).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|error| format!("this is no text: {}", error.utf8_error()))
    });
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    Rules::from_toml(&text).map_err(|faults| {
        let faults = faults.iter().map(|fault| format!("{}:{fault}", path.display()));
        faults.collect::<Vec<_>>().join("\n")
    })
}

/// The rules file of a running process.
pub struct RulesFile {
    path: PathBuf,
    /// What the operator wants while there have never been valid rules.
    wish: Wish,
    /// The text that was read last.
    text: Option<Vec<u8>>,
}

impl RulesFile {
    pub fn new(path: &Path, wish: Wish) -> Self {
        Self { path: path.to_owned(), wish, text: None }
    }

    /// Reads the rules.
    ///
    /// # Errors
    /// Everything that is wrong, ready to print.
    pub fn read(&mut self) -> Result<Rules, String> {
        let read = std::fs::read(&self.path);
        self.text = read.as_ref().ok().cloned();
        parse(&self.path, read)
    }

    /// The replacement for unusable rules, and the reason; none where the process must not run
    /// without rules.
    pub fn stand_in(&self, bound: &ProcessBindings, why: &str) -> Option<Rules> {
        let fallback = choose(self.wish, bound.protects(), self.text.as_deref())?;
        Some(Rules::unreadable(fallback, why.to_owned()))
    }

    /// Watches until the process ends. An invalid file is refused, and the old rules stay active.
    pub async fn watch(mut self, process: Arc<Process>) {
        let mut told = None::<Instant>;
        loop {
            if told.is_none_or(|told| told.elapsed() >= REMINDER) {
                remind(&process.jobs.active.rules());
                told = Some(Instant::now());
            }
            tokio::time::sleep(INTERVAL).await;
            let read = std::fs::read(&self.path);
            let is_same = read.as_ref().ok() == self.text.as_ref();
            let has_rules = process.jobs.active.rules().unreadable.is_none();
            if is_same || (has_rules && read.is_err()) {
                continue;
            }
            self.text = read.as_ref().ok().cloned();
            let result = match take(&process, self.path.clone(), read).await {
                Ok(()) => "success",
                Err(faults) if has_rules => {
                    let path = self.path.display();
                    process.jobs.metrics.last_reload.set(0);
                    tracing::error!(%path, faults, "reload refused: the changed rules are faulty; the old rules stay in force");
                    "failure"
                }
                Err(faults) => {
                    if let Some(rules) = self.stand_in(&process.bound, &faults) {
                        process.jobs.active.set(rules);
                    }
                    told = None;
                    "failure"
                }
            };
            process.jobs.metrics.reloads.with_label_values(&[result]).inc();
        }
    }
}

/// Logs what replaces the rules, while something does.
fn remind(rules: &Rules) {
    if let Some(Unreadable { fallback, reason }) = &rules.unreadable {
        let fallback = fallback.as_str();
        tracing::error!(fallback, reason, "the rules can't be read, and there were none before");
    }
}

/// Watches until the process ends. Files that do not match, as in the middle of a change, are
/// refused, and the previous certificate is served on.
pub async fn watch_certificate(
    metrics: Arc<Metrics>,
    certificates: Arc<Certificates>,
    folder: PathBuf,
) {
    let mut refused = String::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let result = match certificates.serve_folder(&folder) {
            Ok(false) => continue,
            Ok(true) => {
                refused.clear();
                "success"
            }
            // Logged once, not every second.
            Err(error) if error == refused => continue,
            Err(error) => {
                tracing::error!(
                    error,
                    "reload refused: the changed certificate is faulty; the old one is still served"
                );
                refused = error;
                "failure"
            }
        };
        metrics.certificate_reloads.with_label_values(&[result]).inc();
    }
}

async fn take(process: &Process, path: PathBuf, read: io::Result<Vec<u8>>) -> Result<(), String> {
    // Parsed on a blocking thread, so that probes are answered meanwhile, however large the file
    // is.
    let parsed = tokio::task::spawn_blocking(move || parse(&path, read)).await;
    let new = process.bound.fit(parsed.map_err(|error| error.to_string())??)?;
    let old = process.jobs.active.rules();
    // Two sidecars with different maps would each be right for themselves.
    if old.unreadable.is_none() {
        check_shard_maps(&old, &new)?;
    }
    tracing::info!(config_hash = new.hash, "rules changed");
    for name in process.bound.backends.queues.keys() {
        let has_rules = new.document.queues.contains_key(name);
        process.bound.backends.soundness.has_rules(name, has_rules);
    }
    process.jobs.active.set(new);
    Ok(())
}

/// What a reload may change of shard maps. Two sidecars with different maps would each be right for themselves.
///
/// # Errors
/// Names the map, and what to do instead.
fn check_shard_maps(old: &Rules, new: &Rules) -> Result<(), String> {
    let (old_maps, new_maps) = (&old.document.shard_maps, &new.document.shard_maps);
    for (name, before) in old_maps {
        let after = new_maps.get(name).filter(|after| before.live && after.live);
        if let Some(after) = after {
            if after.key_type != before.key_type {
                return Err(format!("shard map {name}: `key_type` of a live map does not change"));
            }
            let object = old.shard_maps.get(name).and_then(|map| map.object());
            let mut owners = object.iter().flat_map(|object| object.shards());
            if let Some(gone) = owners.find(|shard| !after.shards.contains_key(*shard)) {
                return Err(format!(
                    "shard map {name}: shard `{gone}` still owns a range of the live map; move it first (`spillway shards announce`)"
                ));
            }
            let is_seed_changed = (&after.ranges, &after.until, &after.outside)
                != (&before.ranges, &before.until, &before.outside);
            if is_seed_changed {
                tracing::warn!(
                    map = name,
                    "the ranges in the rules file are only the seed of this live map: `spillway shards` changes it"
                );
            }
        } else if new_maps.get(name) != Some(before) {
            return Err(format!(
                "shard map {name}: a reload does not change it; restart all pods with the new map, or make it live and change it with `spillway shards`"
            ));
        }
    }
    match new_maps.keys().find(|name| !old_maps.contains_key(*name)) {
        Some(name) => Err(format!("shard map {name} is new: restart all pods with it")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::servers::Servers;
    use std::fmt::Write;

    #[tokio::test]
    async fn a_large_file_is_read_beside_the_thread_that_answers_probes() {
        let mut text = String::new();
        for number in 0..2000 {
            let _ = writeln!(
                text,
                "[[route]]\nname = \"r{number}\"\nmatch = {{ path = \"/r{number}\" }}"
            );
        }
        let path = std::env::temp_dir().join(format!("spillway-reload-{}", std::process::id()));
        std::fs::write(&path, text).expect("written");
        let process = Arc::new(Process::alone("", Servers::alone("127.0.0.1:1")));
        let (taking, file, read) = (Arc::clone(&process), path.clone(), std::fs::read(&path));
        let taking = tokio::spawn(async move { take(&taking, file, read).await });
        let mut turns = 0;
        while !taking.is_finished() {
            turns += 1;
            tokio::task::yield_now().await;
        }
        assert_eq!(taking.await.expect("no panic"), Ok(()));
        assert_eq!(process.jobs.active.rules().document.routes.len(), 2000);
        // Parsing on this thread would have blocked everything else.
        assert!(turns > 2, "only {turns} turns");
        std::fs::remove_file(&path).expect("removed");
    }
}
