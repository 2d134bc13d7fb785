//! Explains what a cache would do with an answer of the application, and why.

use super::lines::line;
use rules::cache::status::Miss;
use rules::cache::{
    Bypass, CacheStatus, Entry, Judgement, NotStored, Plan, Source, TokenKey, judge,
};
use rules::{Head, Millis, ResponseHead, UnixMillis};

/// The head of an answer.
pub struct AnswerHead {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// When it came.
    pub now: UnixMillis,
}

impl AnswerHead {
    /// Parses a head as it is on the wire and as `curl -si` prints it. Of several heads the last
    /// one counts (the others are 1xx, or a proxy's). What follows is ignored.
    ///
    /// # Errors
    /// Says which line is none of a head.
    pub fn read(text: &str, now: UnixMillis) -> Result<Self, String> {
        let mut found = None;
        let mut rest = text.trim_start();
        while rest.starts_with("HTTP/") {
            let end = rest.find("\r\n\r\n").or_else(|| rest.find("\n\n")).unwrap_or(rest.len());
            let (head, after) = rest.split_at(end);
            found = Some(Self::head(head, now)?);
            rest = after.trim_start();
        }
        found.ok_or_else(|| "the answer does not begin with HTTP/1.1 STATUS".to_owned())
    }

    fn head(text: &str, now: UnixMillis) -> Result<Self, String> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("{first}: write HTTP/1.1 STATUS"))?;
        let headers = lines.map(super::lines::header).collect::<Result<_, String>>()?;
        Ok(Self { status, headers, now })
    }
}

/// Explains the answer to a request that may use the cache.
pub fn judged(out: &mut String, mut plan: Plan<'_>, request: &Head<'_>, answer: &AnswerHead) {
    let response = ResponseHead { status: answer.status, fields: &answer.headers };
    let again = plan.kept_back(request, &response);
    if !again.is_empty() {
        line(out, "asked", &format!("once more, with {}: Vary names it", again.join(", ")));
        plan.learned = again;
    }
    // Sealed with an empty key: the output does not contain the token.
    plan.seal(&TokenKey::new(Vec::new()), request);
    let judged = judge(&plan, request, &response, answer.now);
    let stored = judged.as_ref().map(|_| ()).map_err(|reason| *reason);
    match judged {
        Ok(judged) => kept(out, &plan, &judged),
        Err(reason) => {
            line(out, "stored", &format!("no: {}", reason.as_str()));
            line(out, "", remedy(reason));
        }
    }
    status(out, &plan, CacheStatus::Miss { reason: Miss::Uri, stored, collapsed: false });
}

/// Explains the answer to a request that bypasses the cache.
pub fn passed(out: &mut String, reason: Bypass) {
    line(out, "stored", &format!("no: the request does not use the cache ({})", reason.as_str()));
}

fn kept(out: &mut String, plan: &Plan<'_>, judged: &Judgement) {
    let entry = &judged.entry;
    line(out, "stored", &format!("yes, for {} ms", entry.useful_for().0));
    let (fresh, age) = (entry.windows.fresh.0, entry.age_at_receipt.0);
    let source = judged.source.as_str();
    let aged = if age == 0 { String::new() } else { format!(", {age} ms old when it came") };
    line(out, "fresh", &format!("{fresh} ms, by {source}{aged}"));
    if judged.source == Source::Nothing {
        line(out, "", "asked for again each time: the app gives a validator and no lifetime");
    }
    stale(out, entry);
    for (name, value) in &entry.vary {
        let value = value.as_deref().unwrap_or("none");
        line(out, "vary", &format!("{name}: only for requests with the same ({value})"));
    }
    if !judged.remove.is_empty() {
        line(out, "without", &judged.remove.join(", "));
    }
    if judged.tags != plan.tags {
        line(out, "tags", &judged.tags.join(" "));
    }
    if let Some(control) = &judged.client_cache_control {
        line(out, "client", &format!("Cache-Control: {control}"));
    }
}

fn stale(out: &mut String, entry: &Entry) {
    let windows = &entry.windows;
    let uses = [
        (windows.stale_while_revalidate, "while it is renewed"),
        (windows.stale_if_error, "when the app fails"),
        (windows.disconnected, "when the app can't be reached"),
    ];
    let uses = uses.iter().filter(|(length, _)| *length > Millis::ZERO);
    let uses = uses.map(|(Millis(ms), when)| format!("{ms} ms {when}"));
    let uses = uses.collect::<Vec<_>>().join(", ");
    line(out, "stale", if uses.is_empty() { "never" } else { &uses });
    if let Some(Millis(max)) = windows.max_staleness {
        line(out, "", &format!("never older than {max} ms, errors aside"));
    }
}

fn status(out: &mut String, plan: &Plan<'_>, status: CacheStatus) {
    line(out, "says", &format!("Cache-Status: {}", status.member(plan.tier)));
}

/// What must change so that the answer is stored.
fn remedy(reason: NotStored) -> &'static str {
    match reason {
        NotStored::Status => {
            "a written lifetime stores 200, 203, 301, 308, 404 and 410; `negative` adds statuses, \
             \"from-origin\" those that the app gives a lifetime"
        }
        NotStored::NoStore => "the app says so; `override = [\"no-store\"]` does not obey it",
        NotStored::Private => "the app says so; `override = [\"private\"]` does not obey it",
        NotStored::SetCookie => {
            "`strip_cookies = true` stores it without the cookie, `override = [\"set-cookie\"]` \
             gives everybody the same"
        }
        NotStored::Authorization => {
            "the request has Authorization: the app must say public, s-maxage or must-revalidate, \
             or the rule `headers = [\"Authorization\"]`"
        }
        NotStored::VaryStar => "Vary names * or more than 8 fields: the app must name what counts",
        NotStored::NoLifetime => {
            "the app gives neither a lifetime that is left nor a validator; write one in the route"
        }
        NotStored::EventStream => "a stream has no end",
        NotStored::ContentTypeMismatch => {
            "a page or data under the name of a file: cache deception, or a wrong Content-Type"
        }
        NotStored::TooLarge => "over the tier's limit for one answer",
        NotStored::NoRoom => "answers that are coming in fill half of `--cache-mib`: raise it",
        NotStored::Mended => {
            "the app gives its length twice, or beside Transfer-Encoding: chunked; one is enough"
        }
        NotStored::TooManyTags => "it could not be purged by all of its tags",
        NotStored::LeadsBack => {
            "a redirect to the request's own path may be another one for others"
        }
        NotStored::ShownTooLittle => "add the fields that the redirect depends on to `headers`",
        NotStored::Superseded => "rules changed, or it was purged, while it was fetched",
    }
}
