//! The edge's signature: taken off every request, and looked at before anything is answered.

use super::handle::Refused;
use super::inbound::Inbound;
use crate::app::App;
use crate::fields::Cidr;
use http::{HeaderMap, HeaderName, HeaderValue};
use http1::lines;
use rules::document::Document;
use rules::signature::{Invalid, Keys, Member, Nonces, part, verify};
use rules::{Head, Rules};
use std::sync::{Mutex, PoisonError};

static INPUT: HeaderName = HeaderName::from_static("signature-input");
static SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// What a proxy needs to know its edge.
#[derive(Default)]
pub struct Signatures {
    keys: Option<Keys>,
    /// Peers that need no signature.
    unsigned_from: Vec<Cidr>,
    /// Shared by all threads: a copy may come in on another one.
    seen: Mutex<Nonces>,
}

impl Signatures {
    pub fn new(keys: Option<Keys>, unsigned_from: Vec<Cidr>) -> Self {
        Self { keys, unsigned_from, seen: Mutex::default() }
    }

    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// What is missing for these rules.
    pub fn unbound(&self, rules: &Rules) -> Option<String> {
        let is_missing = self.keys.is_none() && requires_any(&rules.document);
        is_missing.then(|| {
            "require_signature without keys: set --edge-keys-file FILE or SPILLWAY_EDGE_KEYS (NAME=SECRET, the same as at the edge)".to_owned()
        })
    }

    fn verify(&self, keys: &Keys, head: &Head<'_>, own: &Member, now: u64) -> Result<(), Invalid> {
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

/// Takes our signature off, so that neither key nor app ever sees it; those of others stay.
pub fn take(headers: &mut HeaderMap) -> Member {
    Member { input: take_from(headers, &INPUT), signature: take_from(headers, &SIGNATURE) }
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

/// Whether a request goes on: as the edge's, from a peer that needs no signature, or on a route
/// that asks for none. What a signature was worth is counted in any case, so that one sees whether
/// it may be required.
///
/// # Errors
/// The problem and the reason.
pub fn admit(
    app: &App,
    (inbound, head): (&Inbound, &Head<'_>),
    own: &Member,
    is_forwarded: bool,
    is_required: bool,
) -> Result<(), Refused> {
    let Some(signatures) = &app.signatures else { return Ok(()) };
    let Some(keys) = &signatures.keys else { return Ok(()) };
    let peer = inbound.peer.address;
    let (result, verdict) = if is_forwarded {
        ("forwarded", Ok(()))
    } else if signatures.unsigned_from.iter().any(|block| block.contains(peer)) {
        ("exempt", Ok(()))
    } else {
        match signatures.verify(keys, head, own, app.clock.now()) {
            Ok(()) => ("valid", Ok(())),
            Err(why) => (why.as_str(), Err(why)),
        }
    };
    app.metrics.http.signatures.with_label_values(&[result]).inc();
    match verdict {
        Err(why) if is_required => Err((why.problem(), format!("signature: {result}"))),
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
        let own = take(&mut headers);
        assert_eq!((own.input, own.signature.as_deref()), (None, Some("spillway=:3:")));
        let lines: Vec<_> = headers.get_all("signature").iter().collect();
        assert_eq!(lines, ["sig1=:2:", "keyId=\"k\",signature=\"x\""]);
        assert_eq!(headers["signature-input"], "sig1=(\"date\")");
    }
}
