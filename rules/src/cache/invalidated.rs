//! Which stored answers an unsafe request makes obsolete (RFC 9111 section 4.4).

use super::location::on_own_origin;
use crate::head::{Head, ResponseHead, first};

/// Fields of an answer that name what else the request has changed.
const NAMING_OTHERS: [&str; 2] = ["location", "content-location"];

/// The targets (path and query) on the request's own host whose stored answers are obsolete after
/// an unsafe request was answered: its own target, and those in `Location` and `Content-Location`
/// where they are on the same origin. `visited_host` is the host that the client asked for, where a
/// trusted proxy names another one than the request does. Empty when the request is
/// [safe](Head::is_safe), or when its answer is neither 2xx nor 3xx.
pub fn invalidated(
    request: &Head<'_>,
    visited_host: &str,
    response: &ResponseHead<'_>,
) -> Vec<String> {
    if !matches!(response.status, 200..400) {
        return Vec::new();
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let mut targets = vec![request.target.to_owned()];
    for name in NAMING_OTHERS {
        let Some(reference) = first(response.fields, name) else { continue };
        let hosts = [request.host, visited_host];
        if let Some(target) = on_own_origin(request, &hosts, path, &reference)
            && !targets.contains(&target)
        {
            targets.push(target);
        }
    }
    targets
}
