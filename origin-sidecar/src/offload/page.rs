//! The job's page, for people who submitted a form. It reloads itself without JavaScript and
//! follows the job's events with it; either way it ends at the result.

use super::record::{Progress, Terminal};
use super::status::State;
use crate::body::Body;
use crate::reply::{escape, html};
use http::{HeaderValue, Response, header};
use rules::Rules;
use rules::document::Offload;

/// Seconds between reloads without JavaScript.
const RELOAD_SECONDS: u32 = 2;

pub(super) fn answer(rules: &Rules, offload: &Offload, id: &str, state: &State) -> Response<Body> {
    let location = format!("{}/jobs/{id}", rules.document.jobs.base);
    let message =
        rules.document.queues.get(&offload.queue).map_or("accepted", |queue| &queue.message);
    let (title, text) = match state {
        State::Queued => ("Waiting", message.to_owned()),
        State::Running { progress: Some(Progress { message: Some(message), .. }), .. } => {
            ("Working", message.clone())
        }
        State::Running { .. } => ("Working", message.to_owned()),
        State::Ended(outcome) => match outcome.status {
            Terminal::Succeeded => return to_result(&location),
            Terminal::Cancelled => ("Cancelled", "This job was cancelled.".to_owned()),
            Terminal::Failed | Terminal::Requeued => {
                let reason = outcome.reason.as_deref().unwrap_or("unknown");
                ("Failed", format!("This job failed: {reason}."))
            }
        },
    };
    let mut response = html(200, page(title, &text, &location, state));
    // A page that frames this one could have its cancel button pressed.
    let alone = HeaderValue::from_static("frame-ancestors 'self'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, alone);
    response
}

/// While nobody can say how the job stands, or whether it may be shown. The page comes again by itself.
pub(super) fn try_again() -> Response<Body> {
    let text = "How this job stands can't be found out just now. This page tries again by itself.";
    let reload = format!("<meta http-equiv=refresh content={RELOAD_SECONDS}>");
    let mut response = html(503, document("Waiting", text, &reload, ""));
    let seconds = HeaderValue::from(RELOAD_SECONDS);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

fn to_result(location: &str) -> Response<Body> {
    let mut response = html(303, String::new());
    *response.body_mut() = Body::Empty;
    if let Ok(result) = HeaderValue::from_str(&format!("{location}/result")) {
        response.headers_mut().insert(header::LOCATION, result);
    }
    response
}

fn page(title: &str, text: &str, location: &str, state: &State) -> String {
    let is_pending = !matches!(state, State::Ended(_));
    let (reload, below) = if is_pending {
        let reload =
            format!("<noscript><meta http-equiv=refresh content={RELOAD_SECONDS}></noscript>");
        (reload, pending(location, state))
    } else {
        (String::new(), String::new())
    };
    document(title, text, &reload, &below)
}

fn document(title: &str, text: &str, head: &str, below: &str) -> String {
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content='width=device-width'><meta name=color-scheme content='light dark'>\
         <title>{title}</title>{head}<style>{STYLE}</style></head>\
         <body><main><h1 id=title>{title}</h1><p id=text role=status>{}</p>{below}</main></body></html>\n",
        escape(text)
    )
}

/// The bar, the buttons and the script of a job that has not ended.
fn pending(location: &str, state: &State) -> String {
    let value = match state {
        State::Running { progress: Some(progress), .. } => {
            format!(" max=100 value={}", progress.percent)
        }
        _ => String::new(),
    };
    format!(
        "<progress id=bar aria-label=progress{value}></progress>\
         <form method=post action='{location}/cancel'><a href='{location}'>Look again</a> \
         <button>Cancel</button></form><script>{}</script>",
        SCRIPT.replace("LOCATION", location)
    )
}

const STYLE: &str = "body{font:17px/1.6 system-ui;display:grid;place-content:center;\
min-height:90vh;text-align:center}progress{width:16rem}button{font:inherit;margin-left:1rem}";

/// Follows the job's events and goes where it ends.
const SCRIPT: &str = "\
const at = id => document.getElementById(id), titles = {queued: 'Waiting', running: 'Working'};\
const events = new EventSource('LOCATION');\
events.addEventListener('status', event => {\
 const job = JSON.parse(event.data);\
 if (!titles[job.status]) { events.close(); location.replace('LOCATION'); return; }\
 at('title').textContent = document.title = titles[job.status];\
 if (job.progress) { at('bar').max = 100; at('bar').value = job.progress.percent; }\
 if (job.progress && job.progress.message) at('text').textContent = job.progress.message;\
});\
events.onerror = () => {\
 if (events.readyState === 2) setTimeout(() => location.reload(), 2000);\
};";
