//! The examples of RFC 9421, and every reason for which a signature is invalid.

use super::base::base;
use super::keys::SigningKey;
use super::nonces::NONCES_MAX;
use super::{Invalid, Keys, LIFETIME_S, Member, Nonces, SKEW_S, part, sign, verify};
use crate::head::{Head, NoFields};
use crate::time::{Millis, UnixMillis};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::{any, proptest};

const NOW: UnixMillis = UnixMillis(1_618_884_473_000);

/// The request `test-request` of appendix B.2.
fn example() -> Vec<(String, String)> {
    let digest = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
    [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        ("content-digest", digest),
        ("content-length", "18"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn head<'a>(fields: &'a Vec<(String, String)>) -> Head<'a> {
    Head {
        method: "POST",
        scheme: "https",
        host: "example.com",
        target: "/foo?param=Value&Pet=dog",
        fields,
    }
}

#[test]
fn the_rfcs_hmac_example_has_the_rfcs_base_and_signature() {
    let fields = example();
    let parameters =
        r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;
    let base = base(&head(&fields), &["date", "@authority", "content-type"], parameters);
    let wanted = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
        \"@authority\": example.com\n\
        \"content-type\": application/json\n\
        \"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"";
    assert_eq!(base.as_deref(), Some(wanted));
    let secret =
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
    let key = SigningKey::new(&BASE64_STANDARD.decode(secret).expect("the RFC's secret"));
    let signature = "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=";
    assert_eq!(BASE64_STANDARD.encode(key.mac(wanted)), signature);
    assert!(key.is_mac(wanted, &BASE64_STANDARD.decode(signature).expect("the RFC's signature")));
}

#[test]
fn derived_components_are_those_of_the_rfc() {
    let fields = example();
    let parameters = r#"("@method" "@authority" "@path" "content-digest" "content-length" "content-type");created=1618884473;keyid="test-key-rsa-pss""#;
    let names =
        ["@method", "@authority", "@path", "content-digest", "content-length", "content-type"];
    let text = base(&head(&fields), &names, parameters).expect("all there");
    assert!(text.starts_with(
        "\"@method\": POST\n\"@authority\": example.com\n\"@path\": /foo\n\"content-digest\": sha-512=:WZDP"
    ));
    assert!(text.ends_with(&format!(
        "\"content-length\": 18\n\"content-type\": application/json\n\"@signature-params\": {parameters}"
    )));
    // Section 2.2, each with its own example.
    for (name, host, target, value) in [
        ("@authority", "WWW.Example.com:443", "/", "www.example.com"),
        ("@authority", "www.example.com:8443", "/", "www.example.com:8443"),
        (
            "@target-uri",
            "www.example.com",
            "/path?param=value",
            "https://www.example.com/path?param=value",
        ),
        ("@scheme", "www.example.com", "/", "https"),
        ("@request-target", "www.example.com", "/path?param=value", "/path?param=value"),
        ("@path", "www.example.com", "/path?param=value", "/path"),
        ("@path", "www.example.com", "", "/"),
        (
            "@query",
            "www.example.com",
            "/path?param=value&foo=bar&baz=bat%2Dman",
            "?param=value&foo=bar&baz=bat%2Dman",
        ),
        ("@query", "www.example.com", "/path?queryString", "?queryString"),
        ("@query", "www.example.com", "/path?", "?"),
        ("@query", "www.example.com", "/path", "?"),
    ] {
        let head = Head { host, target, ..head(&fields) };
        let wanted = format!("\"{name}\": {value}\n\"@signature-params\": ");
        assert_eq!(base(&head, &[name], ""), Some(wanted));
    }
    for names in [&["@status"] as &[&str], &["x-absent"], &["date", "date"]] {
        assert_eq!(base(&head(&fields), names, ""), None, "{names:?}");
    }
}

fn keys(names: &str) -> Keys {
    let line = |name: &str| format!("{name}={}", name.repeat(32));
    let lines: Vec<String> = names.split(' ').map(line).collect();
    Keys::parse(&lines.join("\n")).expect("good keys")
}

fn request(target: &str) -> Head<'_> {
    Head { method: "POST", scheme: "http", host: "h", target, fields: &NoFields }
}

