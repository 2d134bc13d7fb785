//! The 202 half: who may, a durable copy in the queue, then the answer.

use super::auth::{self, Allowed};
use super::envelope::{self, Job};
use super::receipt::Receipt;
use super::record::{self, Accepted, Outcome, Terminal, accepted_key, outcome_key};
use super::{Wanted, adopt, id, status};
use crate::body::{Body, Collected, collect};
use crate::proxy::Worker;
use crate::proxy::forward::{self, Outgoing};
use crate::proxy::handle::{self, Clean, Refused};
use crate::queue::Queue;
use crate::results::{Condition, PutError, Results};
use crate::secrets::Secrets;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use rules::Problem;
use rules::document::{Fallback, Offload, Route, hex};
use rules::shard::Resolved;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From the whole request to a durable message; after that the client is told to retry.
const ENQUEUE_BUDGET: Duration = Duration::from_secs(3);
/// How often an outcome is looked for while a client waits with `Prefer: wait=N`.
const WAIT_POLL: Duration = Duration::from_millis(100);
/// Longest `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header sets none).
const KEY_CHARS_MAX: usize = 255;

/// What an offload needs of the process; bound at start-up, so always there.
pub(super) struct Tools<'a> {
    pub queue: &'a Arc<dyn Queue>,
    pub results: &'a Arc<dyn Results>,
    pub secrets: &'a Secrets,
}

/// # Errors
/// `internal` when start-up let an unbound name pass.
pub(super) fn tools<'a>(worker: &'a Worker, rule: &Offload) -> Result<Tools<'a>, Refused> {
    let app = &worker.app;
    match (app.bindings.queues.get(&rule.queue), &app.bindings.results, &app.secrets) {
        (Some(queue), Some(results), Some(secrets)) => Ok(Tools { queue, results, secrets }),
        _ => Err((Problem::Internal, format!("queue {} is not bound", rule.queue))),
    }
}

/// A request on its way into a job.
pub(super) struct Offered<'a> {
    pub clean: Clean,
    pub body: Bytes,
    pub route: &'a Route,
    pub rule: &'a Offload,
    pub target: String,
    pub allowed: Allowed,
}

pub async fn accept(
    worker: &Arc<Worker>,
    mut clean: Clean,
    route: &Route,
    target: String,
    resolved: Option<&Resolved>,
    wanted: Wanted,
) -> Result<Response<Body>, Refused> {
    let Some(rule) = &route.offload else {
        return Err((Problem::Internal, "no offload rule".to_owned()));
    };
    let allowed = auth::check(worker, &clean, &rule.auth).await?;
    let body = read(std::mem::replace(&mut clean.body, Body::Empty), rule).await?;
    let offered = Offered { clean, body, route, rule, target, allowed };
    match wanted {
        Wanted::Adopt { reason, after } => {
            adopt::run(worker, offered, resolved, reason, Duration::from_millis(after)).await
        }
        Wanted::Enqueue { wait, .. } => enqueue(worker, offered, resolved, wait).await,
    }
}

async fn read(body: Body, rule: &Offload) -> Result<Bytes, Refused> {
    let limit = usize::try_from(rule.max_body).unwrap_or(usize::MAX);
    match collect(body, limit).await {
        Ok(Collected::Whole(bytes)) => Ok(bytes),
        Ok(Collected::TooLarge(_)) => Err((
            Problem::BodyTooLarge,
            format!("a job takes {} bytes (offload.max_body)", rule.max_body),
        )),
        Err(error) => Err((Problem::BadRequest, error.to_string())),
    }
}

