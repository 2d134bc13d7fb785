//! The commands that answer and end: `check`, `explain`, `drain`, `jobs`, `purge`.

use super::bindings::{open_queue, open_results};
use super::explain as explaining;
use super::explain::answer::AnswerHead;
use super::run::runtime;
use super::settings::{self, DrainSettings, JobsCommand, JobsSettings, Purge, pairs};
use super::stop::Stop;
use crate::clock::{self, Clock};
use crate::jobs::operator::opened::Stores;
use crate::jobs::receives::receives;
use crate::operate::reload;
use crate::secrets::{Purpose, Secrets};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

/// Prints faults and warnings, or the compiled rules.
///
/// # Errors
/// Code 78 when the file has faults.
pub fn check(file: &Path, json: bool) -> Result<(), Stop> {
    let failed = |error: std::io::Error| Stop::config(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let checked = rules::file::check(&text);
    let mut out = std::io::stdout().lock();
    let checked = match checked {
        Ok(checked) => checked,
        Err(faults) => {
            let count = faults.iter().filter(|fault| !fault.is_warning).count();
            for fault in faults {
                writeln!(out, "{}:{fault}", file.display()).map_err(failed)?;
            }
            let plural = if count == 1 { "" } else { "s" };
            return Err(Stop::config(format!("{} has {count} fault{plural}", file.display())));
        }
    };
    if json {
        return writeln!(out, "{}", checked.document.to_json()).map_err(failed);
    }
    for warning in &checked.warnings {
        writeln!(out, "{}:{warning}", file.display()).map_err(failed)?;
    }
    let document = &checked.document;
    let (staleness, keys) = (explaining::staleness(document), explaining::keys(document));
    for line in staleness.into_iter().chain(keys).chain(explaining::jobs::jobs(document)) {
        writeln!(out, "{line}").map_err(failed)?;
    }
    let counts = (document.routes.len(), document.queues.len(), document.shard_maps.len());
    writeln!(
        out,
        "{} is good: {} routes, {} queues, {} shard maps, config_hash {}",
        file.display(),
        counts.0,
        counts.1,
        counts.2,
        document.hash()
    )
    .map_err(failed)
}

/// Prints what would be done with a request, and with the application's answer in that file (`-`:
/// stdin), by these live shard maps.
///
/// # Errors
/// Code 78 when the rules file has faults, or the answer can't be parsed.
pub fn explain(
    routes: &Path,
    request: &explaining::Request,
    answer: Option<&Path>,
    maps: &[String],
) -> Result<(), Stop> {
    let rules = reload::load(routes).map_err(Stop::config)?;
    let rules = explaining::live_map::with_maps(rules, maps)?;
    let answer = answer.map(read_answer).transpose()?;
    let text = explaining::explain(&rules, request, answer.as_ref());
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(Stop::run)
}

/// The bytes after the head may be a body of any kind.
fn read_answer(file: &Path) -> Result<AnswerHead, Stop> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|why| Stop::config(format!("{}: {why}", file.display())))?;
    AnswerHead::read(&String::from_utf8_lossy(&bytes), clock::System.now()).map_err(Stop::config)
}

/// Shows jobs, or changes them.
///
/// # Errors
/// Code 78 when settings or rules are wrong, 1 when queue or store fail or refuse.
pub fn jobs(settings: &JobsSettings) -> Result<(), Stop> {
    let mut out = std::io::stdout().lock();
    let secrets = settings::secrets(settings.secret_file.as_deref()).map_err(Stop::config)?;
    if matches!(settings.command, JobsCommand::Key) {
        let secrets = secrets
            .ok_or_else(|| Stop::config("no secret: set --secret-file FILE or SPILLWAY_SECRET"))?;
        let key = STANDARD.encode(secrets.derived(Purpose::Webhook));
        return writeln!(out, "whsec_{key}").map_err(Stop::run);
    }
    runtime()?.block_on(async {
        let stores = open(settings, secrets).await.map_err(Stop::config)?;
        let done = match &settings.command {
            JobsCommand::List { status, limit } => stores.list(&mut out, *status, *limit).await,
            JobsCommand::Show { id } => stores.show(&mut out, id).await,
            JobsCommand::Retry { id } => stores.retry(&mut out, id).await,
            JobsCommand::Cancel { id } => stores.cancel(&mut out, id).await,
            JobsCommand::Done(end) => stores.done(&mut out, end).await,
            JobsCommand::Redrive { queue_name, limit } => {
                stores.redrive(&mut out, queue_name, *limit).await
            }
            JobsCommand::Key => Ok(()),
        };
        done.map_err(Stop::run)
    })
}

/// Drains the process beside this one, and waits for it.
///
/// # Errors
/// Code 1 when there is no such process, or it is still busy at the end of its time.
pub fn drain(settings: &DrainSettings) -> Result<(), Stop> {
    runtime()?.block_on(super::hook::drain(settings.admin)).map_err(Stop::run)
}

/// Purges sidecars and edge.
///
/// # Errors
/// Code 1 when one of them could not be purged.
pub fn purge(settings: &Purge) -> Result<(), Stop> {
    let mut out = std::io::stdout().lock();
    runtime()?.block_on(super::purge::everywhere(settings, &mut out)).map_err(Stop::run)
}

async fn open(settings: &JobsSettings, secrets: Option<Secrets>) -> Result<Stores, String> {
    let rules = reload::load(&settings.routes)?;
    let Some(results) = &settings.results else {
        return Err("results are not bound: add --results file:DIR or --results s3://BUCKET".into());
    };
    let results = open_results(results).await?;
    let mut queues = BTreeMap::new();
    for (name, queue) in pairs("queue", &settings.queue)? {
        let rule = rules.document.queues.get(&name).ok_or_else(|| {
            format!("--queue {name}: there is no [queue.{name}] in the rules file")
        })?;
        queues.insert(name, open_queue(&queue, receives(Some(rule))).await?);
    }
    let secrets = secrets.map(Arc::new);
    Ok(Stores { queues, results, rules: Arc::new(rules), secrets, now: clock::System.now() })
}
