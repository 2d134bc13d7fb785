//! A redirect of a request to its own path: whether the app was shown too little, and of what
//! (`rules::cache`, `Plan::leads_back`).

use super::fetched::{Job, send, send_with};
use crate::message::body::Body;
use crate::message::fields::View;
use http::{HeaderValue, Method, Response, StatusCode, header};
use memory_cache::uncacheable::Shown;
use rules::ResponseHead;
use std::sync::Arc;

/// What the app answers to the client's request as it came.
pub(super) enum Whole {
    /// The same, or what was asked is no redirect to its own path; or nothing else came.
    Same(Response<Body>),
    /// The client's answer. It is not to be kept: it may depend on anything.
    Other(Response<Body>),
}

/// Asks with all that the client sent, where the app redirects the request to its own path. When that fails the
/// redirect is the answer.
pub(super) async fn whole(job: &Job, response: Response<Body>) -> Whole {
    if !leads_back(job, &response) {
        return Whole::Same(response);
    }
    let led = led(&response);
    // Without its body, a redirect's page: the body holds a place of the route, of which there may be one.
    let response = response.map(|_| Body::Empty);
    match send_with(job, job.headers.clone()).await {
        Ok(whole) if self::led(&whole) == led => Whole::Same(whole),
        Ok(whole) => {
            tokio::spawn(find_out(job.clone(), led));
            Whole::Other(whole)
        }
        Err(_) => Whole::Same(without_length(response)),
    }
}

/// An answer whose body is gone.
fn without_length(mut response: Response<Body>) -> Response<Body> {
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
        response.headers_mut().remove(name);
    }
    response
}

fn leads_back(job: &Job, response: &Response<Body>) -> bool {
    // Most answers are none.
    response.status().is_redirection()
        && with_head(job, |head| {
            let status = response.status().as_u16();
            let fields = &View::of(response.headers());
            job.plan.leads_back(head, &ResponseHead { status, fields })
        })
}

fn with_head<T>(job: &Job, by: impl FnOnce(&rules::Head<'_>) -> T) -> T {
    let view = View::of(&job.headers);
    by(&job.inbound.head(&Method::GET, &view))
}

/// Where an answer leads.
type Led = (StatusCode, Option<HeaderValue>);

fn led(response: &Response<Body>) -> Led {
    (response.status(), response.headers().get(header::LOCATION).cloned())
}

/// Tries the fields that were kept back one by one; what changes the answer by its presence is learned for
/// the route. If none does, the key passes uncached for a while.
async fn find_out(mut job: Job, led: Led) {
    let app = Arc::clone(&job.worker.context);
    let Some(_trial) = app.varies.try_out(&job.lane.name) else { return };
    let known = app.varies.of(&job.lane.name);
    if known.iter().any(|name| !job.plan.learned.contains(name)) {
        // Something was learned since this answer was asked for: the next one may be right.
        return;
    }
    (job.exchange, job.slow) = (None, None);
    let names = job.headers.keys().map(|name| name.as_str());
    let untried = with_head(&job, |head| job.plan.untried(names, head));
    let found = explained(&mut job, &untried, &led).await;
    let (route, fields) = (&*job.lane.name, untried.join(", "));
    if found.is_empty() {
        app.store.note_uncacheable(&job.plan, Shown::Whole, app.clock.now());
        tracing::warn!(
            route,
            fields,
            "shown-too-little: the app redirects a request to its own path unless it is sent whole, and none of \
             these fields alone explains it: add what it depends on to the route's `headers`"
        );
        return;
    }
    app.varies.learn(&job.lane.name, &found);
    tracing::info!(route, fields = found.join(", "), "learned which fields a redirect depends on");
}

/// Those of the names whose presence alone changes where the answer leads. None, when it leads elsewhere each
/// time.
async fn explained(job: &mut Job, names: &[String], led: &Led) -> Vec<String> {
    let known = job.plan.learned.clone();
    let mut found = Vec::new();
    if !matches!(send(job, None).await, Ok(again) if self::led(&again) == *led) {
        return found;
    }
    for name in names {
        job.plan.learned.clone_from(&known);
        job.plan.learned.push(name.clone());
        if matches!(send(job, None).await, Ok(other) if self::led(&other) != *led) {
            found.push(name.clone());
        }
    }
    found
}
