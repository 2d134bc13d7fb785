//! Decisions as flat maps of JSON values, which a case can name parts of.

use crate::{Case, Message, Response, live};
use rules::cache::status::Miss;
use rules::cache::{
    self, AtHand, CacheStatus, Cookies, Fetch, Judgement, KeepReason, NotStored, OldEntry, Plan,
    RemoveReason, Reply,
};
use rules::hygiene::named_by_connection;
use rules::shard::Step;
use rules::{Head, Millis, ResponseHead, Rules, UnixMillis, edge, offload, sidecar};
use serde_json::{Map, Value, json};

pub(crate) type Facts = Map<String, Value>;

/// A tier's decision: its facts, and the plan when the answer may be stored.
pub(crate) type Observe = for<'r> fn(&'r Rules, &Head<'_>) -> (Facts, Option<Box<Plan<'r>>>);

/// The clock of all cases: 2027-01-15T08:00:00Z, in milliseconds.
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

pub(crate) fn observe(rules: &Rules, case: &Case, decide: Observe) -> Result<Facts, String> {
    let head = head(&case.request)?;
    let known = live::known(rules, &case.request.live)?;
    let (mut facts, plan) = decide(&known, &head);
    if let Some(plan) = &plan {
        planned(plan, &mut facts);
        fetched(plan, &head, case, &mut facts);
    }
    facts.insert("invalidates".to_owned(), json!("nothing"));
    if let Some(response) = case.response.as_ref().filter(|_| !head.is_safe()) {
        let answer = ResponseHead { status: response.status, fields: &response.headers };
        let visited = rules::forwarded::host(head.fields);
        let visited = visited.as_deref().unwrap_or(head.host);
        let targets = cache::invalidated(&head, visited, &answer);
        facts.insert("invalidates".to_owned(), json!(targets));
    }
    if let Some(other) = &case.other {
        let known = live::known(rules, &other.live)?;
        let (_, theirs) = decide(&known, &self::head(other)?);
        let same = plan.zip(theirs).map(|(own, theirs)| own.key == theirs.key);
        facts.insert("same_key".to_owned(), json!(same));
    }
    Ok(facts)
}

fn head(message: &Message) -> Result<Head<'_>, String> {
    let (scheme, rest) = message.url.split_once("://").ok_or("the URL has no scheme")?;
    let (host, target) = rest.split_at(rest.find(['/', '?', '*']).unwrap_or(rest.len()));
    Ok(Head { method: &message.method, scheme, host, target, fields: &message.headers })
}

pub(crate) fn edge<'r>(rules: &'r Rules, head: &Head<'_>) -> (Facts, Option<Box<Plan<'r>>>) {
    let decision = edge::decide(rules, head);
    let mut facts = facts([("route", json!(decision.route_name()))]);
    let mut add = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    let plan = match decision.action {
        edge::EdgeAction::Redirect { location } => {
            add("action", json!("redirect"));
            add("location", json!(location));
            None
        }
        edge::EdgeAction::Refuse(problem) => {
            add("action", json!("refuse"));
            add("problem", json!(problem.name()));
            None
        }
        edge::EdgeAction::Pass { target, why } => {
            add("action", json!("pass"));
            add("why", json!(why.as_str()));
            add("target", json!(target));
            None
        }
        edge::EdgeAction::Cache(plan) => {
            add("action", json!("cache"));
            Some(plan)
        }
    };
    (facts, plan)
}

pub(crate) fn sidecar<'r>(rules: &'r Rules, head: &Head<'_>) -> (Facts, Option<Box<Plan<'r>>>) {
    let decision = sidecar::decide(rules, head);
    let mut facts =
        facts([("route", json!(decision.route_name())), ("observed", json!(decision.observed))]);
    let mut add = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    let plan = match decision.action {
        sidecar::SidecarAction::Refuse(problem) => {
            add("action", json!("refuse"));
            add("problem", json!(problem.name()));
            None
        }
        sidecar::SidecarAction::Reserved { path } => {
            add("action", json!("reserved"));
            add("path", json!(path));
            None
        }
        sidecar::SidecarAction::Preflight { fields } => {
            add("action", json!("preflight"));
            add("fields", json!(fields));
            None
        }
        sidecar::SidecarAction::Proceed(proceed) => {
            add("action", json!("proceed"));
            add("target", json!(proceed.target()));
            add("offload", json!(offloaded(proceed.offload)));
            add("shard", shard(&proceed.shard, |resolved| resolved.shard().to_string()));
            add("key", shard(&proceed.shard, |resolved| resolved.keys.to_string()));
            add("cache", json!(proceed.cache.as_ref().map_or_else(|why| why.as_str(), |_| "use")));
            proceed.cache.ok()
        }
    };
    (facts, plan)
}

