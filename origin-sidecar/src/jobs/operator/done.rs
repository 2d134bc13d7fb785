//! `spillway jobs done`: ends a job that was executed elsewhere; write access to the store
//! suffices.

use super::opened::{CommandResult, Stores, line, text};
use crate::clock::{Clock, System};
use crate::jobs::outside::{self, BODY_BYTES_MAX, ForeignJob, NotStored, ReportedEnd, is_an_end};
use crate::jobs::record::{self, Adopted, adopted_key};
use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, StatusCode};
use rules::UnixMillis;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stores::results::Condition;

/// How a job ended that was worked off elsewhere.
#[derive(Debug, Clone, Args)]
pub struct EndArguments {
    pub id: String,
    /// What the application would have answered: 2xx is a success
    #[arg(long, default_value_t = 200)]
    pub code: u16,
    /// The result's media type
    #[arg(long = "type")]
    pub media_type: Option<String>,
    /// The result, up to 16 MiB; `-`: stdin
    #[arg(long, conflicts_with = "stored")]
    pub file: Option<PathBuf>,
    /// The result lies at results/ID of the store
    #[arg(long)]
    pub stored: bool,
}

impl Stores {
    /// Ends a job with this result.
    ///
    /// # Errors
    /// There is no such job, it has ended or is running, or the store fails.
    pub async fn done(&self, out: &mut dyn Write, end: &EndArguments) -> CommandResult {
        let id = &end.id;
        let said = said(end)?;
        let about = self.about(id).await?;
        let queue = about.queue.clone().or_else(|| self.only_queue());
        let queue = queue.ok_or_else(|| {
            format!("{id}: nobody knows its queue: add --secret-file FILE or SPILLWAY_SECRET, or one --queue")
        })?;
        let route = about.route.as_deref();
        let clock: Arc<dyn Clock> = Arc::new(System);
        let job = ForeignJob { id, queue: &queue, route };
        let stored = outside::store(&self.results, &clock, &job, said).await;
        let outcome = stored.map_err(|why| not_stored(id, why))?;
        self.leave_telling(id, queue, route).await?;
        line(out, &format!("{id} {}{}", outcome.status.as_str(), about.doubt()))
    }

    fn only_queue(&self) -> Option<String> {
        let mut names = self.queues.keys();
        names.next().cloned().filter(|_| names.next().is_none())
    }

    /// Leaves the notification to a consumer, as for an adopted job whose process is gone.
    async fn leave_telling(&self, id: &str, queue: String, route: Option<&str>) -> CommandResult {
        let route = route.unwrap_or_default().to_owned();
        let about = Adopted { until: UnixMillis::default(), route, queue, user: None };
        let written =
            record::write(self.results.as_ref(), &adopted_key(id), &about, Condition::Always).await;
        written
            .map(|_| ())
            .map_err(|error| format!("{id} has ended, but its receivers are not told: {error:?}"))
    }
}

fn said(end: &EndArguments) -> Result<ReportedEnd, String> {
    let code = StatusCode::from_u16(end.code).ok().filter(|_| is_an_end(end.code));
    let code = code.ok_or("--code is 200 to 299 but 204 and 205, or 400 to 599")?;
    let media_type = end.media_type.as_deref().map(HeaderValue::from_str).transpose();
    let media_type = media_type.map_err(|error| format!("--type: {error}"))?;
    let body = match &end.file {
        _ if end.stored => None,
        Some(file) => Some(read(file)?),
        None => Some(Bytes::new()),
    };
    Ok(ReportedEnd { code, media_type, body })
}

fn read(file: &Path) -> Result<Bytes, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file).map_err(failed)?)
    };
    let mut bytes = Vec::new();
    source.by_ref().take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > BODY_BYTES_MAX {
        return Err(
            "a result of more than 16 MiB is put at results/ID of the store, and named by --stored"
                .to_owned(),
        );
    }
    Ok(bytes.into())
}

fn not_stored(id: &str, why: NotStored) -> String {
    match why {
        NotStored::Ended(status) => format!("{id} has {}, and keeps that end", status.as_str()),
        NotStored::Running => format!("{id} is being run; cancel it, or wait for its end"),
        NotStored::NoResult => format!("there is nothing at results/{id} of the store"),
        NotStored::Store(error) => text(error),
    }
}
