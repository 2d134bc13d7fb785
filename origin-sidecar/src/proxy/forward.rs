//! Sending a request on to an upstream and taking its answer.

use super::{Upstreams, Worker};
use crate::bindings::Upstream;
use crate::body::Body;
use crate::fields;
use http::{HeaderMap, Method, Request, Response, Uri, header};
use rules::Problem;
use std::time::Duration;

/// An answer's head must come within this, unless the route has a `timeout`: load balancers give
/// up after 60 s.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

pub struct Outgoing {
    pub upstream: Upstream,
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Body,
    pub timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub problem: Problem,
    pub detail: String,
    /// Nothing reached the upstream, so it is safe to try again elsewhere.
    pub is_unsent: bool,
}

/// Sends the request as it is; `headers` must be clean of hop-by-hop fields.
///
/// # Errors
/// When the upstream can't be reached, is too slow, or its answer is not HTTP.
pub async fn send(worker: &Worker, outgoing: Outgoing) -> Result<Response<Body>, Failure> {
    let upstream = outgoing.upstream;
    let name = upstream.name.clone();
    let uri = Uri::builder()
        .scheme(upstream.scheme)
        .authority(upstream.authority)
        .path_and_query(outgoing.target)
        .build()
        .map_err(|error| Failure {
            problem: Problem::BadRequest,
            detail: error.to_string(),
            is_unsent: true,
        })?;
    let mut request = Request::new(outgoing.body);
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = outgoing.headers;
    // hyper answers the client's `Expect` itself when the body is first read.
    request.headers_mut().remove(header::EXPECT);
    let answered = tokio::time::timeout(outgoing.timeout, call(&worker.upstreams, request)).await;
    let failure = match answered {
        Ok(Ok(mut response)) => {
            if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                fields::remove_hop_by_hop(response.headers_mut());
            }
            return Ok(response);
        }
        Ok(Err(failure)) => failure,
        Err(_) => Failure {
            problem: Problem::UpstreamTimeout,
            detail: format!("no answer from {name} within {:?}", outgoing.timeout),
            is_unsent: false,
        },
    };
    if matches!(failure.problem, Problem::BodyTooLarge | Problem::BadRequest) {
        return Err(failure);
    }
    let metrics = &worker.app.metrics;
    metrics.http.upstream_errors.with_label_values(&[&*name, failure.problem.name()]).inc();
    Err(failure)
}

async fn call(upstreams: &Upstreams, request: Request<Body>) -> Result<Response<Body>, Failure> {
    match upstreams {
        Upstreams::Network(client) => {
            let answered = client.request(request).await;
            answered.map(|response| response.map(Body::Incoming)).map_err(|error| explain(&error))
        }
        Upstreams::Local(answer) => answer(request).await,
    }
}

fn explain(error: &hyper_util::client::legacy::Error) -> Failure {
    let mut detail = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let (mut is_parse, mut is_user, mut is_long) = (false, false, false);
    while let Some(own) = cause {
        is_parse |= own.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
        is_user |= own.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user);
        // `source` of an io::Error skips the error it was made from.
        let inner = own.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        is_long |= inner.is_some_and(|inner| inner.is::<http_body_util::LengthLimitError>())
            || own.is::<http_body_util::LengthLimitError>();
        detail = format!("{detail}: {own}");
        cause = own.source();
    }
    let problem = match (is_long, is_user, is_parse) {
        (true, ..) => Problem::BodyTooLarge,
        // The client broke its body off.
        (_, true, _) => Problem::BadRequest,
        (.., true) => Problem::UpstreamInvalid,
        _ => Problem::UpstreamUnreachable,
    };
    Failure { problem, detail, is_unsent: error.is_connect() }
}