fn facts<const N: usize>(known: [(&str, Value); N]) -> Facts {
    known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn shard(step: &Step, of: impl Fn(&rules::shard::Resolved) -> String) -> Value {
    match step {
        Step::None => Value::Null,
        Step::Resolved(resolved) => json!(of(resolved)),
        Step::NeedsBody { .. } => json!("needs-body"),
    }
}

/// `inline no-rule`, `enqueue always`, `enqueue always wait 5 s`, `adopt slow after 2000 ms`.
fn offloaded(decision: offload::OffloadDecision) -> String {
    match decision {
        offload::OffloadDecision::Inline(why) => format!("inline {}", why.as_str()),
        offload::OffloadDecision::Enqueue { reason, wait: offload::Wait::No } => {
            format!("enqueue {}", reason.as_str())
        }
        offload::OffloadDecision::Enqueue { reason, wait: offload::Wait::Asked(wait) } => {
            format!("enqueue {} wait {} s", reason.as_str(), wait.as_secs())
        }
        offload::OffloadDecision::Enqueue { reason, wait: offload::Wait::ByRule(wait) } => {
            format!("enqueue {} wait {} ms", reason.as_str(), wait.0)
        }
        offload::OffloadDecision::Adopt { reason, after, .. } => {
            format!("adopt {} after {} ms", reason.as_str(), after.0)
        }
    }
}

fn planned(plan: &Plan<'_>, facts: &mut Facts) {
    let cookies = match &plan.cookies {
        Cookies::Untouched => "untouched".to_owned(),
        Cookies::Removed => "removed".to_owned(),
        Cookies::Only(only) => {
            format!("only {}", String::from_utf8_lossy(only.as_deref().unwrap_or(b"none")))
        }
    };
    facts.insert("target".to_owned(), json!(plan.target()));
    facts.insert("versioned".to_owned(), json!(plan.is_versioned));
    facts.insert("cookies".to_owned(), json!(cookies));
    facts.insert("tags".to_owned(), json!(plan.tags));
}

/// What is at hand for the request, what the origin's answer is to the cache, and what follows from both.
fn fetched(plan: &Plan<'_>, head: &Head<'_>, case: &Case, facts: &mut Facts) {
    let judge_at = |response: &Response, now: UnixMillis| {
        let answer = ResponseHead { status: response.status, fields: &response.headers };
        cache::judge(plan, head, &answer, now)
    };
    let entry = case.stored.as_ref();
    let entry = entry.and_then(|stored| judge_at(stored, NOW - Millis(case.stored_ms_ago)).ok());
    let entry = entry.map(|judged| judged.entry);
    let lookup = entry.as_ref().map(|entry| entry.look_up(NOW));
    let member = |status: CacheStatus| status.member(plan.tier);
    let at_hand = match plan.at_hand(lookup) {
        AtHand::Serve(status) => member(status),
        AtHand::ServeAndRenew(status) => format!("{}; renewed", member(status)),
        AtHand::OnlyIfCached => "only-if-cached".to_owned(),
        AtHand::Fetch => "nothing".to_owned(),
    };
    facts.insert("at_hand".to_owned(), json!(at_hand));
    let own = plan.own_fields(entry.as_ref());
    let own = own.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
    facts.insert("own_fields".to_owned(), json!(own.collect::<Vec<_>>()));
    let names = case.request.headers.iter().map(|(name, _)| name.as_str());
    facts.insert(
        "sends".to_owned(),
        json!(names.filter(|name| plan.sends(name, head)).collect::<Vec<_>>()),
    );
    let fetch = match (&case.response, &case.stored) {
        (Some(response), _) if case.is_whole => {
            Fetch::Answered { status: response.status, stored: Err(NotStored::ShownTooLittle) }
        }
        (Some(response), Some(stored)) if response.status == 304 => {
            Fetch::Confirmed(confirmed(plan, head, (stored, response), facts))
        }
        (Some(response), _) => {
            let answer = ResponseHead { status: response.status, fields: &response.headers };
            let judged = cache::judge_fetched(plan, head, &answer, entry.as_ref(), NOW);
            let stored = add_judged(judged, response, facts);
            Fetch::Answered { status: response.status, stored }
        }
        (None, _) if case.is_unreachable => Fetch::Unanswered,
        (None, _) => return,
    };
    let miss = if entry.is_some() { Miss::Stale } else { Miss::Uri };
    let reply = match fetch.reply(head, (entry.as_ref(), miss), NOW) {
        Reply::Stale(status) => format!("stale {}", member(status)),
        Reply::Fetched(status) => format!("fetched {}", member(status)),
        Reply::OwnRange(status) => format!("own-range {}", member(status)),
        Reply::Problem => "problem".to_owned(),
    };
    facts.insert("reply".to_owned(), json!(reply));
    facts.insert("old_entry".to_owned(), json!(by_name(fetch.old_entry(plan))));
}

fn by_name(decided: OldEntry) -> &'static str {
    match decided {
        OldEntry::Kept(KeepReason::OriginFailed) => "kept origin-failed",
        OldEntry::Kept(KeepReason::ForOneClient) => "kept for-one-client",
        OldEntry::Kept(KeepReason::AskedTooMuch) => "kept asked-too-much",
        OldEntry::Kept(KeepReason::NotTaken) => "kept not-taken",
        OldEntry::Replaced => "replaced",
        OldEntry::Removed(RemoveReason::Outdated) => "removed outdated",
        OldEntry::Removed(RemoveReason::TokenRefused) => "removed token-refused",
    }
}

