//! Cache policy, for any route, request, answer and time: it always decides, and never against what
//! a shared cache must not do.

use crate::message::{NOW, Request, Response};
use arbitrary::{Result, Unstructured};
use rules::cache::control::CacheControl;
use rules::cache::{Judgement, Lookup, NotStored, OriginFailure, Plan, conditional, fits, judge};
use rules::document::{Lifetime, Override};
use rules::{Millis, Rules, UnixMillis, edge, sidecar};
use std::sync::LazyLock;

/// One route each.
const CACHES: [&str; 12] = [
    r#"sidecar = "from-origin", edge = "from-origin""#,
    r#"sidecar = "1m", edge = "1m""#,
    r#"sidecar = "1m", edge = "1m", stale_while_revalidate = "10s", stale_if_error = "1h""#,
    r#"sidecar = "from-origin", stale_if_error = "0s", max_staleness = "30s""#,
    r#"sidecar = "1m", negative = { 404 = "5s", 503 = "1s" }, browser = "5s""#,
    r#"sidecar = "from-origin", override = ["private", "no-store", "no-cache", "must-revalidate"]"#,
    r#"sidecar = "from-origin", override = ["set-cookie"], ignore_cookies = true"#,
    r#"sidecar = "1m", strip_cookies = true, cookies = ["theme"]"#,
    r#"sidecar = "from-origin", edge = "1m", headers = ["accept-language"], query = ["a"]"#,
    r#"versioned = true, sidecar = "from-origin""#,
    r#"sidecar = "from-origin", targeted = [], unkeyed_headers = ["*"]"#,
    r#"sidecar = "1m", tags = ["t-{rest}"], query = ["a"], query_rest = "bypass""#,
];

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let route = |(at, cache): (usize, &&str)| {
        format!(
            "[[route]]\nname = \"r{at}\"\nmatch = {{ path = \"/{at}/{{*rest}}\" }}\ncache = {{ {cache} }}\n"
        )
    };
    let text: String = CACHES.iter().enumerate().map(route).collect();
    Rules::from_toml(&text).unwrap_or_else(|faults| panic!("{faults:?}"))
});

pub fn run(data: &[u8]) {
    // Bytes that run out end the drawing: `Unstructured` then gives zeros.
    let _ = drawn(&mut Unstructured::new(data));
}

fn drawn(drawn: &mut Unstructured<'_>) -> Result<()> {
    let route = drawn.choose_index(CACHES.len())?;
    let name = drawn.choose(&["", "a.css", "main.3f2a9c1b.css", "a?a=1&b=2", "a?a=2", "%61"])?;
    let request = Request::draw(drawn, format!("/{route}/{name}"))?;
    let response = Response::draw(drawn)?;
    let later = Millis(drawn.int_in_range(0..=200_000_000)?);
    let now = if drawn.ratio(1, 16)? { UnixMillis(drawn.arbitrary()?) } else { NOW };
    let head = request.head();
    if let sidecar::SidecarAction::Proceed(proceed) = sidecar::decide(&RULES, &head).action
        && let Ok(plan) = proceed.cache
    {
        judged(*plan, &request, &response, now, later);
    }
    if let edge::EdgeAction::Cache(plan) = edge::decide(&RULES, &head).action {
        judged(*plan, &request, &response, now, later);
    }
    Ok(())
}

fn judged(
    mut plan: Plan<'_>,
    request: &Request,
    response: &Response,
    now: UnixMillis,
    later: Millis,
) {
    let (head, answer) = (request.head(), response.head());
    plan.learned = plan.kept_back(&head, &answer);
    assert!(head.is_get_or_head(), "{request:?} may be answered from the cache");
    let judged = judge(&plan, &head, &answer, now);
    assert_eq!(judged, judge(&plan, &head, &answer, now), "judged twice");
    match judged {
        Ok(judged) => {
            is_allowed(&plan, &judged, request, response);
            is_used_in_time(&plan, judged, request, response, now, later);
        }
        // Said by the store, never by the policy.
        Err(why) => {
            assert!(!matches!(why, NotStored::TooLarge | NotStored::NoRoom | NotStored::Superseded))
        }
    }
}

