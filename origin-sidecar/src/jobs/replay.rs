//! The fields that a job's request is sent with: those that travelled in the open, or those of its
//! client, sealed until now.

use super::auth::question_without;
use super::caller::Caller;
use super::context::JobWorker;
use super::job::Job;
use super::lines::Lines;
use super::permission::{Denied, Freshness, ask};
use super::sealed::{self, SealScope};
use crate::secrets::Secrets;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use rules::document::{Auth, ReplayAs};
use rules::{Rules, UnixMillis};
use serde::{Deserialize, Serialize};

/// What is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    caller: Caller,
    /// As the attribute `headers` has it.
    headers: String,
}

/// Why a job's request is not sent.
pub(super) enum NotSent {
    /// The job has failed; the reason's name.
    Failed(&'static str),
    /// The application is away.
    Away(String),
    /// It can't say now who may, or the rules of this process do not say whom to ask: tried again.
    Unable(String),
    /// There is no room for the body.
    NoRoom,
}

/// What is sealed for a job, for as long as its credentials may be used.
///
/// # Errors
/// When its body can't be read, or the system gives no random bytes.
pub(super) async fn seal(
    secrets: &Secrets,
    queue: &str,
    job: &Job,
    (caller, fields): (&Caller, &Lines),
    expiry: UnixMillis,
) -> std::io::Result<String> {
    let credentials = Credentials { caller: caller.clone(), headers: fields.to_json() };
    let plain = serde_json::to_vec(&credentials).map_err(std::io::Error::other)?;
    let body = job.body.sha256().await?;
    sealed::seal(secrets, &bound(job, queue, &body), expiry, plain)
}

fn bound<'a>(job: &'a Job, queue: &'a str, body: &'a [u8; 32]) -> SealScope<'a> {
    SealScope {
        id: &job.id,
        queue,
        route: job.route.as_deref().unwrap_or_default(),
        method: &job.method,
        host: &job.host,
        target: &job.target,
        body,
    }
}

/// The fields to send, without those of the attempt. A sealed job is its caller's only as long as the
/// application still says yes to it.
///
/// # Errors
/// See [`NotSent`].
pub(super) async fn fields(
    worker: &JobWorker,
    rules: &Rules,
    job: &Job,
    queue: &str,
) -> Result<HeaderMap, NotSent> {
    let mut headers = HeaderMap::new();
    let Some(sealed) = &job.sealed else {
        if must_be_sealed(rules, job) {
            return Err(NotSent::Failed("seal-broken"));
        }
        job.headers.put_into(&mut headers);
        set_host(&mut headers, &job.host);
        return Ok(headers);
    };
    let Credentials { caller, headers: lines } = opened(worker, job, queue, sealed).await?;
    // What travels in the open beside a seal is for others to read: nobody vouches for it.
    let lines = Lines::from_json(&lines).map_err(|_| NotSent::Failed("seal-broken"))?;
    lines.put_into(&mut headers);
    set_host(&mut headers, &job.host);
    still_allowed(worker, rules, job, &caller, &mut headers).await?;
    Ok(headers)
}

/// Whether a job of the route is its caller's: without a seal it would run as nobody, and unasked.
fn must_be_sealed(rules: &Rules, job: &Job) -> bool {
    let route = job.route.as_deref().and_then(|name| rules.route_by_name(name));
    let rule = route.and_then(|route| route.offload.as_ref());
    rule.is_some_and(|rule| rule.replay_as == ReplayAs::Caller)
}

async fn opened(
    worker: &JobWorker,
    job: &Job,
    queue: &str,
    sealed: &str,
) -> Result<Credentials, NotSent> {
    let broken = || NotSent::Failed("seal-broken");
    let secrets = worker.context.secrets.as_deref().ok_or_else(broken)?;
    let body = job.body.sha256().await.map_err(|_| NotSent::NoRoom)?;
    let now = worker.context.clock.now();
    let plain = sealed::open(secrets, &bound(job, queue, &body), sealed, now);
    let plain = plain.map_err(|why| NotSent::Failed(why.as_str()))?;
    serde_json::from_slice(&plain).map_err(|_| broken())
}

/// Asks the application once more, and takes its word of now in place of that of the acceptance.
async fn still_allowed(
    worker: &JobWorker,
    rules: &Rules,
    job: &Job,
    caller: &Caller,
    headers: &mut HeaderMap,
) -> Result<(), NotSent> {
    let no = || NotSent::Failed("unauthorized");
    let route = job.route.as_deref().and_then(|name| rules.route_by_name(name));
    // In a rollout a consumer may have older rules than the proxy, or newer ones.
    let unsaid = || NotSent::Unable("rules-missing: no auth.check for the job's route".to_owned());
    let auth = &route.and_then(|route| route.offload.as_ref()).ok_or_else(unsaid)?.auth;
    let Auth::Caller { keep, .. } = auth else { return Err(unsaid()) };
    let question = question_without(auth, headers).ok_or_else(unsaid)?;
    let said = match ask(worker, &question, Freshness::Now).await {
        Ok(said) => said,
        Err(Denied::No(_)) => return Err(no()),
        Err(Denied::Away(detail)) => return Err(NotSent::Away(detail)),
        Err(Denied::Unable(detail)) => return Err(NotSent::Unable(detail)),
    };
    if Caller::of(auth, headers, Some(&said)).as_ref() != Ok(caller) {
        return Err(no());
    }
    for name in keep.iter().filter_map(|name| HeaderName::try_from(name.as_str()).ok()) {
        headers.remove(&name);
        for value in said.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    Ok(())
}

fn set_host(headers: &mut HeaderMap, host: &str) {
    if let Ok(host) = HeaderValue::from_str(host)
        && !host.is_empty()
    {
        headers.insert(header::HOST, host);
    }
}
