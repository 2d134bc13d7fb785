//! Stored answers that an unsafe request makes obsolete.

use crate::{Call, js, store};
use rules::Head;
use rules::edge::{Action, decide};
use web_sys::Response;
use worker::console_error;

/// A successful unsafe request makes what is stored under its address outdated, and what it says
/// has changed besides (RFC 9111 section 4.4). In this data centre; elsewhere the lifetime bounds it.
pub(crate) async fn stored(call: &Call, response: &Response) {
    if call.incoming.head().is_safe() || !(200..400).contains(&response.status()) {
        return;
    }
    let mut targets = vec![call.incoming.target.clone()];
    for name in ["location", "content-location"] {
        let location = response.headers().get(name).ok().flatten();
        targets.extend(location.and_then(|location| own_target(call, &location)));
    }
    for target in targets {
        let get =
            Head { fields: &rules::NoFields, target: &target, ..call.incoming.head_as("GET") };
        if let Action::Cache(plan) = decide(call.rules, &get).action
            && let Err(thrown) = store::delete(&store::address(call, &plan)).await
        {
            console_error!("spillway-edge: store-delete: {}", js::reason(&thrown));
        }
    }
}

/// Path and query of a location on the request's own host; another's answers are not this one's to
/// throw away.
fn own_target(call: &Call, location: &str) -> Option<String> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(location.to_owned());
    }
    let rest = location.split_once("://")?.1;
    let target = rest.strip_prefix(call.incoming.host.as_str())?;
    target.starts_with('/').then(|| target.to_owned())
}