fn signed() -> Member {
    sign(&keys("a"), &request("/x?y=1"), "nonce", NOW)
}

/// The signature with one text of its parameters replaced.
fn changed(from: &str, to: &str) -> Member {
    let signed = signed();
    let input = signed.input.as_deref().unwrap_or_default();
    assert!(input.contains(from), "{from} is not in {input}");
    Member { input: Some(input.replace(from, to)), ..signed }
}

fn verdict(member: &Member) -> Result<(), Invalid> {
    verify(&keys("b a"), &request("/x?y=1"), member, NOW).map(|_| ())
}

#[test]
fn a_signature_is_good_for_its_request_alone() {
    assert_eq!(verdict(&signed()), Ok(()));
    let differs = [
        Head { method: "PUT", ..request("/x?y=1") },
        Head { host: "other", ..request("/x?y=1") },
        request("/x"),
        request("/x?y=2"),
        request("/y?y=1"),
    ];
    for head in differs {
        assert_eq!(verify(&keys("a"), &head, &signed(), NOW), Err(Invalid::Mismatch));
    }
}

#[test]
fn a_key_is_known_by_its_name_and_by_nothing_else() {
    let by = |names: &str| verify(&keys(names), &request("/x?y=1"), &signed(), NOW).map(|_| ());
    assert_eq!(by("new a"), Ok(()));
    assert_eq!(by("new"), Err(Invalid::UnknownKey));
    let other = Keys::parse(&format!("a={}", "b".repeat(32))).expect("a good key");
    assert_eq!(verify(&other, &request("/x?y=1"), &signed(), NOW), Err(Invalid::Mismatch));
}

#[test]
fn every_reason_has_its_name() {
    use Invalid::*;
    let only = |input: &str| Member { input: Some(input.to_owned()), signature: None };
    assert_eq!(verdict(&Member::default()), Err(Missing));
    assert_eq!(verdict(&only("spillway=()")), Err(Malformed));
    for (from, to, why) in [
        ("(\"@method\"", "\"@method\"", Malformed),
        (";nonce=\"nonce\"", "", Malformed),
        (";nonce=\"nonce\"", ";nonce=\"\"", Malformed),
        (";keyid=\"a\"", "", Malformed),
        (";keyid=\"a\"", ";keyid=a", Malformed),
        ("created=", "created=1", TooLongLived),
        ("created=1618884473;", "", Malformed),
        ("nonce\";", &format!("{}\";", "n".repeat(2000)), Malformed),
        (";keyid=\"a\"", ";keyid=\"c\"", UnknownKey),
        (";keyid=\"a\"", ";keyid=\"a\";alg=\"ed25519\"", WrongAlgorithm),
        ("\"@query\"", "", WrongComponents),
        ("\"@query\"", "\"@query\";req", WrongComponents),
        ("\"@query\"", "\"@query\" \"x-absent\"", WrongComponents),
        ("\"@query\"", "\"@query\" \"@scheme\"", Mismatch),
        (";keyid=\"a\"", ";keyid=\"a\";alg=\"hmac-sha256\"", Mismatch),
    ] {
        assert_eq!(verdict(&changed(from, to)), Err(why), "{from} → {to}");
    }
    let no_bytes = Member { signature: Some("spillway=1".to_owned()), ..signed() };
    assert_eq!(verdict(&no_bytes), Err(Malformed));
}

#[test]
fn clocks_may_differ_by_the_skew_and_not_by_more() {
    let at = |seconds: i64| {
        let now = UnixMillis(NOW.0.saturating_add_signed(seconds * 1000));
        verify(&keys("a"), &request("/x?y=1"), &signed(), now).map(|_| ())
    };
    assert_eq!(at(-SKEW_S), Ok(()));
    assert_eq!(at(-SKEW_S - 1), Err(Invalid::NotYetValid));
    assert_eq!(at(LIFETIME_S + SKEW_S), Ok(()));
    assert_eq!(at(LIFETIME_S + SKEW_S + 1), Err(Invalid::Expired));
}

