//! Determines the owner of a job id, and where visitors are sent who do not own it.

use super::auth::{Cookies, JobOwner, Visitor};
use super::caller::Caller;
use super::context::JobWorker;
use super::id;
use super::permission::Freshness;
use super::record::{self, Accepted};
use super::state::{JobRequest, unavailable, unknown};
use crate::message::refused::Refused;
use crate::secrets::Secrets;
use rules::document::{Auth, Login, Route};
use rules::{Problem, Rules, UnixMillis};
use std::borrow::Cow;
use std::sync::Arc;
use stores::results::Results;

/// A job, with what is known of its visitor.
pub(super) struct Owned<'r> {
    /// The route; `None` for a plain producer's job.
    pub route: Option<&'r Route>,
    pub queue: &'r str,
    /// When the job was accepted.
    pub at: UnixMillis,
    /// The id that a plain producer gave it.
    pub own_id: Option<String>,
    pub reader: JobOwner,
    pub cookies: Cookies,
    /// Whether anybody who knows the id owns the job.
    pub is_open: bool,
}

/// The origin of a job, according to its id.
struct Origin<'r> {
    route: Option<&'r Route>,
    queue: &'r str,
    /// How its callers are identified.
    auth: Cow<'r, Auth>,
}

/// The origin of an id; `None` for one that was not made here, or whose job nobody can own.
fn origin<'r>(rules: &'r Rules, secrets: &Secrets, id: &str) -> Option<Origin<'r>> {
    if let Some(route) = route_of(rules, secrets, id) {
        let offload = route.offload.as_ref()?;
        let auth = Cow::Borrowed(&offload.auth);
        return Some(Origin { route: Some(route), queue: &offload.queue, auth });
    }
    let document = &rules.document;
    let name = id::queue_of(secrets, id, document.queues.keys().map(String::as_str))?;
    let owner = document.queues.get(name)?.owner.clone()?;
    let check = Some(document.check_of_owner(name, &owner)?.to_owned());
    let auth = Auth::Caller { check, identity: vec![owner], keep: Vec::new(), login: None };
    Some(Origin { route: None, queue: name, auth: Cow::Owned(auth) })
}

/// The route of an id; `None` for one that was not made here.
pub(super) fn route_of<'r>(rules: &'r Rules, secrets: &Secrets, id: &str) -> Option<&'r Route> {
    let offloads = rules.document.routes.iter().filter(|route| route.offload.is_some());
    let name = id::route_of(secrets, id, offloads.map(|route| route.name.as_str()))?;
    rules.route_by_name(name)
}

/// The job, if it belongs to the visitor. Another caller's job is indistinguishable from none, and
/// for an id that was not made here the application is not asked.
pub(super) async fn owned<'r>(
    worker: &Arc<JobWorker>,
    rules: &'r Rules,
    (results, secrets): (&dyn Results, &Secrets),
    asked: &JobRequest<'_>,
    id: &str,
) -> Result<Owned<'r>, Refused> {
    let Origin { route, queue, auth } = origin(rules, secrets, id).ok_or_else(unknown)?;
    let visitor = Visitor::new(worker, &auth, asked.headers, asked.inbound);
    let freshness = if asked.is_get() { Freshness::Recent } else { Freshness::Now };
    let (caller, cookies) = visitor.caller(freshness).await.map_err(|refused| match refused {
        Refused { problem: Problem::OffloadUnauthorized, .. } => unknown(),
        other => other,
    })?;
    let (at, own_id) = match route {
        Some(route) if !id::is_keyed(id) => {
            (id::verify(secrets, id, &route.name, &caller).ok_or_else(unknown)?, None)
        }
        _ => {
            let key = record::accepted_key(id);
            let accepted = record::read::<Accepted>(results, &key).await.map_err(unavailable)?;
            let (accepted, _) = accepted.ok_or_else(unknown)?;
            if accepted.released || !caller.is(secrets, &accepted.owner) {
                return Err(unknown());
            }
            (accepted.at, accepted.own_id)
        }
    };
    let is_open = caller == Caller::Anyone;
    Ok(Owned { route, queue, at, own_id, reader: visitor.known_as(caller), cookies, is_open })
}

/// Where visitors are sent who may not see a job: to the first login page in the rules, because the
/// job's route must not be revealed.
pub(super) fn login(rules: &Rules) -> Option<&str> {
    let offloads = rules.document.routes.iter().filter_map(|route| route.offload.as_ref());
    offloads.into_iter().find_map(|offload| match &offload.auth {
        Auth::Caller { login: Some(Login::Path(path)), .. } => Some(path.as_str()),
        _ => None,
    })
}

/// The store and the secret, where both are bound.
pub(super) fn bound(worker: &JobWorker) -> Option<(&Arc<dyn Results>, &Secrets)> {
    worker.context.backends.results.as_ref().zip(worker.context.secrets.as_deref())
}
