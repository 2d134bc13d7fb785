//! URLs in the form in which people write them in purge requests.

use crate::hex::hex;
use crate::path;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// The form in which a person writes a URL ([`super::Plan::url`]): without the scheme's default
/// port, and with the query decoded. Cache keys stay distinct; only a purge treats such URLs as
/// one.
pub fn as_meant(url: &str) -> Cow<'_, str> {
    let (before, query) = path::split(url);
    // Compares bytes, because each request comes through here.
    let end = before.bytes().position(|byte| byte == b'/').unwrap_or(before.len());
    let (host, target) = before.split_at_checked(end).unwrap_or((before, ""));
    let bare = without_usual_port(host);
    let is_plain = |query: &str| {
        !query.bytes().any(|byte| matches!(byte, b'%' | b'+'))
            && query.split('&').all(|pair| pair.contains('='))
    };
    if bare.is_none() && query.is_none_or(is_plain) {
        return Cow::Borrowed(url);
    }
    let mut meant = [bare.unwrap_or(host), target].concat();
    let mut mark = '?';
    for (name, value) in path::pairs(query.unwrap_or_default()) {
        meant.push(mark);
        mark = '&';
        push_meant(&name, "&=%+", &mut meant);
        meant.push('=');
        push_meant(&value, "&%+", &mut meant);
    }
    Cow::Owned(meant)
}

pub(super) fn without_usual_port(host: &str) -> Option<&str> {
    host.strip_suffix(":80").or_else(|| host.strip_suffix(":443"))
}

/// Appends decoded text. Characters that would change the meaning of the URL stay encoded.
fn push_meant(text: &str, kept: &str, meant: &mut String) {
    for letter in text.chars() {
        match u8::try_from(letter) {
            Ok(byte) if kept.contains(letter) => path::push_encoded(byte, meant),
            _ => meant.push(letter),
        }
    }
}

/// The tag of a URL ([`super::Plan::url`]) in the edge's cache, which can only be purged by tags.
pub fn url_tag(url: &str) -> String {
    let hash = hex(&Sha256::digest(as_meant(url).as_bytes()));
    format!("spillway-url-{}", hash.get(..32).unwrap_or_default())
}
