//! The page of a job: it follows the job with or without JavaScript, and ends where the
//! application's answer leads.

use super::record::{JobProgress, Outcome, StoredAnswer, Terminal};
use super::state::JobState;
use crate::message::body::Body;
use crate::message::reply::{escape, html};
use http::{HeaderValue, Response, header};
use rules::document::{Jobs, Page};
use rules::offload::landing::{Landing, landing};

/// Seconds between reloads without JavaScript.
const RELOAD_SECONDS: u32 = 2;

/// What a browser is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PageChoice {
    /// Spillway's own page.
    Page,
    /// The application's answer, which is a page itself.
    Answer,
    /// The page of this site to which the answer leads.
    Landing(String),
}

/// The URL and texts of a job's page.
pub(super) struct Place<'a> {
    pub jobs: &'a Jobs,
    pub id: &'a str,
    /// The message while the job waits.
    pub message: &'a str,
    /// The scheme under which the visitor sees the site.
    pub scheme: &'a str,
    pub host: &'a str,
}

impl Place<'_> {
    fn address(&self) -> String {
        format!("{}/jobs/{}", self.jobs.base, self.id)
    }

    fn landing(&self, answer: &StoredAnswer) -> Option<Landing> {
        Some(landing(answer.leads_to.as_ref()?, self.scheme, self.host))
    }

    /// The right choice for this state. A failure that is a page, such as a form with errors, is
    /// shown as well.
    pub(super) fn shown(&self, state: &JobState) -> PageChoice {
        let JobState::Ended(Outcome { answer: Some(answer), status, .. }) = state else {
            return PageChoice::Page;
        };
        if let Some(Landing::Own(target)) = self.landing(answer) {
            return PageChoice::Landing(target);
        }
        let is_said = *status == Terminal::Succeeded || matches!(answer.code, 400..=499);
        if is_said && answer.leads_to.is_none() && is_page(answer) {
            return PageChoice::Answer;
        }
        PageChoice::Page
    }

    pub(super) fn page(&self, state: &JobState) -> Response<Body> {
        let texts = &self.jobs.page;
        let (title, text) = match state {
            JobState::Queued => ("waiting", self.message.to_owned()),
            JobState::Running {
                progress: Some(JobProgress { message: Some(message), .. }),
                ..
            } => ("working", message.clone()),
            JobState::Running { .. } => ("working", self.message.to_owned()),
            JobState::Ended(outcome) => match outcome.status {
                Terminal::Succeeded => ("done", String::new()),
                Terminal::Cancelled => ("cancelled", texts.text("was-cancelled").to_owned()),
                Terminal::Failed | Terminal::Requeued => {
                    let reason = outcome.reason.as_deref().unwrap_or("unknown");
                    ("failed", format!("{} {reason}", texts.text("failed-because")))
                }
            },
        };
        let (head, below) = match state {
            JobState::Ended(outcome) => self.ended(outcome),
            _ => (reload("noscript"), self.pending(state)),
        };
        let page = document(texts, texts.text(title), &text, (&head, &below));
        let mut response = html(200, page);
        // Otherwise a page that frames this one could make a visitor press the cancel button.
        let alone = HeaderValue::from_static("frame-ancestors 'self'");
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, alone);
        response
    }

    /// The progress bar, the buttons and the script of a job that has not ended.
    fn pending(&self, state: &JobState) -> String {
        let (texts, at) = (&self.jobs.page, self.address());
        let value = match state {
            JobState::Running { progress: Some(progress), .. } => {
                format!(" max=100 value={}", progress.percent)
            }
            _ => String::new(),
        };
        let (look_again, cancel) = (escape(texts.text("look-again")), escape(texts.text("cancel")));
        let titles = serde_json::json!({
            "queued": texts.text("waiting"), "running": texts.text("working"),
        });
        // A text of the rules must not close the script element.
        let titles = titles.to_string().replace('<', "\\u003c");
        let script = SCRIPT.replace("LOCATION", &at).replace("TITLES", &titles);
        format!(
            "<progress id=bar aria-label=progress{value}></progress>\
             <form method=post action='{at}/cancel'><a href=''>{look_again}</a> \
             <button>{cancel}</button></form><script>{script}</script>"
        )
    }

    /// The head and the body of the page of an ended job. A download starts by itself; a link leads
    /// to another site, so that the visitor sees which one it is.
    fn ended(&self, outcome: &Outcome) -> (String, String) {
        let texts = &self.jobs.page;
        let Some(answer) = &outcome.answer else { return Default::default() };
        if let Some(Landing::Other { url, host }) = self.landing(answer) {
            let (url, host) = (escape(&url), escape(&host));
            let leave = escape(texts.text("leave-for"));
            let link = format!("<p>{leave} <a href=\"{url}\" rel=noreferrer>{host}</a></p>");
            return (String::new(), link);
        }
        if outcome.status != Terminal::Succeeded || answer.leads_to.is_some() {
            return Default::default();
        }
        let result = format!("{}/result", self.address());
        let open = escape(texts.text("open-result"));
        (
            format!("<meta http-equiv=refresh content='0; url={result}'>"),
            format!("<p><a href='{result}'>{open}</a></p>"),
        )
    }
}

