//! The promise of a shared cache, as a property: two requests share a stored answer only if the origin
//! saw the same of both.

use crate::cache::{Cookies, Plan, Tier, TokenKey, fits, judge, secondary};
use crate::head::{Head, ResponseHead};
use crate::sidecar::{SidecarAction, decide};
use crate::time::UnixMillis;
use crate::{NoFields, Rules, edge};
use proptest::prelude::*;

type Pairs = Vec<(String, String)>;

/// One request of a client.
#[derive(Debug, Clone)]
struct Asked {
    target: String,
    host: String,
    fields: Pairs,
}

impl Asked {
    fn head(&self) -> Head<'_> {
        Head {
            method: "GET",
            scheme: "http",
            host: &self.host,
            target: &self.target,
            fields: &self.fields,
        }
    }
}

/// What the origin sees of a request, in the order in which nothing depends on it.
fn seen(plan: &Plan<'_>, asked: &Asked) -> (String, String, Pairs) {
    let head = asked.head();
    let mut fields: Pairs = asked
        .fields
        .iter()
        .filter(|(name, _)| name != "cookie" && plan.sends(name, &head))
        .cloned()
        .collect();
    match &plan.cookies {
        Cookies::Only(Some(cookies)) => {
            fields.push(("cookie".into(), String::from_utf8_lossy(cookies).into_owned()));
        }
        Cookies::Only(None) | Cookies::Removed => {}
        Cookies::Untouched => {
            let own = asked.fields.iter().filter(|(name, _)| name == "cookie");
            fields.extend(own.cloned());
        }
    }
    // Said to be the same by the rules of HTTP: order and case of preferences, spaces at commas.
    for (name, value) in &mut fields {
        let one = vec![(name.clone(), value.clone())];
        let head = Head { fields: &one, ..asked.head() };
        *value = secondary([name.as_str()].into_iter(), &head);
    }
    fields.sort();
    // A believed proxy's word of the host is told to the origin, too.
    let hosts = format!("{} {}", asked.host, plan.host());
    (hosts, plan.target().to_owned(), fields)
}

fn planned<'r>(rules: &'r Rules, asked: &Asked, tier: Tier) -> Option<Box<Plan<'r>>> {
    let head = asked.head();
    let mut plan = match tier {
        Tier::Sidecar => match decide(rules, &head).action {
            SidecarAction::Proceed(proceed) => proceed.cache.ok(),
            _ => None,
        },
        Tier::Edge => match edge::decide(rules, &head).action {
            edge::EdgeAction::Cache(plan) => Some(plan),
            _ => None,
        },
    }?;
    plan.seal(&TokenKey::new(vec![1; 32]), &head);
    Some(plan)
}

