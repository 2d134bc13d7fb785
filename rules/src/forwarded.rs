//! What a trusted peer says about the client's request: `X-Forwarded-*` and `Forwarded` (RFC 7239).

use crate::head::Fields;
use crate::trust::Trust;

/// How the client made its request, as far as a trusted peer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stated {
    /// The scheme: `http` or `https`.
    pub scheme: Option<&'static str>,
    /// The host in lower case, with the port if there was one.
    pub host: Option<String>,
}

/// `Forwarded` contradicts `X-Forwarded-*`: the application would believe one of them, and nobody
/// knows which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict(pub &'static str);

/// A host name has 255 bytes at most (RFC 1035), a port six with its colon.
const HOST_BYTES_MAX: usize = 261;

/// What the nearest proxy says. Each proxy appends to the list, so only the last element is the
/// peer's own; those before may be the client's.
///
/// # Errors
/// Both families of fields are trusted and differ about scheme, host or client.
pub fn stated(fields: &dyn Fields, trust: Trust) -> Result<Stated, Conflict> {
    if !trust.is_some() {
        return Ok(Stated::default());
    }
    let by_proto = ["x-forwarded-proto", "x-forwarded-protocol", "x-forwarded-scheme"]
        .into_iter()
        .find_map(|name| last(fields, name))
        .and_then(|value| scheme(&value));
    let by_ssl = || {
        last(fields, "x-forwarded-ssl").and_then(|value| match value.as_str() {
            "on" => Some("https"),
            "off" => Some("http"),
            _ => None,
        })
    };
    let own = Stated { scheme: by_proto.or_else(by_ssl), host: host(fields) };
    let Some(element) = last_element(fields) else { return Ok(own) };
    let theirs = Stated {
        scheme: parameter(&element, "proto").and_then(|value| scheme(&value)),
        host: parameter(&element, "host").filter(|host| is_host(host)),
    };
    let client = (last(fields, "x-forwarded-for"), parameter(&element, "for"));
    agreed("proto", own.scheme.is_some() && theirs.scheme.is_some(), own.scheme == theirs.scheme)?;
    agreed("host", own.host.is_some() && theirs.host.is_some(), own.host == theirs.host)?;
    if let (Some(own), Some(theirs)) = client {
        agreed("for", true, node(&own) == node(&theirs))?;
    }
    Ok(Stated { scheme: own.scheme.or(theirs.scheme), host: own.host.or(theirs.host) })
}

/// The host that the nearest proxy names in `X-Forwarded-Host`.
pub fn host(fields: &dyn Fields) -> Option<String> {
    last(fields, "x-forwarded-host").filter(|host| is_host(host))
}

fn agreed(what: &'static str, are_both: bool, are_equal: bool) -> Result<(), Conflict> {
    if are_both && !are_equal { Err(Conflict(what)) } else { Ok(()) }
}

/// `Forwarded` with an appended element for the peer; none where the request has no `Forwarded`.
pub(crate) fn continued(fields: &dyn Fields, address: &str) -> Option<String> {
    let mut chain: Option<String> = None;
    fields.each("forwarded", &mut |line| {
        let line = str::from_utf8(line).unwrap_or_default().trim();
        let chain = chain.get_or_insert_default();
        if !line.is_empty() {
            chain.push_str(line);
            chain.push_str(", ");
        }
    });
    let mut chain = chain?;
    let is_v6 = address.contains(':');
    chain.push_str(if is_v6 { "for=\"[" } else { "for=" });
    chain.push_str(address);
    chain.push_str(if is_v6 { "]\"" } else { "" });
    Some(chain)
}

fn scheme(value: &str) -> Option<&'static str> {
    match value {
        "https" | "wss" => Some("https"),
        "http" | "ws" => Some("http"),
        _ => None,
    }
}

/// Whether a text is valid in `Host`.
pub fn is_host(text: &str) -> bool {
    let legal = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    };
    !text.is_empty() && text.len() <= HOST_BYTES_MAX && text.bytes().all(legal)
}

