//! Executes a job: sends its request to the unchanged application, and judges the answer.

use super::context::JobWorker;
use super::job::Job;
use super::judge::{judge, judge_failure};
use super::ranged::{admitted, map_unknown, stale};
use super::replay::{self, NotSent};
use super::verdict::{APP_UNAVAILABLE, Executed, Execution, ExecutionEnd, ExecutionVerdict, Until};
use super::{flash, progress};
use crate::message::body::Body;
use crate::message::fields::{Map, View};
use crate::message::reply;
use crate::telemetry::reporter::Telemetry;
use crate::telemetry::spans;
use crate::telemetry::spans::Span;
use crate::upstream::forward;
use crate::upstream::outgoing::{Failure, Outgoing};
use crate::upstream::server::APP;
use crate::writes::WriteInFlight;
use http::Response;
use http::{HeaderMap, HeaderValue, Method};
use rules::document::{self, Retry, Route, UNMATCHED};
use rules::hygiene::remove_hop_by_hop;
use rules::shard::{Resolved, Step};
use rules::sidecar::{self, SidecarAction};
use rules::{Head, Problem, Rules};
use std::sync::Arc;
use std::time::Duration;

/// The delay before an application is asked again that could not decide whether a job's caller is
/// allowed.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Sends the job's request and judges the answer.
pub(super) async fn execute(
    worker: &JobWorker,
    rules: &Rules,
    job: &Job,
    queue: &document::Queue,
    turn: &Execution<'_>,
) -> Executed {
    let mut headers = match replay::fields(worker, rules, job, turn.queue_name).await {
        Ok(fields) => with_attempt(fields, job, turn.attempt),
        Err(why) => return not_sent(job, turn, why).into(),
    };
    let (route, resolved, write) = match admit(worker, rules, job, &headers).await {
        Ok(admitted) => admitted,
        Err(verdict) => return (*verdict).into(),
    };
    let Ok(method) = Method::from_bytes(job.method.as_bytes()) else {
        return ExecutionVerdict::Ended(ExecutionEnd::failed("bad-method")).into();
    };
    let destinations = &worker.context.destinations;
    let found = destinations.find(destinations.of_route(route), resolved.as_ref());
    let Ok(destination) = found else {
        return ExecutionVerdict::Ended(ExecutionEnd::failed(Problem::Internal.name())).into();
    };
    let name = &*destination.upstream.name;
    if !turn.presence.enter(name, turn.let_go == Some(name)) {
        return unsent(name).into();
    }
    let telemetry = &worker.context.telemetry;
    let span = telemetry.enter(&headers, &method, worker.context.clock.now());
    span.pass_on(&mut headers);
    progress::invite(worker, rules, &job.id, &mut headers);
    if let Some(resolved) = &resolved
        && let Err(refused) = destinations.annotate(&mut headers, &destination, resolved, false)
    {
        return ExecutionVerdict::Ended(ExecutionEnd::failed(refused.problem.name())).into();
    }
    let Ok(body) = job.body.body() else { return no_room().into() };
    let is_repeatable = method.is_idempotent() || is_safe_to_retry(route);
    let timeout = Duration::from(queue.job_timeout);
    let mut outgoing = Outgoing {
        headers,
        body,
        timeout,
        write,
        may_be_stale: destination.may_be_stale(),
        ..Outgoing::to(Arc::clone(destination.upstream), method, job.target.clone())
    };
    let rule = route.and_then(|route| route.offload.as_ref());
    // The sent cookies, with which those of the answer are compared.
    let own = rule.filter(|rule| !rule.flash.is_empty() && job.sealed.is_some());
    let own = own.map(|rule| (rule, outgoing.headers.clone()));
    let mut sent = forward::send(&worker.client, &mut outgoing).await;
    if let (Some((rule, headers)), Ok(response)) = (&own, &mut sent) {
        flash::keep(worker, (rule, &job.id), headers, response).await;
    }
    tell(telemetry, &span, route, &sent);
    let verdict = match sent {
        Ok(response) => {
            turn.presence.answered(name);
            judge(response, (rule, &job.target), turn, worker.context.clock.now())
        }
        Err(failure) if failure.problem == Problem::StaleEpoch => {
            stale(worker, resolved.as_ref()).await
        }
        Err(failure) if failure.is_unsent && failure.problem == Problem::UpstreamUnreachable => {
            turn.presence.away(name, &failure.detail);
            unsent(name)
        }
        Err(failure) => {
            if failure.problem == Problem::UpstreamUnreachable {
                turn.presence.doubt(worker, destination.upstream).await;
            }
            judge_failure(&failure, is_repeatable, turn)
        }
    };
    Executed { verdict, is_repeatable }
}