async fn enqueue(
    worker: &Arc<Worker>,
    offered: Offered<'_>,
    resolved: Option<&Resolved>,
    wait: Option<u64>,
) -> Result<Response<Body>, Refused> {
    let metrics = &worker.app.metrics;
    let (route, queue) = (offered.route.name.clone(), offered.rule.queue.clone());
    let tools = tools(worker, offered.rule)?;
    let started = Instant::now();
    // One budget for everything: two calls of 3 s and a retry would add up to 9.
    let (id, is_keyed) = choose_id(worker, &offered, &tools)?;
    let put = tokio::time::timeout(ENQUEUE_BUDGET, async {
        if is_keyed {
            return put_keyed(worker, &offered, &tools, &id).await;
        }
        send(&offered, &tools, &id).await
    });
    let put = put.await.unwrap_or_else(|_| {
        Err(NotQueued::Unavailable("timeout", "the queue took too long".to_owned()))
    });
    match put {
        Ok(()) => {}
        Err(NotQueued::Refused(refused)) => return Err(refused),
        Err(NotQueued::Unavailable(name, detail)) => {
            metrics.jobs.offloads.with_label_values(&[route.as_str(), name]).inc();
            tracing::warn!(route, queue, reason = name, detail, "job not queued");
            let is_inline = offered.rule.fallback == Fallback::Inline && !is_keyed;
            if is_inline && withdrawn(worker, &tools, &id).await {
                return inline(worker, offered, resolved).await;
            }
            return Err((Problem::OffloadUnavailable, detail));
        }
    }
    metrics.jobs.offloads.with_label_values(&[route.as_str(), "queued"]).inc();
    let seconds = started.elapsed().as_secs_f64();
    metrics.jobs.enqueue_seconds.with_label_values(&[route.as_str()]).observe(seconds);
    tracing::info!(route, queue, job = id, "job queued");
    if let Some(seconds) = wait {
        wait_for(tools.results.as_ref(), &id, Duration::from_secs(seconds)).await;
        let finished = status::finished(&worker.app, tools.results.as_ref(), &id, &offered.clean);
        if let Some(mut response) = finished.await {
            if let Ok(applied) = HeaderValue::from_str(&format!("wait={seconds}")) {
                response.headers_mut().insert("preference-applied", applied);
            }
            return Ok(response);
        }
    }
    Ok(Receipt::of(&offered.clean, offered.rule).answer(&id, "queued"))
}

/// Why there is no job.
enum NotQueued {
    Refused(Refused),
    Unavailable(&'static str, String),
}

/// The id of the job to be, and whether it comes from an `Idempotency-Key`.
fn choose_id(
    worker: &Worker,
    offered: &Offered<'_>,
    tools: &Tools<'_>,
) -> Result<(String, bool), Refused> {
    let (caller, route) = (&offered.allowed.caller, &offered.route.name);
    if let Some(key) = idempotency_key(offered)? {
        return Ok((id::keyed(tools.secrets, route, caller, &key), true));
    }
    let id = id::fresh(tools.secrets, route, caller, worker.app.clock.now());
    Ok((id.map_err(|error| (Problem::OffloadUnavailable, error.to_string()))?, false))
}

/// Before a request that may be in the queue after all is executed inline, the job is cancelled:
/// a message that arrives late is then not run a second time.
async fn withdrawn(worker: &Worker, tools: &Tools<'_>, id: &str) -> bool {
    const BUDGET: Duration = Duration::from_secs(1);
    let outcome = Outcome {
        id: id.to_owned(),
        status: Terminal::Cancelled,
        reason: Some("inline".to_owned()),
        answer: None,
        attempt: 0,
        finished: worker.app.clock.now(),
    };
    let key = outcome_key(id);
    let written = record::write(tools.results.as_ref(), &key, &outcome, Condition::IfAbsent);
    matches!(tokio::time::timeout(BUDGET, written).await, Ok(Ok(_)))
}

async fn put_keyed(
    worker: &Worker,
    offered: &Offered<'_>,
    tools: &Tools<'_>,
    id: &str,
) -> Result<(), NotQueued> {
    let now = worker.app.clock.now();
    let caller = &offered.allowed.caller;
    let route = &offered.route.name;
    let record = Accepted {
        route: route.clone(),
        owner: caller.owner(tools.secrets),
        fingerprint: fingerprint(offered),
        at: now,
        queued: false,
    };
    let record_key = accepted_key(id);
    let etag = match record::write(
        tools.results.as_ref(),
        &record_key,
        &record,
        Condition::IfAbsent,
    )
    .await
    {
        Ok(etag) => etag,
        Err(PutError::Precondition) => {
            let found = record::read::<Accepted>(tools.results.as_ref(), &record_key).await;
            match found.map_err(store_failed)? {
                Some((found, _)) if found.fingerprint != record.fingerprint => {
                    let problem = Problem::IdempotencyMismatch;
                    return Err(NotQueued::Refused((problem, problem.title().to_owned())));
                }
                Some((found, _)) if found.queued => return Ok(()),
                // Somebody died, or is at it, between record and message: send again, same id.
                Some((_, etag)) => etag,
                None => return Err(NotQueued::Unavailable("store-race", "try again".to_owned())),
            }
        }
        Err(PutError::Failed(error)) => return Err(store_failed(error)),
    };
    send(offered, tools, id).await?;
    let queued = Accepted { queued: true, ..record };
    // The message is durable; the record only saves a retry from sending it again.
    if let Err(error) =
        record::write(tools.results.as_ref(), &record_key, &queued, Condition::IfMatch(etag)).await
    {
        tracing::debug!(job = id, ?error, "accept record not updated");
    }
    Ok(())
}

fn store_failed(error: crate::results::StoreError) -> NotQueued {
    NotQueued::Unavailable(error.name, error.detail)
}

/// A key needs a caller: without one, two strangers could meet in one job.
fn idempotency_key(offered: &Offered<'_>) -> Result<Option<String>, Refused> {
    if offered.allowed.caller.0.is_none() {
        return Ok(None);
    }
    let Some(key) = offered.clean.headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= KEY_CHARS_MAX => Ok(Some(key.to_owned())),
        _ => Err((
            Problem::BadRequest,
            format!("Idempotency-Key is not text of up to {KEY_CHARS_MAX} characters"),
        )),
    }
}