/// The last element of a list over all its lines, in lower case.
fn last(fields: &dyn Fields, name: &str) -> Option<String> {
    let mut found = None;
    fields.each(name, &mut |line| {
        let element = line.rsplit(|byte| *byte == b',').next().unwrap_or_default();
        found = str::from_utf8(element).ok().map(|text| text.trim().to_ascii_lowercase());
    });
    found.filter(|text| !text.is_empty())
}

/// The last element of `Forwarded`. A comma within quotes does not end an element.
fn last_element(fields: &dyn Fields) -> Option<String> {
    let mut found = None;
    fields.each("forwarded", &mut |line| {
        let Ok(line) = str::from_utf8(line) else { return };
        found = split(line, ',').last().map(|element| element.trim().to_owned());
    });
    found.filter(|text: &String| !text.is_empty())
}

/// The value of a parameter of an element, without quotes and in lower case.
fn parameter(element: &str, name: &str) -> Option<String> {
    split(element, ';').into_iter().find_map(|pair| {
        let (own, value) = pair.split_once('=')?;
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        own.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}

/// Splits at a character outside quotes (RFC 9110 section 5.6.4).
fn split(text: &str, by: char) -> Vec<&str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            letter if letter == by && !is_quoted => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// A node without brackets and port, so that both spellings compare equal.
fn node(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Trust = Trust::Named { by_forwarded: true };

    fn of(lines: &[(&str, &str)], trust: Trust) -> Result<Stated, Conflict> {
        let lines: Vec<(String, String)> =
            lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        stated(&lines, trust)
    }

    fn says(scheme: Option<&'static str>, host: Option<&str>) -> Result<Stated, Conflict> {
        Ok(Stated { scheme, host: host.map(str::to_owned) })
    }

    #[test]
    fn the_nearest_proxys_word_counts_in_every_spelling_that_is_in_use() {
        let trust = Trust::Network;
        assert_eq!(of(&[("x-forwarded-proto", "http, HTTPS")], trust), says(Some("https"), None));
        assert_eq!(of(&[("x-forwarded-proto", "wss")], trust), says(Some("https"), None));
        assert_eq!(of(&[("x-forwarded-scheme", "https")], trust), says(Some("https"), None));
        assert_eq!(of(&[("x-forwarded-ssl", "on")], trust), says(Some("https"), None));
        let host = [("x-forwarded-host", "a.example, Shop.example:8443")];
        assert_eq!(of(&host, trust), says(None, Some("shop.example:8443")));
        assert_eq!(of(&[("x-forwarded-host", "no host")], trust), says(None, None));
        assert_eq!(of(&[("x-forwarded-proto", "gopher")], trust), says(None, None));
        assert_eq!(of(&host, Trust::Nobody), says(None, None));
    }

    #[test]
    fn forwarded_and_its_elder_brothers_must_say_the_same() {
        let forwarded =
            ("forwarded", r#"for=9.9.9.9, for="[2001:db8::1]:80";proto=https;host="h""#);
        assert_eq!(of(&[forwarded], BOTH), says(Some("https"), Some("h")));
        let with = |name, value| of(&[forwarded, (name, value)], BOTH);
        assert_eq!(with("x-forwarded-proto", "http"), Err(Conflict("proto")));
        assert_eq!(with("x-forwarded-host", "other"), Err(Conflict("host")));
        assert_eq!(with("x-forwarded-for", "1.1.1.1"), Err(Conflict("for")));
        assert_eq!(with("x-forwarded-for", "9.9.9.9, 2001:db8::1"), says(Some("https"), Some("h")));
    }

    #[test]
    fn an_element_for_the_peer_is_added_where_forwarded_is_continued() {
        let line = |value: &str| vec![("forwarded".to_owned(), value.to_owned())];
        assert_eq!(continued(&line("for=a"), "10.0.0.1").as_deref(), Some("for=a, for=10.0.0.1"));
        assert_eq!(continued(&line("for=a"), "::1").as_deref(), Some("for=a, for=\"[::1]\""));
        assert_eq!(continued(&Vec::new(), "10.0.0.1"), None);
    }
}