#[test]
fn only_a_copy_is_a_replay_and_it_is_known_for_as_long_as_it_is_good() {
    let id = |nonce: &str| {
        let member = sign(&keys("a"), &request("/x"), nonce, NOW);
        verify(&keys("a"), &request("/x"), &member, NOW).expect("good")
    };
    let mut nonces = Nonces::default();
    assert_eq!(nonces.remember(id("one"), NOW), Ok(()));
    assert_eq!(nonces.remember(id("two"), NOW), Ok(()));
    let last = NOW + Millis::from_secs((LIFETIME_S + 2 * SKEW_S).unsigned_abs());
    for later in [NOW, NOW + Millis(1), last - Millis(1), last] {
        assert_eq!(nonces.remember(id("one"), later), Err(Invalid::Replayed));
    }
    assert_eq!(nonces.remember(id("one"), UnixMillis(last.0 * 2)), Ok(()), "long expired by then");
}

#[test]
fn a_full_memory_refuses_instead_of_forgetting() {
    let mut nonces = Nonces::default();
    for id in 0..NONCES_MAX as u64 {
        assert_eq!(nonces.remember(id, NOW), Ok(()));
    }
    assert_eq!(nonces.remember(u64::MAX, NOW), Err(Invalid::NoncesFull));
    assert_eq!(nonces.remember(0, NOW), Err(Invalid::Replayed));
    assert_eq!(
        nonces.remember(u64::MAX, NOW + Millis(1_000_000)),
        Ok(()),
        "the older ones have expired"
    );
}

#[test]
fn signatures_of_others_stay_as_they_are() {
    for (line, own, rest) in [
        ("spillway=:AA==:", Some("spillway=:AA==:"), ""),
        ("sig1=:BB==:", None, "sig1=:BB==:"),
        ("sig1=:BB==:, spillway=:AA==:", Some("spillway=:AA==:"), "sig1=:BB==:"),
        ("spillway=:1:,sig1=:BB==:,  spillway=:2:", Some("spillway=:2:"), "sig1=:BB==:"),
        // The draft that ActivityPub uses.
        (
            "keyId=\"https://a/b#c\",headers=\"(request-target) date\",signature=\"x=\", spillway=:1:",
            Some("spillway=:1:"),
            "keyId=\"https://a/b#c\",headers=\"(request-target) date\",signature=\"x=\"",
        ),
        ("spillwayed=:1:", None, "spillwayed=:1:"),
    ] {
        assert_eq!(part(line), (own, rest.to_owned()), "{line}");
    }
}

#[test]
fn keys_that_could_not_work_are_refused_without_being_repeated() {
    let long = "s".repeat(32);
    for (text, says) in [
        (String::new(), "there is no key"),
        (long.clone(), "no name"),
        (format!("a b={long}"), "a key's name"),
        (format!("a={long},a={long}"), "twice"),
        ("a=secret".to_owned(), "shorter than 32"),
        ((0..9).map(|at| format!("k{at}={long}\n")).collect(), "more than 8"),
    ] {
        let fault = Keys::parse(&text).err().expect("a fault");
        assert!(fault.contains(says), "{fault}");
        assert!(!fault.contains("secret") || says == "there is no key", "{fault}");
    }
}

proptest! {
    #[test]
    fn what_was_signed_verifies(path in "/[a-z%0-9/]{0,20}", query in "(\\?[a-z&=;,\"]{0,20})?", host in "[a-zA-Z0-9.]{1,20}(:[0-9]{1,5})?", at in any::<u32>()) {
        let target = format!("{path}{query}");
        let now = u64::from(at) * 1000;
        let head = Head { host: &host, ..request(&target) };
        let member = sign(&keys("a"), &head, "5f3c-1", UnixMillis(now));
        assert!(verify(&keys("b a"), &head, &member, UnixMillis(now)).is_ok());
    }

    #[test]
    fn no_field_makes_it_panic_or_pass(input in ".{0,200}", signature in ".{0,200}") {
        let member = Member { input: Some(format!("spillway={input}")), signature: Some(format!("spillway={signature}")) };
        assert!(verdict(&member).is_err());
        let (_, rest) = part(&input);
        assert!(rest.len() <= input.len());
    }
}
