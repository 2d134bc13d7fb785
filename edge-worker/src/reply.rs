//! Answers that the edge makes itself, and the `Cache-Status` member of all answers.

use crate::call::{Call, Failure};
use crate::incoming::View;
use crate::js;
use rules::cache::{CacheStatus, Tier};
use rules::{Edit, Problem, ResponseHead, Rules};
use wasm_bindgen::prelude::JsValue;
use web_sys::{Headers, Response, ResponseInit};
use worker::console_error;

/// A failure of our own is 503 and not 500: the request is not at fault and may be repeated.
const INTERNAL_STATUS: u16 = 503;
/// `Retry-After` in seconds: an isolate that failed is replaced at once, a bad deployment is not.
const INTERNAL_RETRY_AFTER: &str = "5";
/// The prefix of problem pages where the rules, which would say it, can't be read.
const BASE_DEFAULT: &str = "/_spillway";

/// A redirect with 308, so that a POST stays a POST.
pub(crate) fn redirect(location: &str) -> Result<Response, JsValue> {
    let headers = Headers::new()?;
    headers.set("location", location)?;
    headers.set("cache-status", &format!("{}; detail=canonical-host", Tier::Edge.name()))?;
    Response::new_with_opt_str_and_init(None, &init(308, &headers))
}

pub(crate) fn problem(rules: &Rules, problem: Problem) -> Result<Response, JsValue> {
    let member = format!("{}; detail={}", Tier::Edge.name(), problem.name());
    let status = problem.status();
    problem_answer(&rules.document.jobs.base, problem, status, problem.remedy(), &member, None)
}

/// The answer to a request that the origin did not answer.
pub(crate) fn failed(
    rules: &Rules,
    failure: &Failure,
    status: CacheStatus,
) -> Result<Response, JsValue> {
    let (problem, detail) = match failure {
        Failure::Timeout => (Problem::UpstreamTimeout, "The origin sent no answer in time."),
        Failure::Unreachable(_) => (Problem::UpstreamUnreachable, "No connection to the origin."),
    };
    if let Failure::Unreachable(reason) = failure {
        console_error!("spillway-edge: upstream-unreachable: {reason}");
    }
    let member = format!("{}; detail={}", fwd(status), problem.name());
    problem_answer(&rules.document.jobs.base, problem, problem.status(), detail, &member, None)
}

/// The answer to `Cache-Control: only-if-cached` where nothing usable is stored (RFC 9111 section 5.2.1.7).
pub(crate) fn only_if_cached(rules: &Rules) -> Result<Response, JsValue> {
    let member = CacheStatus::OnlyIfCached.member(Tier::Edge);
    let detail = "Nothing usable is stored, and the request asks not to fetch.";
    let problem = Problem::UpstreamTimeout;
    problem_answer(&rules.document.jobs.base, problem, problem.status(), detail, &member, None)
}

pub(crate) fn internal(reason: &str) -> Result<Response, JsValue> {
    let member = format!("{}; detail=internal", Tier::Edge.name());
    let retry = Some(INTERNAL_RETRY_AFTER);
    problem_answer(BASE_DEFAULT, Problem::Internal, INTERNAL_STATUS, reason, &member, retry)
}

/// The origin's answer as it is, with our member behind those of earlier caches.
pub(crate) fn passed(response: &Response, status: CacheStatus) -> Result<Response, JsValue> {
    // A WebSocket is part of its response object and would be lost in a copy.
    if response.status() == 101 {
        return Ok(Clone::clone(response));
    }
    let copy = copy(response)?;
    add_status(&copy.headers(), &status.member(Tier::Edge))?;
    Ok(copy)
}

/// Applies the changes of the route's rules to an answer to GET or HEAD that is not kept.
pub(crate) fn edited(call: &Call, target: &str, answer: &Response) -> Result<(), JsValue> {
    // The answer of a WebSocket belongs to the runtime and can't be changed.
    let Some(assets) = call.assets.filter(|_| answer.status() != 101) else { return Ok(()) };
    let (status, headers) = (answer.status(), answer.headers());
    edit(&headers, &assets.edits(target, &ResponseHead { status, fields: &View(&headers) }))
}

pub(crate) fn edit(headers: &Headers, edits: &[Edit]) -> Result<(), JsValue> {
    for edit in edits {
        match edit.value() {
            Some(value) => headers.set(edit.name(), value)?,
            None => headers.delete(edit.name())?,
        }
    }
    Ok(())
}

/// The same response with fields that can be changed.
pub(crate) fn copy(response: &Response) -> Result<Response, JsValue> {
    let init = init(response.status(), &response.headers());
    init.set_status_text(&response.status_text());
    coded(&init, response)
}

/// An answer with the body of another one. The body is encoded as the origin encoded it, like all that we
/// fetch and store.
pub(crate) fn coded(init: &ResponseInit, body: &Response) -> Result<Response, JsValue> {
    js::leave_coded(init, "encodeBody")?;
    Response::new_with_opt_readable_stream_and_init(body.body().as_ref(), init)
}

/// A status and fields without a body.
pub(crate) fn empty(status: u16, headers: &Headers) -> Result<Response, JsValue> {
    Response::new_with_opt_str_and_init(None, &init(status, headers))
}

pub(crate) fn add_status(headers: &Headers, member: &str) -> Result<(), JsValue> {
    headers.append("cache-status", member)
}

pub(crate) fn init(status: u16, headers: &Headers) -> ResponseInit {
    let init = ResponseInit::new();
    init.set_status(status);
    init.set_headers(headers);
    init
}

/// The `Cache-Status` member of a request that was forwarded, without what became of its answer.
fn fwd(status: CacheStatus) -> String {
    let member = status.member(Tier::Edge);
    member.split("; detail=").next().unwrap_or_default().to_owned()
}

fn problem_answer(
    base: &str,
    problem: Problem,
    status: u16,
    detail: &str,
    member: &str,
    retry_after: Option<&str>,
) -> Result<Response, JsValue> {
    let body = serde_json::json!({
        "type": format!("{base}/problems/{}", problem.name()),
        "title": problem.title(),
        "status": status,
        "detail": detail,
    });
    let headers = Headers::new()?;
    headers.set("content-type", "application/problem+json")?;
    headers.set("cache-control", "no-store")?;
    headers.set("cache-status", member)?;
    if let Some(seconds) = retry_after {
        headers.set("retry-after", seconds)?;
    }
    Response::new_with_opt_str_and_init(Some(&body.to_string()), &init(status, &headers))
}
