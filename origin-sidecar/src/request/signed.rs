//! The edge's signature: it is removed from every request, and verified before anything is
//! answered.

use super::inbound::Inbound;
use crate::message::refused::Refused;
use http::{HeaderMap, HeaderName, HeaderValue};
use http1::lines;
use net::cidr::Cidr;
use rules::document::Document;
use rules::signature::{Invalid, Keys, Member, Nonces, part, verify};
use rules::visitor::{self, Visitor};
use rules::{Fields, Head, Rules, UnixMillis};
use std::sync::{Mutex, PoisonError};

static INPUT: HeaderName = HeaderName::from_static("signature-input");
static SIGNATURE: HeaderName = HeaderName::from_static("signature");
static HOST: HeaderName = HeaderName::from_static(visitor::HOST);
static SCHEME: HeaderName = HeaderName::from_static(visitor::SCHEME);

/// What a proxy needs to verify its edge's signatures.
#[derive(Default)]
pub struct Signatures {
    keys: Option<Keys>,
    /// Addresses of peers that need no signature.
    unsigned_from: Vec<Cidr>,
    /// The replay protection. All threads share it: a copy may arrive on another one.
    seen: Mutex<Nonces>,
}

impl Signatures {
    pub fn new(keys: Option<Keys>, unsigned_from: Vec<Cidr>) -> Self {
        Self { keys, unsigned_from, seen: Mutex::default() }
    }

    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// What is missing for these rules, if anything.
    pub fn unbound(&self, rules: &Rules) -> Option<String> {
        let is_missing = self.keys.is_none() && requires_any(&rules.document);
        is_missing.then(|| {
            "require_signature without keys: set --edge-keys-file FILE or SPILLWAY_EDGE_KEYS (NAME=SECRET, the same as at the edge)".to_owned()
        })
    }

    fn verify(
        &self,
        keys: &Keys,
        head: &Head<'_>,
        own: &Member,
        now: UnixMillis,
    ) -> Result<(), Invalid> {
        let id = verify(keys, head, own, now)?;
        if head.is_safe() {
            return Ok(());
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remember(id, now)
    }
}

fn requires_any(document: &Document) -> bool {
    document.edge.require_signature
        || document.routes.iter().any(|route| document.requires_signature(Some(route)))
}

/// The signature and its fields, removed from the request so that neither cache key nor application
/// sees them.
pub struct Marks {
    own: Member,
    /// The field lines that name the visitor's host.
    visitor: Vec<(String, String)>,
}

/// Removes our signature and the signed visitor fields; signatures of others stay. Without a
/// signature the visitor fields stay, so that [`rules::hygiene`] removes and counts them.
pub fn take(headers: &mut HeaderMap) -> Marks {
    let own =
        Member { input: take_from(headers, &INPUT), signature: take_from(headers, &SIGNATURE) };
    let mut visitor = Vec::new();
    if own.input.is_some() {
        for name in [&HOST, &SCHEME] {
            let lines = lines::of(headers, name).filter_map(|line| line.to_str().ok());
            visitor.extend(lines.map(|line| (name.as_str().to_owned(), line.to_owned())));
            headers.remove(name);
        }
    }
    Marks { own, visitor }
}

fn take_from(headers: &mut HeaderMap, name: &HeaderName) -> Option<String> {
    let mut own = None;
    let mut others = Vec::new();
    for line in lines::of(headers, name) {
        let Ok(text) = line.to_str() else {
            others.push(line.clone());
            continue;
        };
        let (mine, rest) = part(text);
        own = mine.map(str::to_owned).or(own);
        others.extend(HeaderValue::try_from(rest).ok().filter(|rest| !rest.is_empty()));
    }
    if own.is_some() {
        headers.remove(name);
        for line in others {
            headers.append(name.clone(), line);
        }
    }
    own
}

/// The result of verifying a request's signature.
pub struct Looked {
    /// The metric label, and the detail of a refusal.
    result: &'static str,
    verdict: Result<(), Invalid>,
    /// The visitor whose host is to be restored.
    pub visitor: Option<Visitor>,
}

/// The request's fields, with those that were removed.
struct AsSigned<'a> {
    fields: &'a dyn Fields,
    visitor: &'a [(String, String)],
}

impl Fields for AsSigned<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.fields.each(name, visit);
        self.visitor.each(name, visit);
    }
}

impl Looked {
    /// Metric label.
    pub fn result(&self) -> &'static str {
        self.result
    }
}

impl Signatures {
    /// Verifies the signature of a request as received, before anything else. `now` is in
    /// milliseconds since 1970. None without keys.
    pub fn look(
        &self,
        rules: &Rules,
        (inbound, head): (&Inbound, &Head<'_>),
        marks: &Marks,
        is_forwarded: bool,
        now: UnixMillis,
    ) -> Option<Looked> {
        let keys = self.keys.as_ref()?;
        let peer = inbound.peer.address;
        let as_signed = AsSigned { fields: head.fields, visitor: &marks.visitor };
        let looked = |result, verdict| Looked { result, verdict, visitor: None };
        Some(if is_forwarded {
            looked("forwarded", Ok(()))
        } else if self.unsigned_from.iter().any(|block| block.contains(peer)) {
            looked("exempt", Ok(()))
        } else {
            let head = Head { fields: &as_signed, ..*head };
            match self.verify(keys, &head, &marks.own, now) {
                Ok(()) => {
                    let visitor = Visitor::said(&rules.document.edge, &as_signed);
                    Looked { visitor, ..looked("valid", Ok(())) }
                }
                Err(why) => looked(why.as_str(), Err(why)),
            }
        })
    }
}

/// Decides whether a request may pass: with a valid signature, from a peer that needs none, or on a
/// route that requires none.
///
/// # Errors
/// The problem and the reason.
pub fn admit(looked: Option<&Looked>, is_required: bool) -> Result<(), Refused> {
    match looked {
        Some(Looked { verdict: Err(why), result, .. }) if is_required => {
            Err(Refused::new(why.problem(), format!("signature: {result}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_taken_from_any_line_and_the_last_one_counts() {
        let mut headers = HeaderMap::new();
        for line in ["spillway=:1:, sig1=:2:", "keyId=\"k\",signature=\"x\"", "spillway=:3:"] {
            headers.append("signature", HeaderValue::from_static(line));
        }
        headers.append("signature-input", HeaderValue::from_static("sig1=(\"date\")"));
        let own = take(&mut headers).own;
        assert_eq!((own.input, own.signature.as_deref()), (None, Some("spillway=:3:")));
        let lines: Vec<_> = headers.get_all("signature").iter().collect();
        assert_eq!(lines, ["sig1=:2:", "keyId=\"k\",signature=\"x\""]);
        assert_eq!(headers["signature-input"], "sig1=(\"date\")");
    }
}
