//! The fields with which a job's request is sent: those stored in the clear, or the client's own,
//! which were sealed.

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

/// The sealed content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    caller: Caller,
    /// The client's fields, in the form of the attribute `headers`.
    headers: String,
}

/// Why a job's request is not sent.
pub(super) enum NotSent {
    /// The job has failed, for this reason.
    Failed(&'static str),
    /// The application is away.
    Away(String),
    /// The permission can't be determined now, or this process's rules do not say how: it is
    /// retried.
    Unable(String),
    /// There is no memory for the body.
    NoRoom,
}

/// Seals a client's fields for a job, for as long as the credentials may be used.
///
/// # Errors
/// The body can't be read, or the system gives no random bytes.
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

/// The fields to send, without those of the attempt. Sealed credentials are used only as long as
/// the application still gives permission.
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
    // Unsealed fields beside a seal are for other readers, and not authenticated.
    let lines = Lines::from_json(&lines).map_err(|_| NotSent::Failed("seal-broken"))?;
    lines.put_into(&mut headers);
    set_host(&mut headers, &job.host);
    still_allowed(worker, rules, job, &caller, &mut headers).await?;
    Ok(headers)
}

/// Whether jobs of the route must be sealed: without a seal one would run without caller and
/// without check.
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

/// Asks the application again. Its current answer replaces that at the acceptance.
async fn still_allowed(
    worker: &JobWorker,
    rules: &Rules,
    job: &Job,
    caller: &Caller,
    headers: &mut HeaderMap,
) -> Result<(), NotSent> {
    let no = || NotSent::Failed("unauthorized");
    let route = job.route.as_deref().and_then(|name| rules.route_by_name(name));
    // During a rollout a consumer may have older or newer rules than the proxy.
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
