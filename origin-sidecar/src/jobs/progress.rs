//! Progress reports of a running job: an optional call of the application to any sidecar, with a
//! token that came with the request.

use super::context::{JobContext, JobWorker};
use super::record::{self, JobProgress, progress_key};
use crate::message::body::{Body, Collected, collect};
use crate::message::refused::Refused;
use crate::message::reply;
use crate::secrets::{Purpose, Secrets};
use http::{HeaderMap, HeaderValue, Response, header};
use rules::{Problem, Rules};
use std::fmt;
use stores::results::{Condition, PutError};

/// The largest report in bytes: a number and a sentence.
const BODY_BYTES_MAX: usize = 4096;
/// The longest message in characters, which a person is shown.
const MESSAGE_CHARS_MAX: usize = 200;

/// Tells the application where it may report, and with which token.
pub(super) fn invite(worker: &JobWorker, rules: &Rules, id: &str, headers: &mut HeaderMap) {
    let Some(secrets) = &worker.context.secrets else { return };
    let path = format!("{}/jobs/{id}/progress", rules.document.jobs.base);
    let token = format!("Bearer {}", token(secrets, id));
    for (name, value) in [("x-job-progress", path), ("x-job-token", token)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

fn token(secrets: &Secrets, id: &str) -> String {
    secrets.sign(Purpose::Progress, &[id.as_bytes()])
}

/// Handles `PUT /_spillway/jobs/{id}/progress` with `{"percent": 40, "message": "reading"}`.
///
/// # Errors
/// `job-unknown` where the token is not valid for this job.
pub(super) async fn report(
    context: &JobContext,
    id: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refused> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|given| given.strip_prefix("Bearer ")).unwrap_or_default();
    let (Some(results), Some(secrets)) = (&context.backends.results, &context.secrets) else {
        return Err(unknown());
    };
    if !secrets.verify(Purpose::Progress, &[id.as_bytes()], given) {
        return Err(unknown());
    }
    let progress =
        read(body).await.map_err(|why| Refused::new(Problem::BadRequest, why.to_string()))?;
    let key = progress_key(id);
    match record::write(results.as_ref(), &key, &progress, Condition::Always).await {
        Ok(_) | Err(PutError::Precondition) => Ok(reply::text(204, "")),
        Err(PutError::Failed(error)) => {
            Err(Refused::new(Problem::OffloadUnavailable, error.to_string()))
        }
    }
}

fn unknown() -> Refused {
    Refused::from(Problem::JobUnknown)
}

/// What is wrong with a report.
#[derive(Debug)]
enum BadReport {
    TooLong,
    /// It is no JSON, or has no percent.
    NoReport(serde_json::Error),
    Percent,
}

impl fmt::Display for BadReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(out, "a report has up to {BODY_BYTES_MAX} bytes"),
            Self::NoReport(error) => {
                write!(out, "write {{\"percent\": 40, \"message\": \"…\"}}: {error}")
            }
            Self::Percent => out.write_str("percent is a number from 0 to 100"),
        }
    }
}

async fn read(body: Body) -> Result<JobProgress, BadReport> {
    let Ok(Collected::Whole(bytes)) = collect(body, BODY_BYTES_MAX).await else {
        return Err(BadReport::TooLong);
    };
    let mut progress: JobProgress = serde_json::from_slice(&bytes).map_err(BadReport::NoReport)?;
    if !(0.0..=100.0).contains(&progress.percent) {
        return Err(BadReport::Percent);
    }
    progress.message =
        progress.message.map(|message| message.chars().take(MESSAGE_CHARS_MAX).collect());
    Ok(progress)
}
