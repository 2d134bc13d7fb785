//! Decides who may start a job and who may read one.

use super::caller::Caller;
use super::context::JobWorker;
use super::permission::{Freshness, Question, ask};
use super::state;
use crate::message::body::Body;
use crate::message::fields::Map;
use crate::message::refused::Refused;
use crate::message::reply;
use crate::request::inbound::Inbound;
use crate::request::sanitized::SanitizedRequest;
use crate::upstream::route_state::RouteState;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use rules::Problem;
use rules::document::Auth;
use rules::hygiene;
use std::sync::Arc;

/// The caller, and what the application says about it.
pub struct Authorized {
    pub caller: Caller,
    /// Fields of the check's answer that are stored with the job.
    pub keep: Vec<(HeaderName, HeaderValue)>,
    pub cookies: Cookies,
}

/// Cookies that the application set in the check's answer. A sliding session survives only if the
/// browser gets them.
#[derive(Default)]
pub struct Cookies(Vec<HeaderValue>);

impl Cookies {
    fn of(said: &HeaderMap) -> Self {
        Self(said.get_all(header::SET_COOKIE).iter().cloned().collect())
    }

    /// Adds the cookies to an answer, except those that the answer sets itself, which are newer.
    pub fn give<B>(self, response: &mut Response<B>) {
        let name = |line: &HeaderValue| {
            line.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default().to_vec()
        };
        let headers = response.headers_mut();
        let own: Vec<Vec<u8>> = headers.get_all(header::SET_COOKIE).iter().map(name).collect();
        for line in self.0.into_iter().filter(|line| !own.contains(&name(line))) {
            headers.append(header::SET_COOKIE, line);
        }
    }
}

impl Cookies {
    /// Adds the cookies to a refusal, which becomes an answer here and is counted and logged as
    /// usual.
    pub fn with(
        self,
        worker: &JobWorker,
        route_state: &RouteState,
        base: &str,
        answered: Result<Response<Body>, Refused>,
    ) -> Result<Response<Body>, Refused> {
        let mut response = match answered {
            Err(Refused { problem, detail }) if !self.0.is_empty() => {
                state::note_instead(worker, route_state, problem, &detail);
                reply::problem(base, problem, &detail)
            }
            answered => answered?,
        };
        self.give(&mut response);
        Ok(response)
    }
}

/// Authorises a request that is to become a job. The application is asked in any case.
///
/// # Errors
/// `offload-unauthorized` when there is no caller or the application refuses.
pub async fn check(
    worker: &JobWorker,
    clean: &SanitizedRequest<'_>,
    auth: &Auth,
) -> Result<Authorized, Refused> {
    let Auth::Caller { keep, .. } = auth else {
        return Ok(Authorized {
            caller: Caller::Anyone,
            keep: Vec::new(),
            cookies: Cookies::default(),
        });
    };
    // A request without any identity need not be checked.
    if !Caller::needs_check(auth, clean.headers) {
        Caller::of(auth, clean.headers, None).map_err(|why| refused(why.as_str()))?;
    }
    let said = match Question::new(auth, clean.headers) {
        Some(question) => Some(ask(worker, &question, Freshness::Now).await?),
        None => None,
    };
    let said = said.as_deref();
    let caller = named(auth, clean.headers, said)?;
    let kept = |name: &String| {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        let values = said?.get_all(&name).iter().cloned().map(move |it| (name.clone(), it));
        Some(values.collect::<Vec<_>>())
    };
    let cookies = said.map(Cookies::of).unwrap_or_default();
    Ok(Authorized { caller, keep: keep.iter().filter_map(kept).flatten().collect(), cookies })
}

fn refused(detail: &str) -> Refused {
    Refused::new(Problem::OffloadUnauthorized, detail.to_owned())
}

fn named(auth: &Auth, asked: &HeaderMap, said: Option<&HeaderMap>) -> Result<Caller, Refused> {
    Caller::of(auth, asked, said).map_err(|why| {
        if said.is_some() {
            let reason = why.as_str();
            tracing::warn!(
                reason,
                "the authorization check did not name the caller (auth.identity)"
            );
        }
        refused(why.as_str())
    })
}

/// The check for a client with these fields, without the fields that only the application may set.
pub fn question_without(auth: &Auth, headers: &HeaderMap) -> Option<Question> {
    let Auth::Caller { keep, .. } = auth else { return None };
    let mut asked = headers.clone();
    for name in keep.iter().map(String::as_str).chain(auth.said_by_check()) {
        asked.remove(name);
    }
    Question::new(auth, &asked)
}

/// A client that wants to see a job.
#[derive(Clone)]
pub struct Visitor {
    worker: Arc<JobWorker>,
    auth: Auth,
    /// Its fields, as the application would get them.
    headers: HeaderMap,
}

/// Whether a client that watches a job is still allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Still {
    Authorized,
    /// The application refuses, or identifies somebody else.
    Refused,
    /// The application can't be asked at the moment.
    Unknown,
}

/// A visitor that was found to own the job.
#[derive(Clone)]
pub struct JobOwner {
    visitor: Visitor,
    caller: Caller,
}

impl Visitor {
    pub fn new(
        worker: &Arc<JobWorker>,
        auth: &Auth,
        headers: &HeaderMap,
        inbound: &Inbound,
    ) -> Self {
        let mut headers = headers.clone();
        hygiene::before_sending(&mut Map(&mut headers), &inbound.sender());
        Self::rebuilt(worker, auth, headers)
    }

    /// A visitor whose fields are already final.
    pub fn rebuilt(worker: &Arc<JobWorker>, auth: &Auth, mut headers: HeaderMap) -> Self {
        for name in auth.said_by_check() {
            headers.remove(name);
        }
        Self { worker: Arc::clone(worker), auth: auth.clone(), headers }
    }

    /// Identifies the caller. The application is asked only where nothing else identifies it.
    ///
    /// # Errors
    /// `offload-unauthorized` and `offload-unavailable`, as for [`ask`].
    pub async fn caller(&self, freshness: Freshness) -> Result<(Caller, Cookies), Refused> {
        if !Caller::needs_check(&self.auth, &self.headers) {
            return Ok((named(&self.auth, &self.headers, None)?, Cookies::default()));
        }
        let Some(question) = Question::new(&self.auth, &self.headers) else {
            return Err(Refused::new(Problem::Internal, "no check to ask"));
        };
        let said = ask(&self.worker, &question, freshness).await?;
        Ok((named(&self.auth, &self.headers, Some(&said))?, Cookies::of(&said)))
    }

    pub fn known_as(self, caller: Caller) -> JobOwner {
        JobOwner { visitor: self, caller }
    }
}

impl JobOwner {
    /// Checks again that it is still the same caller.
    pub async fn still(&self) -> Still {
        if !self.caller.is_said_by_check() {
            return Still::Authorized;
        }
        match self.visitor.caller(Freshness::Recent).await {
            Ok((now, _)) if now == self.caller => Still::Authorized,
            Ok(_) | Err(Refused { problem: Problem::OffloadUnauthorized, .. }) => Still::Refused,
            Err(_) => Still::Unknown,
        }
    }
}
