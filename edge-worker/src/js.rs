//! What the Workers runtime has beyond the browser: the few names that web-sys does not know.

use js_sys::Promise;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
use web_sys::{Request, Response};

#[wasm_bindgen]
extern "C" {
    /// Variables of the deployment (`[vars]` in wrangler.toml).
    pub type Env;
    #[wasm_bindgen(method, getter, js_name = SPILLWAY_ORIGIN)]
    pub(crate) fn origin(this: &Env) -> Option<String>;

    /// The request's execution context.
    #[derive(Clone)]
    pub type Context;
    #[wasm_bindgen(method, js_name = waitUntil)]
    pub(crate) fn wait_until(this: &Context, promise: &Promise);

    pub(crate) type Caches;
    #[wasm_bindgen(thread_local_v2, js_name = caches)]
    pub(crate) static CACHES: Caches;
    #[wasm_bindgen(method, getter, js_name = default)]
    pub(crate) fn default_cache(this: &Caches) -> Cache;

    pub(crate) type Cache;
    #[wasm_bindgen(method, js_name = match)]
    pub(crate) fn lookup(this: &Cache, key: &Request) -> Promise;
    #[wasm_bindgen(method)]
    pub(crate) fn put(this: &Cache, key: &Request, response: &Response) -> Promise;
    #[wasm_bindgen(method)]
    pub(crate) fn delete(this: &Cache, key: &Request) -> Promise;

    #[wasm_bindgen(js_name = fetch)]
    pub(crate) fn fetch(request: &Request) -> Promise;

    pub(crate) type Scheduler;
    #[wasm_bindgen(thread_local_v2, js_name = scheduler)]
    pub(crate) static SCHEDULER: Scheduler;
    /// Resolves to `undefined` after so many milliseconds.
    #[wasm_bindgen(method)]
    pub(crate) fn wait(this: &Scheduler, milliseconds: f64) -> Promise;

    #[wasm_bindgen(js_namespace = console, js_name = error)]
    pub(crate) fn log_error(text: &str);
}

/// The compiled rules, a file that the build lays beside the bundle.
#[wasm_bindgen(raw_module = "./rules.json")]
extern "C" {
    #[wasm_bindgen(thread_local_v2, js_name = default)]
    pub(crate) static RULES: String;
}

/// Milliseconds since 1970. The runtime's clock moves only with I/O, which is enough here.
pub(crate) fn now() -> u64 {
    // Positive and far below 2^53.
    js_sys::Date::now() as u64
}

/// The text of a thrown value, for a log line.
pub(crate) fn reason(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => thrown.as_string().unwrap_or_else(|| "not an error object".to_owned()),
    }
}
