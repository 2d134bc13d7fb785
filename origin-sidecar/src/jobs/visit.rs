//! Serves a job under the path of its request: `/orders?spillway-job=ID`. Relative links and forms
//! without `action` lead to the same URLs as if the client had waited.

use super::context::JobWorker;
use super::ownership::{self, Owned};
use super::page::{PageChoice, Place, see, try_again};
use super::state::JobRequest;
use super::{deliver, flash, id, state, status};
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::request::inbound::Inbound;
use http::{HeaderMap, Method, Response};
use rules::document::Delivery;
use rules::offload::mark;
use rules::{Problem, Rules};
use std::sync::Arc;

/// Marks an answer about a job: other origins may read it by the CORS rule of the job's route, as
/// under `/jobs/`, and not by that of the path.
#[derive(Debug, Clone, Copy)]
pub struct Visited;

/// A request that names a job of ours. Whether it may see the job is not known yet.
pub struct Visit {
    worker: Arc<JobWorker>,
    rules: Arc<Rules>,
    id: String,
    method: Method,
    headers: HeaderMap,
    inbound: Inbound,
}

impl Visit {
    /// The visit; `None` where no job was accepted here under this name: the request is forwarded
    /// unchanged.
    pub fn of(
        worker: &Arc<JobWorker>,
        rules: &Arc<Rules>,
        (method, headers): (&Method, &HeaderMap),
        inbound: &Inbound,
    ) -> Option<Self> {
        let id = mark::job(&rules.document.jobs, &inbound.target)?;
        let secrets = worker.context.secrets.as_deref()?;
        if !matches!(*method, Method::GET | Method::HEAD) || !id::is_plausible(id) {
            return None;
        }
        ownership::route_of(rules, secrets, id)?;
        Some(Self {
            worker: Arc::clone(worker),
            rules: Arc::clone(rules),
            id: id.to_owned(),
            method: method.clone(),
            headers: headers.clone(),
            inbound: inbound.clone(),
        })
    }

    /// The answer; `None` when the visitor does not own the job, and must not learn that it exists.
    pub async fn answer(self) -> Option<Result<Response<Body>, Refused>> {
        let asked = JobRequest {
            method: &self.method,
            headers: &self.headers,
            inbound: &self.inbound,
            job: &self.id,
        };
        match self.show(&asked).await {
            Err(Refused { problem: Problem::JobUnknown, .. }) => None,
            Err(Refused { problem: Problem::OffloadUnavailable, detail }) => {
                state::note_unavailable(&self.worker, &detail);
                Some(Ok(try_again(&self.rules.document.jobs.page)))
            }
            answered => Some(answered),
        }
    }

    async fn show(&self, asked: &JobRequest<'_>) -> Result<Response<Body>, Refused> {
        let (worker, rules) = (&self.worker, &self.rules);
        let Some((results, secrets)) = ownership::bound(worker) else {
            return Err(Refused::new(Problem::JobUnknown, String::new()));
        };
        let owned = ownership::owned(worker, rules, (results.as_ref(), secrets), asked, &self.id);
        let Owned { route, queue, at, cookies, is_open, .. } = owned.await?;
        let job = (queue, route.map(|route| route.name.as_str()));
        let state = status::current(worker, rules, job, &self.id, at).await?;
        let ended = state.answer().cloned();
        let place = Place {
            jobs: &rules.document.jobs,
            id: &self.id,
            message: status::message(rules, queue),
            scheme: self.inbound.scheme,
            host: self.inbound.visitor_host(),
        };
        let mut response = match place.shown(&state) {
            PageChoice::Page => place.page(&state),
            PageChoice::Landing(target) => see(&target),
            PageChoice::Answer => {
                let results = results.as_ref();
                deliver::result(results, &self.id, state, asked, (Delivery::Proxy, is_open)).await?
            }
        };
        cookies.give(&mut response);
        response.extensions_mut().insert(Visited);
        if let Some(answer) = ended.filter(|_| self.method == Method::GET) {
            let results = results.as_ref();
            flash::give(worker, results, (&self.id, &answer), &self.headers, &mut response).await;
        }
        Ok(response)
    }
}
