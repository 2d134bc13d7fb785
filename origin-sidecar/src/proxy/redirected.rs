//! A redirect of a request to its own path: whether the app was shown too little, and of what
//! (`rules::cache`, `Plan::leads_back`).

use super::fetch::{FetchJob, send, send_with};
use crate::message::body::Body;
use crate::message::fields::View;
use http::{Method, Response, header};
use memory_cache::uncacheable::Shown;
use rules::ResponseHead;
use rules::cache::{Led, Trial};
use std::sync::Arc;

/// What the app answers to the client's request as it came.
pub(super) enum RefetchedAnswer {
    /// The same, or what was asked is no redirect to its own path; or nothing else came.
    Same(Response<Body>),
    /// The client's answer. It is not to be kept: it may depend on anything.
    Other(Response<Body>),
}

/// Asks with all that the client sent, where the app redirects the request to its own path. When that fails the
/// redirect is the answer.
pub(super) async fn whole(job: &FetchJob, response: Response<Body>) -> RefetchedAnswer {
    if !leads_back(job, &response) {
        return RefetchedAnswer::Same(response);
    }
    let led = led(&response);
    // Without its body, a redirect's page: the body holds a place of the route, of which there may be one.
    let response = response.map(|_| Body::Empty);
    match send_with(job, job.headers.clone()).await {
        Ok(whole) if self::led(&whole) == led => RefetchedAnswer::Same(whole),
        Ok(whole) => {
            tokio::spawn(find_out(job.clone(), led));
            RefetchedAnswer::Other(whole)
        }
        Err(_) => RefetchedAnswer::Same(without_length(response)),
    }
}

/// An answer whose body is gone.
fn without_length(mut response: Response<Body>) -> Response<Body> {
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
        response.headers_mut().remove(name);
    }
    response
}

fn leads_back(job: &FetchJob, response: &Response<Body>) -> bool {
    // Most answers are none.
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

/// Tries the fields that were kept back one by one; what changes the answer by its presence is learned for
/// the route. If none does, the key passes uncached for a while.
async fn find_out(mut job: FetchJob, led: Led) {
    let app = Arc::clone(&job.worker.context);
    let Some(_trial) = app.varies.try_out(&job.route_state.name) else { return };
    let known = app.varies.of(&job.route_state.name);
    if known.iter().any(|name| !job.plan.learned.contains(name)) {
        // Something was learned since this answer was asked for: the next one may be right.
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
