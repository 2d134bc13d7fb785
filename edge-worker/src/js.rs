//! Functions of the Workers runtime that browsers lack and neither web-sys nor `worker` offers: the crate's
//! own cache, fetch and delay are for its own request and response types, which are made anew from every
//! handle.

use js_sys::Promise;
use rules::UnixMillis;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
use web_sys::{Cache, Crypto, Request, RequestInit};

#[wasm_bindgen]
extern "C" {
    pub(crate) type Caches;
    #[wasm_bindgen(thread_local_v2, js_name = caches)]
    pub(crate) static CACHES: Caches;
    #[wasm_bindgen(method, getter, js_name = default)]
    pub(crate) fn default_cache(this: &Caches) -> Cache;

    #[wasm_bindgen(js_name = fetch)]
    pub(crate) fn fetch(request: &Request, init: &RequestInit) -> Promise;

    #[wasm_bindgen(thread_local_v2, js_name = crypto)]
    pub(crate) static CRYPTO: Crypto;

    pub(crate) type Scheduler;
    #[wasm_bindgen(thread_local_v2, js_name = scheduler)]
    pub(crate) static SCHEDULER: Scheduler;
    /// A promise that resolves to `undefined` after so many milliseconds.
    #[wasm_bindgen(method)]
    pub(crate) fn wait(this: &Scheduler, milliseconds: f64) -> Promise;
}

/// The compiled rules, a file that the build lays beside the bundle.
#[wasm_bindgen(raw_module = "./rules.json")]
extern "C" {
    #[wasm_bindgen(thread_local_v2, js_name = default)]
    pub(crate) static RULES: String;
}

/// Has the runtime leave a body's coding (`Content-Encoding`) alone. By itself it takes the coding off a
/// body that is read, and puts it on one whose fields name it: what was stored coded would be coded twice.
/// `which` is `encodeResponseBody` of a fetch (a `Request` does not keep it), `encodeBody` of an answer.
pub(crate) fn leave_coded(init: &JsValue, which: &str) -> Result<(), JsValue> {
    js_sys::Reflect::set(init, &which.into(), &"manual".into()).map(|_| ())
}

/// What time it is. The runtime's clock moves only with I/O, which is enough here.
pub(crate) fn now() -> UnixMillis {
    // The number is positive and far below 2^53.
    UnixMillis(js_sys::Date::now() as u64)
}

/// The text of a thrown value, for a log line.
pub(crate) fn reason(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => thrown.as_string().unwrap_or_else(|| "not an error object".to_owned()),
    }
}