/// The route of a job and the owner of its data; a job that writes in a live shard map is a write in flight from
/// here on.
async fn admit<'r>(
    worker: &JobWorker,
    rules: &'r Rules,
    job: &Job,
    headers: &HeaderMap,
) -> Result<(Option<&'r Route>, Option<Resolved>, Option<WriteInFlight>), Box<ExecutionVerdict>> {
    let found = resolve(worker, rules, job, headers).await;
    let (route, resolved) = found.map_err(|problem| {
        Box::new(match problem {
            Problem::NoRoom => no_room(),
            Problem::MapUnknown => map_unknown(),
            problem => ExecutionVerdict::Ended(ExecutionEnd::failed(problem.name())),
        })
    })?;
    let (resolved, write) = admitted(worker, route, resolved, job)?;
    Ok((route, resolved, write))
}

/// Exports a span of the execution.
fn tell(
    telemetry: &Telemetry,
    span: &Span,
    route: Option<&Route>,
    sent: &Result<Response<Body>, Failure>,
) {
    let ended = spans::SpanEnd {
        route: route.map_or(UNMATCHED, |route| &route.name),
        status: sent.as_ref().map_or_else(|it| it.problem.status(), |it| it.status().as_u16()),
        cache: &|| sent.as_ref().ok().and_then(reply::cache_result),
        refusal: sent.as_ref().err().map(|it| (it.problem, it.detail.as_str())),
    };
    telemetry.executed(span, &ended);
}

/// The verdict on a job whose credentials are not used.
fn not_sent(job: &Job, turn: &Execution<'_>, why: NotSent) -> ExecutionVerdict {
    match why {
        NotSent::Failed(reason) => ExecutionVerdict::Ended(ExecutionEnd::failed(reason)),
        NotSent::Away(detail) => {
            turn.presence.away(APP, &detail);
            unsent(APP)
        }
        NotSent::Unable(detail) => {
            tracing::warn!(
                job = job.id,
                detail,
                "the authorization check did not answer; the job waits"
            );
            unable()
        }
        NotSent::NoRoom => no_room(),
    }
}

fn unsent(upstream: &str) -> ExecutionVerdict {
    ExecutionVerdict::Later {
        until: Until::Back(upstream.into()),
        last: ExecutionEnd::failed(APP_UNAVAILABLE),
    }
}

/// The application accepts connections, and can't decide whether the caller is allowed.
fn unable() -> ExecutionVerdict {
    let until = Until::After(ASK_AGAIN);
    ExecutionVerdict::Later { until, last: ExecutionEnd::failed(APP_UNAVAILABLE) }
}

/// This process has no room to read the body at the moment.
fn no_room() -> ExecutionVerdict {
    ExecutionVerdict::Later {
        until: Until::Room,
        last: ExecutionEnd::failed(Problem::NoRoom.name()),
    }
}

fn is_safe_to_retry(route: Option<&Route>) -> bool {
    route
        .and_then(|route| route.offload.as_ref())
        .is_some_and(|offload| offload.retry == Retry::Safe)
}

/// Looks the shard up again: the map may have changed while the job waited.
async fn resolve<'r>(
    worker: &JobWorker,
    rules: &'r Rules,
    job: &Job,
    headers: &HeaderMap,
) -> Result<(Option<&'r Route>, Option<Resolved>), Problem> {
    let decision = {
        let view = View::of(headers);
        let head = Head {
            method: &job.method,
            scheme: "http",
            host: &job.host,
            target: &job.target,
            fields: &view,
        };
        sidecar::decide(rules, &head)
    };
    let proceed = match decision.action {
        SidecarAction::Refuse(problem) => return Err(problem),
        SidecarAction::Reserved { .. } | SidecarAction::Preflight { .. } => {
            return Err(Problem::NoRoute);
        }
        SidecarAction::Proceed(proceed) => proceed,
    };
    let resolved = match proceed.shard {
        Step::None => None,
        Step::Resolved(resolved) => Some(*resolved),
        Step::NeedsBody { .. } => {
            let opened = worker.context.intake.open(&job.body).await;
            let (bytes, _room) = opened.map_err(|_| Problem::NoRoom)?;
            Some(rules.shard_in_body(decision.route, &bytes)?)
        }
    };
    Ok((decision.route, resolved))
}

/// Adds the fields of this attempt. The application recognises a repetition by the key: the
/// client's own, or the job's id.
fn with_attempt(mut headers: HeaderMap, job: &Job, attempt: u64) -> HeaderMap {
    let is_keyed = headers.contains_key("idempotency-key");
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if !is_keyed {
        set("idempotency-key", &job.id);
    }
    set("x-job-id", &job.id);
    set("x-job-attempt", &attempt.to_string());
    set("content-length", &job.body.length().to_string());
    remove_hop_by_hop(&mut Map(&mut headers));
    headers
}

/// The check's fields that were stored with the job, for the notification.
pub(super) fn user(job: &Job, rules: &Rules) -> Option<String> {
    let route = rules.route_by_name(job.route.as_deref()?)?;
    let document::Auth::Caller { keep, .. } = &route.offload.as_ref()?.auth else { return None };
    let name = keep.first()?;
    rules::head::first(&job.headers, name)
}
