//! The answer to a request that became a job.

use crate::body::Body;
use crate::proxy::clean::Clean;
use crate::reply;
use http::{HeaderMap, HeaderValue, Response, header};
use rules::document::Offload;
use rules::offload::{Prefer, Reason, prefer};

/// What a 202 is made from, taken before the request is used up.
pub(super) struct Receipt {
    base: String,
    message: String,
    is_page: bool,
    preference: Prefer,
}

impl Receipt {
    pub(super) fn of(clean: &Clean<'_>, rule: &Offload) -> Self {
        let document = &clean.rules.document;
        let queue = document.queues.get(&rule.queue);
        let view = crate::fields::View::of(clean.headers);
        Self {
            base: document.jobs.base.clone(),
            message: queue.map_or("accepted", |queue| &queue.message).to_owned(),
            is_page: is_page(clean.headers),
            preference: prefer(&clean.inbound.head(&clean.method, &view)),
        }
    }

    /// 202 for programs; for a form post, 303 to the job's page.
    pub(super) fn answer(&self, id: &str, status: &str, reason: Reason) -> Response<Body> {
        let location = format!("{}/jobs/{id}", self.base);
        let body = serde_json::json!({
            "id": id, "status": status, "message": self.message, "location": location,
            "offloaded": reason.as_str(),
        });
        let mut response =
            if self.is_page { reply::text(303, "") } else { reply::json(202, &body) };
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
            let wait = self.preference.wait.map_or(String::new(), |wait| format!(", wait={wait}"));
            set(
                header::HeaderName::from_static("preference-applied"),
                &format!("respond-async{wait}"),
            );
        }
        response
    }
}

/// A browser that submitted a form.
pub(super) fn is_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}
