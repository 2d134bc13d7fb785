//! Whose job an id is, and where those are sent whose it is not.

use super::auth::{Cookies, Reader, Visitor};
use super::caller::Caller;
use super::id;
use super::permission::Freshness;
use super::record::{self, Accepted};
use super::status::{Asked, unavailable, unknown};
use crate::proxy::Worker;
use crate::proxy::handle::Refused;
use crate::results::Results;
use crate::secrets::Secrets;
use rules::document::{Auth, Login, Offload, Route};
use rules::{Problem, Rules};
use std::sync::Arc;

/// A job, with what is known of the one who asks.
pub(super) struct Owned<'r> {
    pub route: &'r Route,
    pub offload: &'r Offload,
    /// When the job was accepted, in milliseconds since 1970.
    pub at: u64,
    pub reader: Reader,
    pub cookies: Cookies,
    /// Whoever knows the id owns it.
    pub is_open: bool,
}

/// Which route an id is of; `None` for an id that was not made here.
pub(super) fn route_of<'r>(rules: &'r Rules, secrets: &Secrets, id: &str) -> Option<&'r Route> {
    let offloads = rules.document.routes.iter().filter(|route| route.offload.is_some());
    let name = id::route_of(secrets, id, offloads.map(|route| route.name.as_str()))?;
    rules.route_by_name(name)
}

/// The job, if it belongs to the one who asks. Another caller's job looks exactly like none, and of an
/// id that was not made here the app is asked nothing.
pub(super) async fn owned<'r>(
    worker: &Arc<Worker>,
    rules: &'r Rules,
    (results, secrets): (&dyn Results, &Secrets),
    asked: &Asked<'_>,
    id: &str,
) -> Result<Owned<'r>, Refused> {
    let route = route_of(rules, secrets, id).ok_or_else(unknown)?;
    let offload = route.offload.as_ref().ok_or_else(unknown)?;
    let visitor = Visitor::new(worker, &offload.auth, asked.headers, asked.inbound);
    let freshness = if asked.is_get() { Freshness::Recent } else { Freshness::Now };
    let (caller, cookies) = visitor.caller(freshness).await.map_err(|refused| match refused {
        (Problem::OffloadUnauthorized, _) => unknown(),
        other => other,
    })?;
    let at = if id::is_keyed(id) {
        let key = record::accepted_key(id);
        let accepted = record::read::<Accepted>(results, &key).await.map_err(unavailable)?;
        let own = accepted
            .filter(|(accepted, _)| !accepted.released && caller.is(secrets, &accepted.owner));
        own.map(|(accepted, _)| accepted.at)
    } else {
        id::verify(secrets, id, &route.name, &caller)
    };
    let at = at.ok_or_else(unknown)?;
    let is_open = caller == Caller::Anyone;
    Ok(Owned { route, offload, at, reader: visitor.known_as(caller), cookies, is_open })
}

/// Where somebody is sent who may not see a job: to the first login page of the rules, as whose job it is
/// must not show.
pub(super) fn login(rules: &Rules) -> Option<&str> {
    let offloads = rules.document.routes.iter().filter_map(|route| route.offload.as_ref());
    offloads.into_iter().find_map(|offload| match &offload.auth {
        Auth::Caller { login: Some(Login::Path(path)), .. } => Some(path.as_str()),
        _ => None,
    })
}

/// Store and secret, where both are bound.
pub(super) fn bound(worker: &Worker) -> Option<(&Arc<dyn Results>, &Secrets)> {
    worker.app.bindings.results.as_ref().zip(worker.app.secrets.as_ref())
}
