//! `PUT {base}/jobs/{id}/outcome`: a foreign consumer ends a job, with a token that came in its
//! message.

use super::context::JobWorker;
use super::intake::NotRead;
use super::leases::TELL;
use super::notify;
use super::offered::OffloadCandidate;
use super::outside::{self, BODY_BYTES_MAX, NotStored, ReportedEnd, is_an_end};
use super::ownership::{bound, route_of};
use super::record::{self, Adopted, Outcome, adopted_key};
use super::state::{JobRequest, unavailable, unknown};
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::message::reply;
use crate::secrets::{Purpose, Secrets};
use http::{HeaderMap, Response, StatusCode, header};
use rules::{Problem, Rules, UnixMillis};
use std::sync::Arc;
use stores::results::{Condition, Results};

/// The token of a job whose queue foreign consumers read. It is valid until the job expires, and
/// contains the user for the notification.
pub(super) fn of(
    offered: &OffloadCandidate<'_>,
    secrets: &Secrets,
    id: &str,
    now: UnixMillis,
) -> Option<String> {
    let queue = offered.clean.rules.document.queues.get(&offered.rule.queue)?;
    let claim = TokenClaims {
        expiry: now + queue.result_ttl,
        user: offered.about().user.unwrap_or_default(),
    };
    queue.foreign_consumers.then(|| claim.sign(secrets, id, &offered.route.name))
}

/// The contents of a token.
#[derive(Debug, PartialEq, Eq)]
struct TokenClaims {
    expiry: UnixMillis,
    /// The user; empty where none is known.
    user: String,
}

impl TokenClaims {
    /// Signs the token: `<expiry, hex>.<user, hex>.<mac over id, route, expiry and user>`.
    fn sign(&self, secrets: &Secrets, id: &str, route: &str) -> String {
        let begin = format!("{:x}.{}", self.expiry.0, rules::hex::hex(self.user.as_bytes()));
        let mac =
            secrets.sign(Purpose::Outcome, &[id.as_bytes(), route.as_bytes(), begin.as_bytes()]);
        format!("{begin}.{mac}")
    }

    /// Verifies a token; `None` where it was not signed for this job.
    fn verified(secrets: &Secrets, id: &str, route: &str, token: &str) -> Option<Self> {
        let (begin, mac) = token.rsplit_once('.')?;
        let parts = [id.as_bytes(), route.as_bytes(), begin.as_bytes()];
        if !secrets.verify(Purpose::Outcome, &parts, mac) {
            return None;
        }
        let (expiry, user) = begin.split_once('.')?;
        let expiry = UnixMillis(u64::from_str_radix(expiry, 16).ok()?);
        Some(Self { expiry, user: String::from_utf8(bytes_of(user)?).ok()? })
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Stores the reported end of the job, and notifies its receivers.
///
/// # Errors
/// `job-unknown` where the token is not valid, `job-expired` where it has expired, `job-ended` and
/// `job-running` where there is nothing to end.
pub(super) async fn end(
    worker: &Arc<JobWorker>,
    rules: &Arc<Rules>,
    id: &str,
    asked: &JobRequest<'_>,
    body: Body,
) -> Result<Response<Body>, Refused> {
    let (results, secrets) = bound(worker).ok_or_else(unknown)?;
    let route = route_of(rules, secrets, id).ok_or_else(unknown)?;
    let queue = &route.offload.as_ref().ok_or_else(unknown)?.queue;
    // When the rules revoke the permission, tokens in circulation become invalid, too.
    let is_foreign = rules.document.queues.get(queue).is_some_and(|queue| queue.foreign_consumers);
    let token = bearer(asked.headers).filter(|_| is_foreign).ok_or_else(unknown)?;
    let claim = TokenClaims::verified(secrets, id, &route.name, token).ok_or_else(unknown)?;
    if claim.expiry <= worker.context.clock.now() {
        return Err(Refused::new(Problem::JobExpired, "the token was good as long as the job"));
    }
    let how = How::read(&asked.inbound.target, asked.headers)?;
    let too_large = "larger results are put at results/{id}, and named by stored=true";
    let read = worker.context.intake.read(&worker.context.spool, body, BODY_BYTES_MAX).await;
    let refused = |why: NotRead| why.refused(too_large, BODY_BYTES_MAX);
    let body = read.map_err(refused)?;
    if how.is_stored && !body.is_empty() {
        return Err(bad("with stored=true the result is what lies at results/{id}: send no body"));
    }
    let (bytes, _room) = worker.context.intake.open(&body).await.map_err(refused)?;
    let said = ReportedEnd {
        code: how.code,
        media_type: asked.headers.get(header::CONTENT_TYPE).cloned(),
        body: (!how.is_stored).then_some(bytes),
    };
    let job = outside::ForeignJob { id, queue, route: Some(&route.name) };
    let stored = outside::store(results, &worker.context.clock, &job, said).await;
    let outcome = stored.map_err(not_stored)?;
    let status = outcome.status.as_str();
    worker.context.metrics.jobs.ended(queue, status, outcome.reason.as_deref().unwrap_or_default());
    tracing::info!(queue, job = id, outcome = status, "a foreign consumer ended the job");
    let user = Some(claim.user).filter(|user| !user.is_empty());
    let about = Adopted {
        until: UnixMillis::default(),
        route: route.name.clone(),
        queue: queue.clone(),
        user,
    };
    tell(worker, rules, results, about, outcome).await;
    Ok(reply::json(200, &serde_json::json!({ "id": id, "status": status })))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn bad(why: &str) -> Refused {
    Refused::new(Problem::BadRequest, why.to_owned())
}

fn not_stored(why: NotStored) -> Refused {
    match why {
        NotStored::Ended(status) => {
            Refused::new(Problem::JobEnded, format!("it has {}", status.as_str()))
        }
        NotStored::Running => Refused::from(Problem::JobRunning),
        NotStored::NoResult => bad("there is nothing at results/{id}: put the result there first"),
        NotStored::Store(error) => unavailable(error),
    }
}

/// How the end is reported.
struct How {
    code: StatusCode,
    is_stored: bool,
}

impl How {
    /// Parses a query such as `?code=422&stored=true`; without one the code is 200, and the body is
    /// the result.
    fn read(target: &str, headers: &HeaderMap) -> Result<Self, Refused> {
        let mut how = Self { code: StatusCode::OK, is_stored: false };
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(bad(
                "a result is kept as it is sent, without its Content-Encoding: send it plain",
            ));
        }
        let query = target.split_once('?').map_or("", |(_, query)| query);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("code", code)) => {
                    let code = code.parse().ok().filter(|code| is_an_end(*code));
                    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
                    how.code = code.ok_or_else(|| {
                        bad("code is what the application would have answered: 200 to 299 but 204 and 205, or 400 to 599")
                    })?;
                }
                Some(("stored", "true")) => how.is_stored = true,
                _ => return Err(bad("write code=NNN, stored=true, or both")),
            }
        }
        Ok(how)
    }
}