fn fingerprint(offered: &Offered<'_>) -> String {
    let mut hash = Sha256::new();
    for part in [offered.clean.method.as_str().as_bytes(), offered.target.as_bytes(), &offered.body]
    {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

async fn send(offered: &Offered<'_>, tools: &Tools<'_>, id: &str) -> Result<(), NotQueued> {
    let job = Job {
        id: id.to_owned(),
        route: Some(offered.route.name.clone()),
        method: offered.clean.method.as_str().to_owned(),
        target: offered.target.clone(),
        host: offered.clean.inbound.host.clone(),
        headers: kept_headers(offered),
        body: offered.body.clone(),
        group: None,
        deadline: None,
    };
    let message =
        envelope::pack(&job, tools.results.as_ref(), tools.queue.message_bytes_max()).await;
    let message = message.map_err(|error| match error {
        PutError::Failed(error) => store_failed(error),
        PutError::Precondition => NotQueued::Unavailable("store-race", "try again".to_owned()),
    })?;
    let sent = tools.queue.send(message).await;
    sent.map(|_| ()).map_err(|error| NotQueued::Unavailable(error.name, error.detail))
}

/// Headers that travel with a job. Queue and store are another trust zone, so credentials stay
/// behind unless the route lists them.
const TRAVEL: [&str; 11] = [
    "accept",
    "accept-language",
    "content-type",
    "content-encoding",
    "user-agent",
    "traceparent",
    "tracestate",
    "idempotency-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

fn kept_headers(offered: &Offered<'_>) -> Vec<(String, String)> {
    let headers: &HeaderMap = &offered.clean.headers;
    let listed = offered.rule.forward_headers.iter().map(String::as_str);
    let mut kept: Vec<(String, String)> = TRAVEL
        .into_iter()
        .chain(listed)
        .filter_map(|name| Some((name.to_owned(), headers.get(name)?.to_str().ok()?.to_owned())))
        .collect();
    for (name, value) in &offered.allowed.keep {
        if let Ok(value) = value.to_str() {
            kept.push((name.as_str().to_owned(), value.to_owned()));
        }
    }
    kept
}

/// `fallback = "inline"`: the queue is down, so the client waits for the app.
async fn inline(
    worker: &Arc<Worker>,
    offered: Offered<'_>,
    resolved: Option<&Resolved>,
) -> Result<Response<Body>, Refused> {
    let outgoing = outgoing(worker, offered, resolved)?;
    forward::send(worker, outgoing).await.map_err(handle::failed)
}

/// The request as it would have gone on, with the headers of the check.
pub(super) fn outgoing(
    worker: &Worker,
    offered: Offered<'_>,
    resolved: Option<&Resolved>,
) -> Result<Outgoing, Refused> {
    let mut headers = offered.clean.headers;
    let upstream = handle::direct(
        worker,
        &mut headers,
        Some(offered.route),
        resolved,
        offered.clean.is_forwarded,
    )?;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(offered.body.len()));
    let body = if offered.body.is_empty() { Body::Empty } else { Body::full(offered.body) };
    let timeout = handle::timeout(Some(offered.route));
    Ok(Outgoing {
        upstream,
        method: offered.clean.method,
        target: offered.target,
        headers,
        body,
        timeout,
    })
}

pub(super) async fn wait_for(results: &dyn Results, id: &str, limit: Duration) {
    let until = tokio::time::Instant::now() + limit;
    while tokio::time::Instant::now() < until {
        if matches!(results.head(&outcome_key(id)).await, Ok(Some(_))) {
            return;
        }
        tokio::time::sleep(WAIT_POLL).await;
    }
}
