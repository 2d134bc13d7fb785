mod isolation;

use super::*;
use crate::cache::control::CacheControl;
use crate::head::{Head, NoFields, ResponseHead};
use crate::sidecar::{SidecarAction, decide};
use crate::{Millis, UnixMillis};
use proptest::prelude::*;

fn control(lines: &[&str]) -> CacheControl {
    let fields: Vec<(String, String)> =
        lines.iter().map(|line| ("cache-control".to_owned(), (*line).to_owned())).collect();
    CacheControl::read(&fields)
}

#[test]
fn directive_names_are_matched_in_any_case() {
    assert!(control(&["No-Store, max-age=60"]).no_store);
    assert!(control(&["Private"]).private);
}

#[test]
fn a_comma_inside_quotes_does_not_split() {
    let read = control(&["private=\"set-cookie, x\", max-age=5"]);
    assert_eq!(read.fields, ["set-cookie", "x"]);
    assert_eq!((read.private, read.max_age), (false, Some(5)));
}

#[test]
fn a_lifetime_that_is_no_number_is_zero_and_the_smaller_of_two_counts() {
    assert_eq!(control(&["max-age=1.5"]).max_age, Some(0));
    assert_eq!(control(&["max-age"]).max_age, Some(0));
    assert_eq!(control(&["max-age=60", "max-age=5"]).max_age, Some(5));
    assert_eq!(control(&["max-age=99999999999999999999"]).max_age, Some(1 << 31));
}

#[test]
fn an_answer_is_never_used_beyond_max_staleness_but_for_errors() {
    let windows = Windows {
        fresh: Millis(2_000),
        stale_while_revalidate: Millis(10_000),
        stale_if_error: Millis(60_000),
        disconnected: Millis(0),
        max_staleness: Some(Millis(5_000)),
    };
    let entry = Entry {
        received: UnixMillis(1_000_000),
        age_at_receipt: Millis(1_000),
        windows,
        etag: None,
        last_modified: None,
        vary: Vec::new(),
        is_shared: false,
        language: None,
    };
    assert_eq!(entry.look_up(UnixMillis(1_000_500)), Lookup::Fresh { age: 1, ttl: 0 });
    assert_eq!(
        entry.look_up(UnixMillis(1_003_000)),
        Lookup::StaleWhileRevalidate { age: 4, ttl: -2 }
    );
    assert_eq!(entry.look_up(UnixMillis(1_004_001)), Lookup::Expired { age: 5, ttl: -3 });
    assert!(entry.serves_on_error(OriginFailure::Status, UnixMillis(1_050_000)));
    assert!(!entry.serves_on_error(OriginFailure::Status, UnixMillis(1_070_000)));
}

#[test]
fn a_failure_that_is_stored_shields_the_origin_and_never_stands_in() {
    let rules = crate::Rules::from_toml(
        "[[route]]\nname = \"a\"\nmatch = { path = \"/a\" }\ncache = { sidecar = \"5s\", \
         stale_if_error = \"1m\", stale_while_revalidate = \"1m\", negative = { \"503\" = \"2s\" } }\n",
    );
    let rules = rules.expect("good rules");
    let head = Head { method: "GET", scheme: "http", host: "h", target: "/a", fields: &NoFields };
    let SidecarAction::Proceed(proceed) = decide(&rules, &head).action else { panic!("refused") };
    let plan = proceed.cache.expect("a plan");
    let failure = ResponseHead { status: 503, fields: &NoFields };
    let first =
        judge_fetched(&plan, &head, &failure, None, UnixMillis(1_000_000)).expect("stored").entry;
    assert_eq!(first.look_up(UnixMillis(1_001_000)), Lookup::Fresh { age: 1, ttl: 1 });
    assert!(matches!(first.look_up(UnixMillis(1_003_000)), Lookup::Expired { .. }));
    assert!(!first.serves_on_error(OriginFailure::Status, UnixMillis(1_003_000)));
    assert!(!first.serves_on_error(OriginFailure::Unreachable, UnixMillis(1_003_000)));
    // So the next failure takes its place, for another lifetime.
    assert!(judge_fetched(&plan, &head, &failure, Some(&first), UnixMillis(1_003_000)).is_ok());
}

const RULES: &str = r#"
    [[route]]
    name  = "prices"
    match = { path = "/p/{id}" }
    cache = { sidecar = "10s", query = ["a", "b"], headers = ["accept-language"] }
"#;