fn rules() -> impl Strategy<Value = String> {
    let headers =
        prop_oneof![Just(""), Just("x-a"), Just("accept-language"), Just("authorization")];
    let cookies = prop_oneof![
        Just(""),
        Just(", ignore_cookies = true"),
        Just(", cookies = [\"theme\"]"),
        Just(", bypass_cookies = [\"sid\"]"),
    ];
    let query = prop_oneof![
        Just(""),
        Just(", query = [\"a\"]"),
        Just(", query = [\"a\", \"b\"], query_rest = \"bypass\""),
    ];
    let shard = prop_oneof![
        Just(String::new()),
        Just("shard = { map = \"m\", from = [\"header:x-key\", \"query:a\"] }".to_owned()),
        Just("shard = { map = \"m\", from = [\"cookie:key\", \"header:x-key\"] }".to_owned()),
    ];
    (headers, cookies, query, shard).prop_map(|(headers, cookies, query, shard)| {
        let headers = if headers.is_empty() { String::new() } else { format!("\"{headers}\"") };
        format!(
            "[[route]]\nname = \"r\"\nmatch = {{ path = \"/{{*rest}}\" }}\n\
             cache = {{ sidecar = \"1m\", edge = \"1m\", headers = [{headers}]{cookies}{query} }}\n{shard}\n\
             [shard_map.m]\nkey_type = \"int\"\nuntil = 9\n\
             ranges = [{{ from = 1, shard = \"one\" }}, {{ from = 2, shard = \"two\" }}]\n\
             shards = {{ one = {{}}, two = {{}} }}\n"
        )
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let target = "/[ab](\\?(a=[123]&?|b=[12]&?|c=1&?){0,3})?";
    let field = prop_oneof![
        ("x-a", "[12]"),
        ("x-b", "[12]"),
        ("x-key", "[123]"),
        ("accept-language", "(de|en|de, en|EN)(;q=0.5)?"),
        ("accept-encoding", "(gzip|br, gzip|gzip, BR)"),
        ("user-agent", "[AB]"),
        ("x-forwarded-host", "(evil|shop, evil|shop|no host)"),
        ("x-original-url", "/[ab]"),
        ("authorization", "[12]"),
        ("cookie", "(theme|key|sid)=[123](; sid=[12])?"),
    ];
    let field = field.prop_map(|(name, value)| (name.to_owned(), value));
    let fields = proptest::collection::vec(field, 0..5);
    (target, "[hi]", fields).prop_map(|(target, host, mut fields)| {
        fields.sort();
        fields.dedup_by(|left, right| left.0 == right.0);
        Asked { target, host, fields }
    })
}

fn response() -> impl Strategy<Value = Pairs> {
    let vary = prop_oneof![
        Just(""),
        Just("x-b"),
        Just("accept-language"),
        Just("Accept-Encoding, X-B"),
        Just("user-agent"),
        Just("cookie"),
        Just("authorization"),
    ];
    let language = prop_oneof![Just(""), Just("de")];
    (vary, language).prop_map(|(vary, language)| {
        let all = [("vary", vary), ("content-language", language)];
        let there = all.into_iter().filter(|(_, value)| !value.is_empty());
        there.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    })
}

/// `fields` may be all that is left of the difference: the answer's one language, which both prefer.
fn is_declared(response: &Pairs, name: &str) -> bool {
    name == "accept-language" && response.iter().any(|(name, _)| name == "content-language")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn two_requests_share_an_answer_only_if_the_origin_saw_the_same_of_both(
        rules in rules(), first in asked(), second in asked(), response in response(),
        is_edge in any::<bool>(),
    ) {
        let rules = Rules::from_toml(&rules).map_err(|why| TestCaseError::fail(format!("{why:?}")))?;
        let tier = if is_edge { Tier::Edge } else { Tier::Sidecar };
        let (Some(mut one), Some(mut other)) =
            (planned(&rules, &first, tier), planned(&rules, &second, tier)) else { return Ok(()) };
        let answer = ResponseHead { status: 200, fields: &response };
        one.learned = one.kept_back(&first.head(), &answer);
        let Ok(judged) = judge(&one, &first.head(), &answer, UnixMillis(0)) else { return Ok(()) };
        if one.key != other.key || !fits(&judged.entry, &second.head()) {
            return Ok(());
        }
        // The second request would be sent with what is known by then.
        other.learned.clone_from(&one.learned);
        let (mut one, mut other) = (seen(&one, &first), seen(&other, &second));
        for fields in [&mut one.2, &mut other.2] {
            fields.retain(|(name, _)| !is_declared(&response, name));
        }
        prop_assert_eq!(one, other);
    }
}

#[test]
fn the_property_is_about_something() {
    let rules =
        "[[route]]\nname = \"r\"\nmatch = { path = \"/{*rest}\" }\ncache = { sidecar = \"1m\" }";
    let rules = Rules::from_toml(rules).expect("good rules");
    let asked = |value: &str| Asked {
        target: "/a".into(),
        host: "h".into(),
        fields: vec![("x-b".into(), value.into())],
    };
    let (first, second) = (asked("1"), asked("2"));
    let plan = planned(&rules, &first, Tier::Sidecar).expect("cacheable");
    let vary = vec![("vary".to_owned(), "x-b".to_owned())];
    let answer = ResponseHead { status: 200, fields: &vary };
    assert!(!plan.sends("x-b", &first.head()));
    assert_eq!(plan.kept_back(&first.head(), &answer), ["x-b"]);
    let judged = judge(&plan, &first.head(), &answer, UnixMillis(0)).expect("storable");
    assert!(!fits(&judged.entry, &second.head()));
    let silent = ResponseHead { status: 200, fields: &NoFields };
    let judged = judge(&plan, &first.head(), &silent, UnixMillis(0)).expect("storable");
    assert!(fits(&judged.entry, &second.head()), "what the origin did not see keeps nobody apart");
}
