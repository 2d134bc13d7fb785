//! `spillway check` and `spillway explain`: show what the rules decide, without running anything.

use super::explain::lines::{header, line};
use answer::AnswerHead;
use rules::cache::{Bypass, Plan};
use rules::document::{Auth, Document, Lifetime, Mode, Versioned, When};
use rules::offload::{OffloadDecision, Wait};
use rules::shard::{OwnedRange, Resolved, Step};
use rules::{Head, Millis, Problem, Rules, edge, path, sidecar};
use std::fmt::Write;

pub mod answer;
pub mod jobs;
mod lines;
pub mod live_map;

/// A request to explain.
pub struct Request {
    pub method: String,
    pub scheme: String,
    pub host: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

impl Request {
    /// A request from arguments as for curl. A URL without a host gets `localhost`.
    ///
    /// # Errors
    /// Names the header that is not `Name: value`.
    pub fn new(
        method: &str,
        url: &str,
        headers: &[String],
        body: Option<String>,
    ) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (host, target) = match rest.find('/') {
            Some(0) => ("localhost", rest.to_owned()),
            Some(at) => (&rest[..at], rest[at..].to_owned()),
            None => (rest, "/".to_owned()),
        };
        Ok(Self {
            method: method.to_ascii_uppercase(),
            scheme: scheme.to_owned(),
            host: host.to_ascii_lowercase(),
            target,
            headers: headers.iter().map(|text| header(text)).collect::<Result<_, String>>()?,
            body,
        })
    }

    fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            scheme: &self.scheme,
            host: &self.host,
            target: &self.target,
            fields: &self.headers,
        }
    }
}

/// Explains what edge and sidecar would do with the request and, if given, with the application's
/// answer.
pub fn explain(rules: &Rules, request: &Request, answer: Option<&AnswerHead>) -> String {
    let mut out = String::new();
    // Writing to a String can't fail, neither here nor below.
    let _ =
        writeln!(out, "{} {}://{}{}", request.method, request.scheme, request.host, request.target);
    routes(&mut out, rules, request);
    let _ = writeln!(out, "\nedge");
    edge(&mut out, rules, request, answer);
    let _ = writeln!(out, "\nsidecar");
    sidecar(&mut out, rules, request, answer);
    let _ = writeln!(out, "\nconfig_hash  {}", rules.hash);
    out
}

fn routes(out: &mut String, rules: &Rules, request: &Request) {
    let Ok(target) = path::normalize(&request.target) else { return };
    let mut losers = Vec::new();
    let found = rules.walk(&request.head(), &target, &mut |route, miss| {
        losers.push(format!("{} ({})", route.name, miss.as_str()));
    });
    match found {
        Some(route) => line(out, "route", &format!("{}  {}", route.name, route.matches.path)),
        None => line(out, "route", "none"),
    }
    if !losers.is_empty() {
        line(out, "not", &losers.join(", "));
    }
}

fn edge(out: &mut String, rules: &Rules, request: &Request, answer: Option<&AnswerHead>) {
    let decision = edge::decide(rules, &request.head());
    match decision.action {
        edge::EdgeAction::Redirect { location } => {
            line(out, "redirect", &format!("308 {location}"))
        }
        edge::EdgeAction::Refuse(problem) => refuse(out, problem),
        edge::EdgeAction::Pass { target, why } => {
            line(out, "cache", &format!("not used: {}", why.as_str()));
            line(out, "fetch", &target);
            if answer.is_some() {
                answer::passed(out, why);
            }
        }
        edge::EdgeAction::Cache(plan) => {
            cached(out, &plan);
            line(out, "fetch", plan.target());
            if let Some(answer) = answer {
                answer::judged(out, *plan, &request.head(), answer);
            }
        }
    }
}

fn sidecar(out: &mut String, rules: &Rules, request: &Request, answer: Option<&AnswerHead>) {
    let decision = sidecar::decide(rules, &request.head());
    if rules.document.requires_signature(decision.route) {
        line(out, "signed", "by the edge, else refused");
    }
    for (rule, outcome) in &decision.observed {
        line(out, "observe", &format!("{rule} would: {outcome}"));
    }
    let proceed = match decision.action {
        sidecar::SidecarAction::Refuse(problem) => return refuse(out, problem),
        sidecar::SidecarAction::Reserved { path } => return line(out, "reserved", &path),
        sidecar::SidecarAction::Preflight { fields } => {
            return fields.iter().for_each(|(name, value)| line(out, name, value));
        }
        sidecar::SidecarAction::Proceed(proceed) => proceed,
    };
    match (&proceed.shard, &request.body) {
        (Step::None, _) => line(out, "shard", "none"),
        (Step::Resolved(resolved), _) => shard(out, resolved),
        (Step::NeedsBody { limit }, None) => {
            line(
                out,
                "shard",
                &format!("from the first {limit} bytes of the body; give one with --body"),
            );
        }
        (Step::NeedsBody { .. }, Some(body)) => {
            match rules.shard_in_body(decision.route, body.as_bytes()) {
                Ok(resolved) => shard(out, &resolved),
                Err(problem) => return refuse(out, problem),
            }
        }
    }
    match proceed.offload {
        OffloadDecision::Inline(why) => line(out, "offload", &format!("no: {}", why.as_str())),
        OffloadDecision::Enqueue { reason, wait } => {
            let wait = match wait {
                Wait::No => String::new(),
                Wait::Asked(wait) => format!(", after waiting up to {} s", wait.as_secs()),
                Wait::ByRule(Millis(wait)) => format!(", after waiting up to {wait} ms"),
            };
            line(out, "offload", &format!("queued ({}), 202{wait}", reason.as_str()));
        }
        OffloadDecision::Adopt { reason, after, .. } => {
            line(
                out,
                "offload",
                &format!(
                    "run at once; 202 if no answer after {} ms ({})",
                    after.0,
                    reason.as_str()
                ),
            );
        }
    }
    match &proceed.cache {
        Ok(plan) => cached(out, plan),
        Err(Bypass::NoRule) => line(out, "cache", "no rule"),
        Err(why) => line(out, "cache", &format!("not used: {}", why.as_str())),
    }
    line(out, "fetch", proceed.target());
    match (proceed.cache, answer) {
        (Ok(plan), Some(answer)) => answer::judged(out, *plan, &request.head(), answer),
        (Err(why), Some(_)) => answer::passed(out, why),
        (_, None) => {}
    }
}

