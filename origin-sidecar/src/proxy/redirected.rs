//! Handles a redirect of a request to its own path: finds out whether, and of which fields, the
//! application was sent too few (`rules::cache`, `Plan::leads_back`).

use super::fetch::{FetchJob, send, send_with};
use crate::message::body::Body;
use crate::message::fields::View;
use http::{Method, Response, header};
use memory_cache::uncacheable::Shown;
use rules::ResponseHead;
use rules::cache::{Led, Trial};
use std::sync::Arc;

/// The application's answer to the client's full request.
pub(super) enum RefetchedAnswer {
    /// The original answer: it is no redirect to its own path, leads to the same place again, or
    /// nothing better was received.
    Same(Response<Body>),
    /// The client's own answer. It must not be stored, because it may depend on any field.
    Other(Response<Body>),
}

/// Repeats the request with all of the client's fields, where the application redirects it to its
/// own path. When that fails, the redirect is the answer.
pub(super) async fn whole(job: &FetchJob, response: Response<Body>) -> RefetchedAnswer {
    if !leads_back(job, &response) {
        return RefetchedAnswer::Same(response);
    }
    let led = led(&response);
    // The body of the redirect is dropped: it holds a concurrency permit of the route, which may
    // have only one.
    let response = response.map(|_| Body::empty());
    match send_with(job, job.headers.clone()).await {
        Ok(whole) if self::led(&whole) == led => RefetchedAnswer::Same(whole),
        Ok(whole) => {
            tokio::spawn(find_out(job.clone(), led));
            RefetchedAnswer::Other(whole)
        }
        Err(_) => RefetchedAnswer::Same(without_length(response)),
    }
}

/// An answer whose body was dropped.
fn without_length(mut response: Response<Body>) -> Response<Body> {
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
        response.headers_mut().remove(name);
    }
    response
}

fn leads_back(job: &FetchJob, response: &Response<Body>) -> bool {
    // Most answers are no redirects.
    response.status().is_redirection()
        && with_head(job, |head| {
            let status = response.status().as_u16();
            let fields = &View::of(response.headers());
            job.plan.leads_back(head, &ResponseHead { status, fields })
        })
}

fn with_head<T>(job: &FetchJob, by: impl FnOnce(&rules::Head<'_>) -> T) -> T {
    let view = View::of(&job.headers);
    by(&job.inbound.head(&Method::GET, &view))
}

fn led(response: &Response<Body>) -> Led {
    let location = response.headers().get(header::LOCATION);
    (response.status().as_u16(), location.map(|value| value.as_bytes().to_vec()))
}

/// Tries the omitted fields one by one. A field whose presence changes the answer is learned for
/// the route. Without such a field the key bypasses the cache for a while.
async fn find_out(mut job: FetchJob, led: Led) {
    let app = Arc::clone(&job.worker.context);
    let Some(_trial) = app.varies.try_out(&job.route_state.name) else { return };
    let known = app.varies.of(&job.route_state.name);
    if known.iter().any(|name| !job.plan.learned.contains(name)) {
        // Another request has learned a field since this answer was requested: the next answer may
        // be right.
        return;
    }
    (job.exchange, job.slow) = (None, None);
    let names = job.headers.keys().map(|name| name.as_str());
    let untried = with_head(&job, |head| job.plan.untried(names, head));
    let (name, fields) = (Arc::clone(&job.route_state.name), untried.join(", "));
    let mut trial = Trial::new(job.plan.learned.clone(), untried, led);
    while let Some(learned) = trial.next_fields() {
        job.plan.learned = learned;
        trial.led(send(&job, None).await.ok().as_ref().map(self::led).as_ref());
    }
    let (found, route) = (trial.found(), &*name);
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
    app.varies.learn(&job.route_state.name, &found);
    tracing::info!(route, fields = found.join(", "), "learned which fields a redirect depends on");
}
