//! The request in the form in which the rules read it.

use rules::{Fields, Head};
use wasm_bindgen::prelude::JsValue;
use web_sys::{Headers, Request};

/// A request whose URL has been parsed, once.
pub(crate) struct Incoming {
    pub(crate) request: Request,
    pub(crate) headers: Headers,
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) host: String,
    /// Path and query. The runtime has resolved dot segments already.
    pub(crate) target: String,
}

impl Incoming {
    pub(crate) fn new(request: Request) -> Result<Self, JsValue> {
        let url = request.url();
        let (scheme, host, target) = split(&url)?;
        Ok(Self {
            headers: request.headers(),
            method: request.method(),
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            request,
        })
    }

    pub(crate) fn head(&self) -> Head<'_> {
        self.head_as(&self.method)
    }

    pub(crate) fn head_as<'a>(&'a self, method: &'a str) -> Head<'a> {
        Head { method, scheme: &self.scheme, host: &self.host, target: &self.target, fields: self }
    }
}

/// Splits an absolute URL into scheme, host, and path with query.
pub(crate) fn split(url: &str) -> Result<(&str, &str, &str), &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("the request has no absolute URL")?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at_checked(at).ok_or("the request's URL has no host")?;
    Ok((scheme, host, target))
}

/// Field lines of one name arrive joined by `", "`: the runtime keeps no more than that.
impl Fields for Incoming {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        View(&self.headers).each(name, visit);
    }
}

/// The fields of a response or of a request under construction.
pub(crate) struct View<'a>(pub(crate) &'a Headers);

impl Fields for View<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        if let Ok(Some(value)) = self.0.get(name) {
            visit(value.as_bytes());
        }
    }
}

/// All fields as (name, value) pairs; names are in lower case.
pub(crate) fn pairs(headers: &Headers) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for entry in headers.entries() {
        let Ok(entry) = entry else { continue };
        let entry = js_sys::Array::from(&entry);
        if let (Some(name), Some(value)) = (entry.get(0).as_string(), entry.get(1).as_string()) {
            pairs.push((name, value));
        }
    }
    pairs
}