/// The key and the fetched target of a request, as one would compare them.
fn keyed(target: &str, fields: &[(String, String)]) -> Option<(String, String)> {
    let rules = crate::Rules::from_toml(RULES).expect("good rules");
    let fields = fields.to_vec();
    let head = Head { method: "GET", scheme: "http", host: "h", target, fields: &fields };
    match decide(&rules, &head).action {
        SidecarAction::Proceed(proceed) => {
            proceed.cache.ok().map(|plan| (plan.key.clone(), plan.target().to_owned()))
        }
        _ => None,
    }
}

proptest! {
    #[test]
    fn requests_share_a_key_only_if_the_origin_would_see_the_same(
        left in "/p/[a-c%2;]{1,3}(\\?[abc=&12]{0,9})?", right in "/p/[a-c%2;]{1,3}(\\?[abc=&12]{0,9})?",
        left_language in "[ab]{0,2}", right_language in "[ab]{0,2}",
    ) {
        let language = |value: &str| vec![("accept-language".to_owned(), value.to_owned())];
        let left = keyed(&left, &language(&left_language));
        let right = keyed(&right, &language(&right_language));
        if let (Some(left), Some(right)) = (left, right)
            && left.0 == right.0 {
            prop_assert_eq!(left.1, right.1);
            prop_assert_eq!(left_language, right_language);
        }
    }

    #[test]
    fn no_response_head_panics(
        status in 100_u16..600, now in any::<u64>(),
        fields in proptest::collection::vec(
            ("(cache-control|age|date|expires|vary|last-modified|set-cookie|etag)", "\\PC{0,40}"), 0..6),
    ) {
        let rules = crate::Rules::from_toml(&RULES.replace("\"10s\"", "\"from-origin\"")).expect("good rules");
        let head = Head { method: "GET", scheme: "http", host: "h", target: "/p/1", fields: &NoFields };
        let SidecarAction::Proceed(proceed) = decide(&rules, &head).action else {
            return Err(TestCaseError::fail("refused"));
        };
        let plan = proceed.cache.map_err(|_| TestCaseError::fail("bypassed"))?;
        if let Ok(judged) = judge(&plan, &head, &ResponseHead { status, fields: &fields }, UnixMillis(now)) {
            judged.entry.look_up(UnixMillis(now.wrapping_add(1000)));
            judged.entry.useful_for();
            conditional::select(&head, &judged.entry, status, Some(10));
        }
    }
}

#[test]
fn urls_that_a_person_takes_for_one_are_purged_as_one() {
    let same = |left: &str, right: &str| as_meant(left) == as_meant(right);
    for (left, right) in [
        ("h:80/a", "h/a"),
        ("h/a?q=a+b", "h:443/a?q=a%20b"),
        ("h/a?q=%31&r", "h/a?q=1&r="),
        ("h/a?&q=1&", "h/a?q=1"),
        ("h/a?q=caf%C3%A9", "h/a?q=caf%c3%a9"),
    ] {
        assert!(same(left, right), "{left} {right}");
    }
    for (left, right) in [
        ("h:8080/a", "h/a"),
        ("h/a?q=1&r=2", "h/a?r=2&q=1"),
        ("h/a?q=1%26r=2", "h/a?q=1&r=2"),
        ("h/a?q%3Dr=2", "h/a?q=r=2"),
        ("h/a?q=%2531", "h/a?q=1"),
        ("h/a?q=%2B", "h/a?q=+"),
        ("h/a?q", "h/a"),
    ] {
        assert!(!same(left, right), "{left} {right}");
    }
    assert!(matches!(as_meant("h/a?q=1&r=2"), std::borrow::Cow::Borrowed(_)));
}

#[test]
fn a_plan_knows_its_url_as_a_person_means_it() {
    let rules = crate::Rules::from_toml(RULES).expect("good rules");
    for host in ["h", "h:80", "h:443", "h:8080", "[::1]:80"] {
        for target in ["/p/1", "/p/1?a=1", "/p/1?a", "/p/1?a=%31", "/p/1?a=1&b=2", "/p/1?"] {
            let head = Head { method: "GET", scheme: "http", host, target, fields: &NoFields };
            let SidecarAction::Proceed(proceed) = decide(&rules, &head).action else {
                panic!("refused")
            };
            let plan = proceed.cache.unwrap_or_else(|why| panic!("{}", why.as_str()));
            assert_eq!(plan.url_as_meant(), as_meant(&plan.url), "{host}{target}");
        }
    }
}
