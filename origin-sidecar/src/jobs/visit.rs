//! A job looked at under the path of its request: `/orders?spillway-job=ID`. Relative links and a form
//! without `action` lead where they would have led, had the client waited.

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

/// An extension of an answer about a job: other sites read it under `/jobs/`, by the rule of its route, and
/// not by that of the path under which it was looked at.
#[derive(Debug, Clone, Copy)]
pub struct Visited;

/// A request that names a job of ours. Whether it may see it is not known yet.
pub struct Visit {
    worker: Arc<JobWorker>,
    rules: Arc<Rules>,
    id: String,
    method: Method,
    headers: HeaderMap,
    inbound: Inbound,
}

impl Visit {
    /// `None` for all that names no job that was accepted here: it passes as it came.
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

    /// `None` when the job is not the visitor's: nobody is told that there is one.
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
