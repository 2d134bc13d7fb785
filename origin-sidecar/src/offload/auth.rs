//! Who may start a job: the app is asked, with the client's own credentials.

use super::id::Caller;
use crate::fields::View;
use crate::proxy::Worker;
use crate::proxy::clean::Clean;
use crate::proxy::forward::{self, Outgoing};
use crate::proxy::handle::{Refused, failed};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http1::received::Received;
use rules::Problem;
use rules::document::{Auth, KeySource};
use std::time::Duration;

/// The check is in every offloaded request's way, before its 202.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Who the caller is, and the headers the app gave that travel with the job.
pub struct Allowed {
    pub caller: Caller,
    pub keep: Vec<(HeaderName, HeaderValue)>,
}

/// The caller's identity as the rule finds it; `None` when the request has none.
pub fn identity(auth: &Auth, headers: &HeaderMap) -> Option<Caller> {
    let Auth::Caller { identity, .. } = auth else { return Some(Caller(None)) };
    let view = View::of(headers);
    let value = match identity {
        KeySource::Header(name) => rules::head::first(&view, name),
        KeySource::Cookie(name) => {
            rules::head::cookie(&view, name).map(|value| rules::head::text_of(&value))
        }
        _ => None,
    };
    value.filter(|value| !value.is_empty()).map(|value| Caller(Some(value)))
}

/// # Errors
/// `offload-unauthorized` when there is no identity or the app says no.
pub async fn check(worker: &Worker, clean: &Clean<'_>, auth: &Auth) -> Result<Allowed, Refused> {
    let no = |detail: &str| (Problem::OffloadUnauthorized, detail.to_owned());
    let caller = identity(auth, clean.headers).ok_or_else(|| no("the request names no caller"))?;
    let Auth::Caller { check: Some(path), keep, .. } = auth else {
        return Ok(Allowed { caller, keep: Vec::new() });
    };
    let mut headers = clean.headers.clone();
    for name in ["content-length", "content-type", "if-none-match", "if-modified-since", "range"] {
        headers.remove(name);
    }
    let mut outgoing = Outgoing {
        upstream: worker.app.bindings.app.clone(),
        method: Method::GET,
        target: path.clone(),
        headers,
        came: Received::default(),
        added: String::new(),
        body: crate::body::Body::Empty,
        timeout: CHECK_TIMEOUT,
        exchange: None,
        may_pass: false,
        lane: None,
        slow: None,
    };
    let response = forward::send(worker, &mut outgoing).await.map_err(failed)?;
    let status = response.status();
    if status.is_server_error() {
        let detail = format!("{path} answered {status}; nobody can be let in");
        return Err((Problem::OffloadUnavailable, detail));
    }
    if !status.is_success() {
        return Err(no(&format!("{path} answered {status}")));
    }
    let keep = keep
        .iter()
        .filter_map(|name| {
            let name = HeaderName::try_from(name.as_str()).ok()?;
            let value = response.headers().get(&name)?.clone();
            Some((name, value))
        })
        .collect();
    Ok(Allowed { caller, keep })
}