/// Whether a browser would show the answer as a page.
fn is_page(answer: &StoredAnswer) -> bool {
    let field = |name: &str| {
        let found = answer.headers.iter().find(|(own, _)| own == name);
        found.and_then(|(_, value)| value.as_text()).unwrap_or_default().to_ascii_lowercase()
    };
    let media_type = field("content-type");
    let is_html =
        matches!(rules::head::media_type(&media_type), "text/html" | "application/xhtml+xml");
    is_html && !field("content-disposition").starts_with("attachment")
}

/// The page that is shown while the job's state, or the visitor's permission, can't be determined.
/// It reloads itself.
pub(super) fn try_again(page: &Page) -> Response<Body> {
    let (title, text) = (page.text("waiting"), page.text("try-again"));
    let mut response = html(503, document(page, title, text, (&reload(""), "")));
    let seconds = HeaderValue::from(RELOAD_SECONDS);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

/// The reload instruction; `element` surrounds it where it does not apply to everybody.
fn reload(element: &str) -> String {
    let meta = format!("<meta http-equiv=refresh content={RELOAD_SECONDS}>");
    if element.is_empty() { meta } else { format!("<{element}>{meta}</{element}>") }
}

/// A 303 to a path of this site.
pub(super) fn see(target: &str) -> Response<Body> {
    let mut response = html(303, String::new());
    *response.body_mut() = Body::empty();
    if let Ok(target) = HeaderValue::from_str(target) {
        response.headers_mut().insert(header::LOCATION, target);
    }
    response
}

fn document(page: &Page, title: &str, text: &str, (head, below): (&str, &str)) -> String {
    let css = page
        .css
        .as_ref()
        .map_or(String::new(), |css| format!("<link rel=stylesheet href=\"{}\">", escape(css)));
    let (lang, title, text) = (escape(&page.lang), escape(title), escape(text));
    format!(
        "<!doctype html><html lang=\"{lang}\"><head><meta charset=utf-8>\
         <meta name=viewport content='width=device-width'><meta name=color-scheme content='light dark'>\
         <title>{title}</title>{head}<style>{STYLE}</style>{css}</head>\
         <body><main><h1 id=title>{title}</h1><p id=text role=status>{text}</p>{below}</main></body></html>\n"
    )
}

const STYLE: &str = "body{font:17px/1.6 system-ui;display:grid;place-content:center;\
min-height:90vh;text-align:center}progress{width:16rem}button{font:inherit;margin-left:1rem}";

/// The script follows the job's events and reloads the page when the job has ended: the server
/// knows where to go then.
const SCRIPT: &str = "\
const at = id => document.getElementById(id), titles = TITLES;\
const events = new EventSource('LOCATION');\
events.addEventListener('status', event => {\
 const job = JSON.parse(event.data);\
 if (!titles[job.status]) { events.close(); location.reload(); return; }\
 at('title').textContent = document.title = titles[job.status];\
 if (job.progress) { at('bar').max = 100; at('bar').value = job.progress.percent; }\
 if (job.progress && job.progress.message) at('text').textContent = job.progress.message;\
});\
events.onerror = () => {\
 if (events.readyState === 2) setTimeout(() => location.reload(), 2000);\
};";