fn refuse(out: &mut String, problem: Problem) {
    line(out, "refused", &format!("{} {}: {}", problem.status(), problem.name(), problem.title()));
    line(out, "", problem.remedy());
    if problem == Problem::MapUnknown {
        line(out, "", "To explain by a live map, give it with --map FILE|URL.");
    }
}

fn shard(out: &mut String, resolved: &Resolved) {
    let to = match &resolved.range.upstream {
        Some(upstream) => format!("forward to {upstream} (unless served by this pod)"),
        None => "annotate for the local app".to_owned(),
    };
    let Resolved { keys, range, .. } = resolved;
    let OwnedRange { map, epoch, text, shard, since, state, .. } = &**range;
    let state = state.as_str();
    line(
        out,
        "shard",
        &format!(
            "{shard}  key {keys} of {map} in {text} ({state}, owned since epoch {since}), epoch {epoch}: {to}"
        ),
    );
}

fn cached(out: &mut String, plan: &Plan<'_>) {
    let lifetime = match plan.lifetime {
        Lifetime::FromOrigin => "as the origin says".to_owned(),
        Lifetime::Fixed(Millis(ms)) => format!("{ms} ms"),
    };
    let kind = if plan.is_versioned { ", versioned: immutable" } else { "" };
    line(out, "cache", &format!("lifetime {lifetime}{kind}"));
    if plan.has_token() {
        line(out, "token", "the key holds a keyed hash of Authorization, which is not shown");
    }
    if !plan.is_versioned {
        unversioned(out, plan.rule.versioned);
    }
    line(out, "key", &plan.key);
    if !plan.tags.is_empty() {
        line(out, "tags", &plan.tags.join(" "));
    }
}

/// Explains why a name on a route with `versioned` does not count as immutable, and what to do
/// about it.
fn unversioned(out: &mut String, rule: Versioned) {
    let remedy = match rule {
        Versioned::No => return,
        Versioned::ByName => {
            "Name it main.v123.css or main-3f2a9c1b.css; where a build tool hashes all of the folder, write versioned = \"all\"."
        }
        Versioned::All => {
            "It is made of words alone: such names stay as they are when their contents change."
        }
    };
    line(out, "", "no version in this name: it may change, so browsers do not keep it for a year");
    line(out, "", remedy);
}

/// What an `Idempotency-Key` costs on the routes where requests may be executed at once.
pub fn keys(document: &Document) -> Vec<String> {
    let with_keys = document.routes.iter().filter(|route| {
        route.offload.as_ref().is_some_and(|rule| {
            rule.mode != Mode::Off && rule.when != When::Always && rule.auth != Auth::Open
        })
    });
    let cost = "an Idempotency-Key costs a request one conditional write to the result store before \
                it is executed, two writes and a read after its answer";
    with_keys.map(|route| format!("{}: {cost}", route.name)).collect()
}

/// The worst staleness that a client may see on each cached route, unless the origin fails.
pub fn staleness(document: &Document) -> Vec<String> {
    let cached = document.routes.iter().filter_map(|route| Some((route, route.cache.as_ref()?)));
    cached
        .map(|(route, cache)| {
            let window = |lifetime: Option<Lifetime>| match lifetime {
                Some(Lifetime::Fixed(fixed)) => {
                    Some(fixed + cache.stale_while_revalidate.unwrap_or_default())
                }
                Some(Lifetime::FromOrigin) => None,
                None => Some(Millis::ZERO),
            };
            let sum =
                window(cache.edge).zip(window(cache.sidecar)).map(|(edge, sidecar)| edge + sidecar);
            let worst = match (sum, cache.max_staleness) {
                _ if cache.versioned != Versioned::No => {
                    "none for versioned names, others as the origin says".to_owned()
                }
                (Some(sum), Some(max)) => format!("{} ms", sum.min(max).0),
                (None, Some(Millis(max))) => format!("{max} ms"),
                (Some(sum), None) => format!("{} ms", sum.0),
                (None, None) => "as the origin says".to_owned(),
            };
            format!("{}: worst staleness {worst}", route.name)
        })
        .collect()
}
