//! WriteKind Spillway itself serves under its reserved prefix.

use super::context::Worker;
use crate::jobs;
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::message::reply;
use crate::request::inbound::Inbound;
use http::Response;
use http1::head::RequestHead;
use rules::{Problem, Rules};
use std::sync::Arc;

/// Jobs, results and problem pages.
pub(super) async fn reserved(
    worker: &Arc<Worker>,
    rules: &Arc<Rules>,
    head: &RequestHead,
    body: Body,
    inbound: &Inbound,
    path: &str,
) -> Result<Response<Body>, Refused> {
    let base = &rules.document.jobs.base;
    let rest = path.strip_prefix(base.as_str()).unwrap_or_default().trim_start_matches('/');
    if let Some(name) = rest.strip_prefix("problems/") {
        return reply::problem_page(name)
            .ok_or(Refused::new(Problem::NoRoute, "there is no such problem"));
    }
    match rest.strip_prefix("jobs/") {
        Some(job) => {
            let asked = jobs::state::JobRequest {
                method: &head.method,
                headers: &head.headers,
                inbound,
                job,
            };
            jobs::status::answer(&worker.jobs, rules, asked, body).await
        }
        None => {
            Err(Refused::new(Problem::NoRoute, format!("nothing is served under {base}/{rest}")))
        }
    }
}
