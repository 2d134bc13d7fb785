//! Requests that bypass the store.

use crate::call::Call;
use crate::{invalidate, origin, reply};
use rules::cache::CacheStatus;
use wasm_bindgen::prelude::JsValue;
use web_sys::Response;

/// Sends the request on and its answer back, storing nothing.
pub(crate) async fn pass(
    call: &Call,
    target: &str,
    status: CacheStatus,
) -> Result<Response, JsValue> {
    let answer = origin::pass(call, target).await?;
    match answer {
        Ok(response) => {
            invalidate::stored(call, &response).await;
            let answer = reply::passed(&response, status)?;
            if call.incoming.head().is_get_or_head() {
                reply::edited(call, target, &answer)?;
            }
            Ok(answer)
        }
        Err(failure) => reply::failed(call.rules, &failure, status),
    }
}