/// What is stored may be, whatever the answer says besides.
fn is_allowed(plan: &Plan<'_>, judged: &Judgement, request: &Request, response: &Response) {
    let overrides = |which| plan.rule.overrides.contains(&which);
    let (control, _) = CacheControl::read_targeted(&response.fields, &plan.rule.targeted);
    assert!(!control.private || overrides(Override::Private), "private: {response:?}");
    let is_ignored = control.must_understand || overrides(Override::NoStore);
    assert!(!control.no_store || is_ignored, "no-store: {response:?}");
    assert!(!matches!(response.status, 100..=199 | 206 | 304), "{response:?}");
    let is_shared = control.public || control.must_revalidate || control.s_maxage.is_some();
    let is_authorized = request.fields.has("authorization");
    assert!(!is_authorized || is_shared, "authorization: {request:?} {response:?}");
    let is_removed = judged.remove.iter().any(|name| name == "set-cookie");
    let is_set = response.fields.has("set-cookie") && !overrides(Override::SetCookie);
    assert!(!is_set || is_removed, "set-cookie: {response:?}");
    let tags = &judged.tags;
    assert!(plan.tags.iter().all(|tag| tags.contains(tag)), "a tag is lost: {tags:?}");
    assert!(fits(&judged.entry, &request.head()), "not for who asked: {request:?} {response:?}");
    if let Lifetime::Fixed(fixed) = plan.lifetime
        && !plan.rule.negative.contains_key(&response.status)
    {
        assert!(judged.entry.windows.fresh <= fixed, "fresh for longer than the rule says");
    }
}

/// Fresh, then stale, then of no use, and never the other way.
fn is_used_in_time(
    plan: &Plan<'_>,
    judged: Judgement,
    request: &Request,
    response: &Response,
    now: UnixMillis,
    later: Millis,
) {
    let mut entry = judged.entry;
    let (windows, then) = (entry.windows, now + later);
    let (control, _) = CacheControl::read_targeted(&response.fields, &plan.rule.targeted);
    let is_strict = control.must_revalidate || control.proxy_revalidate;
    let failures = [OriginFailure::Status, OriginFailure::Unreachable];
    if let Lookup::Fresh { age, ttl } = entry.look_up(then) {
        assert!(matches!(entry.look_up(now), Lookup::Fresh { .. }), "fresh again: {windows:?}");
        assert!(Millis::from_secs(age + ttl) <= windows.fresh, "{age} + {ttl}: {windows:?}");
        assert!(
            windows.max_staleness.is_none_or(|max| Millis::from_secs(age) <= max),
            "{windows:?}"
        );
    } else if is_strict && !plan.rule.overrides.contains(&Override::MustRevalidate) {
        assert!(matches!(entry.look_up(then), Lookup::Expired { .. }), "{response:?}");
        if entry.age(then) >= windows.fresh {
            assert!(failures.iter().all(|failure| !entry.serves_on_error(*failure, then)));
        }
    }
    let end = now + entry.useful_for();
    if end < UnixMillis::MAX {
        assert!(matches!(entry.look_up(end), Lookup::Expired { .. }), "used after its end");
        assert!(failures.iter().all(|failure| !entry.serves_on_error(*failure, end)));
    }
    let length = later.0 % 12;
    if let conditional::Selected::Part { from, to } =
        conditional::select(&request.head(), &entry, 200, Some(length))
    {
        assert!(from <= to && to < length, "{from}-{to} of {length}");
    }
    entry.expire(then);
    assert!(!matches!(entry.look_up(then), Lookup::Fresh { .. }), "fresh after a soft purge");
}
