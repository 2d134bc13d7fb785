//! The job's page, for people who submitted a form. It reloads itself without JavaScript and
//! watches the job with it; either way it ends at the result.

use super::record::Terminal;
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
    let (title, text, is_pending) = match state {
        State::Queued => ("Waiting", message.to_owned(), true),
        State::Running(_) => ("Working", message.to_owned(), true),
        State::Ended(outcome) => match (outcome.status, &outcome.answer) {
            (Terminal::Succeeded, _) => return to_result(&location),
            (Terminal::Cancelled, _) => ("Cancelled", "This job was cancelled.".to_owned(), false),
            (Terminal::Failed, _) => {
                let reason = outcome.reason.as_deref().unwrap_or("unknown");
                ("Failed", format!("This job failed: {reason}."), false)
            }
        },
    };
    html(200, page(title, &text, &location, is_pending))
}

fn to_result(location: &str) -> Response<Body> {
    let mut response = html(303, String::new());
    *response.body_mut() = Body::Empty;
    if let Ok(result) = HeaderValue::from_str(&format!("{location}/result")) {
        response.headers_mut().insert(header::LOCATION, result);
    }
    response
}

fn page(title: &str, text: &str, location: &str, is_pending: bool) -> String {
    let (reload, script, bar) = if is_pending {
        (
            format!("<noscript><meta http-equiv=refresh content={RELOAD_SECONDS}></noscript>"),
            format!("<script>{}</script>", SCRIPT.replace("LOCATION", location)),
            "<progress aria-label=working></progress>",
        )
    } else {
        (String::new(), String::new(), "")
    };
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content='width=device-width'><meta name=color-scheme content='light dark'>\
         <title>{title}</title>{reload}<style>body{{font:17px/1.6 system-ui;display:grid;\
         place-content:center;min-height:90vh;text-align:center}}progress{{width:16rem}}</style></head>\
         <body><main><h1>{title}</h1><p>{}</p>{bar}<p><a href='{location}'>Look again</a></p></main>\
         {script}</body></html>\n",
        escape(text)
    )
}

/// Asks for the status, each time waiting up to 20 s for the end.
const SCRIPT: &str = "\
(async () => { for (;;) { try {\
 const r = await fetch('LOCATION', {headers: {Accept: 'application/json', Prefer: 'wait=20'}});\
 const job = await r.json();\
 if (job.status !== 'queued' && job.status !== 'running') { location.reload(); return; }\
 document.querySelector('h1').textContent = job.status === 'running' ? 'Working' : 'Waiting';\
 } catch { await new Promise(done => setTimeout(done, 2000)); } } })()";
