//! Which pages of other origins may read an answer: the CORS protocol of the Fetch standard
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use crate::document::{Cors, Route};
use crate::head::{Edit, Fields, Head, first, joined};

/// Fields of ours that a page may read, besides those that the standard always exposes.
const EXPOSED: &str = "Location, Retry-After, Preference-Applied, X-Job-Id, Idempotency-Key, ETag, Content-Range, Accept-Ranges";

/// Header fields to set, in order.
pub type FieldsToSet = Vec<(&'static str, String)>;

/// The origin of a cross-origin page, or of a page of this site that uses another method than GET.
pub fn origin(head: &Head<'_>) -> Option<String> {
    first(head.fields, "origin").filter(|origin| !origin.is_empty())
}

/// The method that a preflight asks for; `None` when the request is none.
pub fn preflight(head: &Head<'_>) -> Option<String> {
    if head.method != "OPTIONS" || origin(head).is_none() {
        return None;
    }
    first(head.fields, "access-control-request-method").filter(|method| !method.is_empty())
}

/// The fields that an answer of the route gets for a page of that origin. A page of an origin that
/// is not allowed gets `Vary` only; its browser then withholds the answer from it.
pub fn answer(rule: &Cors, origin: &str) -> FieldsToSet {
    let mut fields = vec![("vary", "origin".to_owned())];
    if allow(rule, origin, &mut fields) {
        fields.push(("access-control-expose-headers", EXPOSED.to_owned()));
    }
    fields
}

/// The changes that make one answer usable by pages of all origins; they replace what the
/// application says for one origin.
pub(crate) fn for_all_origins(fields: &dyn Fields) -> Vec<Edit> {
    let mut edits = vec![
        Edit::Set("access-control-allow-origin", "*".to_owned()),
        Edit::Remove("access-control-allow-credentials"),
    ];
    let vary = joined(fields, "vary").unwrap_or_default();
    let names: Vec<&str> = vary.split(',').map(str::trim).collect();
    let others: Vec<&str> =
        names.iter().copied().filter(|name| !name.eq_ignore_ascii_case("origin")).collect();
    if others.len() < names.len() {
        edits.push(match others.is_empty() {
            true => Edit::Remove("vary"),
            false => Edit::Set("vary", others.join(", ")),
        });
    }
    edits
}

/// The fields of the answer to a preflight whose method the route accepts.
pub(crate) fn preflight_answer(rule: &Cors, head: &Head<'_>, method: &str) -> FieldsToSet {
    let vary = "origin, access-control-request-method, access-control-request-headers";
    let mut fields = vec![("vary", vary.to_owned())];
    let origin = origin(head).unwrap_or_default();
    if !allow(rule, &origin, &mut fields) {
        return fields;
    }
    fields.push(("access-control-allow-methods", method.to_owned()));
    if let Some(headers) = first(head.fields, "access-control-request-headers") {
        fields.push(("access-control-allow-headers", headers));
    }
    fields.push(("access-control-max-age", rule.max_age.as_secs().to_string()));
    fields
}

/// The rule for jobs and their results: that of the first offloadable route that allows the origin.
pub fn of_jobs<'r>(routes: &'r [Route], origin: &str) -> Option<&'r Cors> {
    let rules = routes.iter().filter(|route| route.offload.is_some());
    rules.filter_map(|route| route.cors.as_ref()).find(|rule| is_allowed(rule, origin))
}

fn is_allowed(rule: &Cors, origin: &str) -> bool {
    rule.origins.iter().any(|own| own == "*" || own == origin)
}

fn allow(rule: &Cors, origin: &str, fields: &mut FieldsToSet) -> bool {
    if !is_allowed(rule, origin) {
        return false;
    }
    fields.push(("access-control-allow-origin", origin.to_owned()));
    if rule.credentials {
        fields.push(("access-control-allow-credentials", "true".to_owned()));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    fn rule(origins: &[&str], credentials: bool) -> Cors {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        Cors { origins, credentials, max_age: Millis(600_000) }
    }

    fn has(fields: &FieldsToSet, name: &str) -> bool {
        fields.iter().any(|(own, _)| *own == name)
    }

    #[test]
    fn only_an_origin_that_is_listed_may_read() {
        let rule = rule(&["https://app.example.com"], true);
        let allowed = answer(&rule, "https://app.example.com");
        assert!(has(&allowed, "access-control-allow-credentials"));
        for other in ["https://app.example.com.evil.org", "http://app.example.com", "null", ""] {
            let fields = answer(&rule, other);
            assert_eq!(fields, [("vary", "origin".to_owned())], "{other}");
        }
    }

    #[test]
    fn a_preflight_is_answered_for_the_method_and_the_fields_it_asks_for() {
        let fields = vec![
            ("origin".to_owned(), "https://a.example".to_owned()),
            ("access-control-request-method".to_owned(), "POST".to_owned()),
            ("access-control-request-headers".to_owned(), "prefer,content-type".to_owned()),
        ];
        let head =
            Head { method: "OPTIONS", scheme: "https", host: "h", target: "/", fields: &fields };
        let method = preflight(&head).expect("a preflight");
        let answer = preflight_answer(&rule(&["*"], false), &head, &method);
        let value = |name: &str| {
            answer.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(value("access-control-allow-methods"), Some("POST"));
        assert_eq!(value("access-control-allow-headers"), Some("prefer,content-type"));
        assert_eq!(value("access-control-max-age"), Some("600"));
        assert_eq!(value("access-control-allow-credentials"), None);
        assert_eq!(preflight(&Head { method: "GET", ..head }), None);
    }
}
