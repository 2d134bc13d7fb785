//! The answer to a request that became a job.

use crate::message::body::Body;
use crate::message::reply;
use crate::request::sanitized::SanitizedRequest;
use http::{HeaderMap, HeaderValue, Response, header};
use rules::document::{Jobs, Offload};
use rules::offload::{Prefer, Reason, mark, prefer};

/// The data for a 202, taken before the request is consumed.
pub(super) struct Receipt {
    base: String,
    message: String,
    /// For a browser: the URL of the job's page, without its id.
    page: Option<(Jobs, String)>,
    preference: Prefer,
}

impl Receipt {
    pub(super) fn of(clean: &SanitizedRequest<'_>, rule: &Offload) -> Self {
        let document = &clean.rules.document;
        let queue = document.queues.get(&rule.queue);
        let view = crate::message::fields::View::of(clean.headers);
        Self {
            base: document.jobs.base.clone(),
            message: queue.map_or("accepted", |queue| &queue.message).to_owned(),
            page: is_page(clean.headers)
                .then(|| (document.jobs.clone(), clean.inbound.target.clone())),
            preference: prefer(&clean.inbound.head(&clean.method, &view)),
        }
    }

    /// A 202 for programs; for a form post, a 303 to the job's page, under the path of the form.
    pub(super) fn answer(&self, id: &str, status: &str, reason: Reason) -> Response<Body> {
        let location = format!("{}/jobs/{id}", self.base);
        let body = serde_json::json!({
            "id": id, "status": status, "message": self.message, "location": location,
            "offloaded": reason.as_str(),
        });
        let (mut response, location) = match &self.page {
            Some((jobs, target)) => (reply::text(303, ""), mark::with(jobs, target, id)),
            None => (reply::json(202, &body), location),
        };
        let headers = response.headers_mut();
        let mut set = |name: header::HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(header::LOCATION, &location);
        set(header::RETRY_AFTER, "1");
        set(header::HeaderName::from_static("x-job-id"), id);
        if self.preference.respond_async {
            let wait = self
                .preference
                .wait
                .map_or(String::new(), |wait| format!(", wait={}", wait.as_secs()));
            set(
                header::HeaderName::from_static("preference-applied"),
                &format!("respond-async{wait}"),
            );
        }
        response
    }
}

/// Whether the client is a browser that submitted a form: it accepts HTML (RFC 9110 section
/// 12.5.1), and not with `q=0`.
pub(super) fn is_page(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepts.flat_map(|accept| accept.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|range| range.eq_ignore_ascii_case("text/html"));
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map(str::parse::<f32>);
        is_html && quality.is_none_or(|quality| quality.is_ok_and(|quality| quality > 0.0))
    })
}
