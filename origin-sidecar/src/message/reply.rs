//! Turns problems into answers (RFC 9457), and builds other small answers.

use super::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use rules::Problem;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// `Retry-After` of a 503 in seconds: long enough for a pod to be replaced elsewhere.
const RETRY_AFTER_SECONDS: &str = "2";
/// The same where a shard map changes, which takes about a second.
const RETRY_AFTER_MOVE_SECONDS: &str = "1";

/// An answer of `application/problem+json` with the problem's type and title, and the detail of
/// this case.
pub fn problem(base: &str, problem: Problem, detail: &str) -> Response<Body> {
    let body = serde_json::json!({
        "type": format!("{base}/problems/{}", problem.name()),
        "title": problem.title(),
        "status": problem.status(),
        "detail": detail,
    });
    let mut response = json(problem.status(), &body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if matches!(problem.status(), 503 | 425 | 429) {
        let seconds = match problem {
            Problem::RangeFenced | Problem::MapBehind | Problem::MapUnknown => {
                RETRY_AFTER_MOVE_SECONDS
            }
            _ => RETRY_AFTER_SECONDS,
        };
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    if matches!(problem, Problem::BodyTooLarge | Problem::BadRequest) {
        // The rest of the body is not read, and malformed input may hide another request: the
        // connection is closed.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The first value of a field of an answer, whether or not its fields have been parsed.
pub fn first<'a>(response: &'a Response<Body>, name: &'a HeaderName) -> Option<&'a [u8]> {
    let own = response.headers().get(name).map(HeaderValue::as_bytes);
    own.or_else(|| response.body().encoded()?.block.values(name).next())
}

/// What the cache did for an answer: the last member of `Cache-Status` without our name, such as
/// `hit; ttl=3`.
pub fn cache_result(response: &Response<Body>) -> Option<&str> {
    let line = || response.headers().get_all(CACHE_STATUS).iter().next_back()?.to_str().ok();
    let last = response.body().cache_status().or_else(line)?;
    last.strip_prefix("spillway-sidecar; ")
}

/// A JSON answer that no cache stores.
pub fn json(status: u16, body: &serde_json::Value) -> Response<Body> {
    let mut text = body.to_string();
    text.push('\n');
    with(status, "application/json", text)
}

pub fn html(status: u16, page: String) -> Response<Body> {
    with(status, "text/html; charset=utf-8", page)
}

pub fn text(status: u16, text: impl Into<bytes::Bytes>) -> Response<Body> {
    with(status, "text/plain; charset=utf-8", text)
}

fn with(status: u16, content_type: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Appends a member to `Cache-Status`; each hop adds its own at the end (RFC 9211 section 2).
pub fn add_cache_status(headers: &mut HeaderMap, member: String) {
    if let Ok(member) = HeaderValue::try_from(member) {
        headers.append(CACHE_STATUS, member);
    }
}

/// The page at a problem's type URI.
pub fn problem_page(name: &str) -> Option<Response<Body>> {
    let problem = Problem::from_name(name)?;
    Some(html(
        200,
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem}}\
         code{{background:#8882;padding:.1em .3em}}</style>\
         <h1>{name}</h1><p>{}</p><h2>What to do</h2><p>{}</p><p><small>HTTP status {}; metric \
         <code>spillway_problems_total{{problem=\"{name}\"}}</code></small></p></html>\n",
            escape(problem.title()),
            escape(problem.remedy()),
            problem.status(),
        ),
    ))
}

/// Escapes text for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
