//! Stored answers that an unsafe request makes obsolete.

use crate::call::Call;
use crate::incoming::View;
use crate::{js, store};
use rules::cache::invalidated;
use rules::edge::{EdgeAction, decide};
use rules::{Head, ResponseHead};
use web_sys::Response;
use worker::console_error;

/// Deletes what an unsafe request makes obsolete. In this data centre; elsewhere the lifetime bounds it.
pub(crate) async fn stored(call: &Call, response: &Response) {
    let (head, status) = (call.incoming.head(), response.status());
    if head.is_safe() {
        return;
    }
    let headers = response.headers();
    // The edge believes nobody that another host was asked for.
    let answer = ResponseHead { status, fields: &View(&headers) };
    let targets = invalidated(&head, head.host, &answer);
    for target in targets {
        let get =
            Head { fields: &rules::NoFields, target: &target, ..call.incoming.head_as("GET") };
        if let EdgeAction::Cache(plan) = decide(call.rules, &get).action
            && let Err(thrown) = store::delete(&store::address(call, &plan)).await
        {
            console_error!("spillway-edge: store-delete: {}", js::reason(&thrown));
        }
    }
}