/// Notifies the receivers of a result that was put into the store under its key; the message may
/// have named the user.
pub(super) async fn tell_of_result(
    worker: &Arc<JobWorker>,
    rules: &Arc<Rules>,
    job: &outside::ForeignJob<'_>,
    outcome: &Outcome,
) {
    let Some((results, _)) = bound(worker) else { return };
    let status = outcome.status.as_str();
    worker.context.metrics.jobs.ended(job.queue, status, "");
    tracing::info!(
        queue = job.queue,
        job = job.id,
        outcome = status,
        "a result was found in the store"
    );
    let (route, queue) = (job.route.unwrap_or_default().to_owned(), job.queue.to_owned());
    let about = Adopted { until: UnixMillis::default(), route, queue, user: None };
    tell(worker, rules, results, about, outcome.clone()).await;
}

/// Runs concurrently with the answer. If this process dies meanwhile, a consumer of ours sends the
/// remaining notifications, as for an adopted job whose process is gone.
pub(super) async fn tell(
    worker: &Arc<JobWorker>,
    rules: &Arc<Rules>,
    results: &Arc<dyn Results>,
    about: Adopted,
    outcome: Outcome,
) {
    let key = adopted_key(&outcome.id);
    let about = Adopted { until: worker.context.clock.now() + TELL, ..about };
    if let Err(error) = record::write(results.as_ref(), &key, &about, Condition::Always).await {
        tracing::warn!(
            job = outcome.id,
            ?error,
            "only this process can still send the notifications of this job"
        );
    }
    let (worker, rules, results) = (Arc::clone(worker), Arc::clone(rules), Arc::clone(results));
    tokio::spawn(async move {
        notify::tell(&worker, results.as_ref(), &rules, &about, &outcome).await;
        if let Err(error) = results.delete(&key).await {
            tracing::debug!(key, %error, "not removed; its end is told again");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_job_and_one_purpose() {
        let secrets = Secrets::parse(&"s".repeat(32)).expect("long enough");
        let claim = || TokenClaims { expiry: UnixMillis(7), user: "żółw.1".to_owned() };
        let token = claim().sign(&secrets, "v1.a", "reports");
        let of = |id, route, token: &str| TokenClaims::verified(&secrets, id, route, token);
        assert_eq!(of("v1.a", "reports", &token), Some(claim()));
        assert_eq!(of("v1.b", "reports", &token), None);
        assert_eq!(of("v1.a", "other", &token), None);
        assert_eq!(of("v1.a", "reports", &token.replacen('7', "8", 1)), None);
        let progress = secrets.sign(Purpose::Progress, &[b"v1.a"]);
        assert_eq!(of("v1.a", "reports", &progress), None);
        let nobody = TokenClaims { expiry: UnixMillis(7), user: String::new() };
        assert_eq!(of("v1.a", "reports", &nobody.sign(&secrets, "v1.a", "reports")), Some(nobody));
    }
}