/// The fields of a stored answer after a 304, sorted, and what becomes of them.
fn confirmed(
    plan: &Plan<'_>,
    head: &Head<'_>,
    (stored, not_modified): (&Response, &Response),
    facts: &mut Facts,
) -> Result<(), NotStored> {
    let lines = |response: &Response| response.headers.clone();
    let cache::Confirmed { fields, cookies } =
        cache::confirmed(plan, lines(stored), lines(not_modified));
    let mut shown: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    shown.sort();
    facts.insert("fields".to_owned(), json!(shown));
    facts.insert("cookies".to_owned(), json!(cookies));
    let renewed = Response { status: stored.status, headers: fields };
    let answer = ResponseHead { status: renewed.status, fields: &renewed.headers };
    add_judged(cache::judge(plan, head, &answer, NOW), &renewed, facts)
}

/// Whether an answer may be stored, and how.
fn add_judged(
    judged: Result<Judgement, NotStored>,
    response: &Response,
    facts: &mut Facts,
) -> Result<(), NotStored> {
    let mut add = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    match judged {
        Ok(judged) => {
            add("stored", json!("yes"));
            add("fresh_ms", json!(judged.entry.windows.fresh));
            add("age_ms", json!(judged.entry.age_at_receipt));
            add("useful_ms", json!(judged.entry.useful_for()));
            add("removed", json!(judged.remove));
            let edits = judged.edits.iter().map(|edit| match edit.value() {
                Some(value) => format!("{}: {value}", edit.name()),
                None => edit.name().to_owned(),
            });
            add("edits", json!(edits.collect::<Vec<_>>()));
            add(
                "client_cache_control",
                json!(judged.client_cache_control.as_deref().unwrap_or("the origin's")),
            );
            let vary: Vec<&str> = judged.entry.vary.iter().map(|(name, _)| name.as_str()).collect();
            add("vary", json!(vary));
            let named = named_by_connection(&response.headers);
            let names = response.headers.iter().map(|(name, _)| name.as_str());
            add("kept", json!(names.filter(|name| judged.keeps(name, &named)).collect::<Vec<_>>()));
            Ok(())
        }
        Err(why) => {
            add("stored", json!(why.as_str()));
            Err(why)
        }
    }
}
