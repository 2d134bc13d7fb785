//! Spillway's member of the fields `Signature-Input` and `Signature`, which may have members of
//! others.

use super::invalid::{Invalid, LABEL};
use sfv::{BareItem, Dictionary, InnerList, ItemSerializer, ListEntry, ListSerializer, Parser};

/// Spillway's member is half as long; a longer one is not parsed.
const MEMBER_BYTES_MAX: usize = 1024;

/// A signature as it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The member of `Signature-Input`.
    pub input: Option<String>,
    /// The member of `Signature`.
    pub signature: Option<String>,
}

/// The parameters of a signature.
pub(super) struct Parameters {
    pub(super) components: Vec<String>,
    pub(super) created: i64,
    pub(super) expires: i64,
    pub(super) key_id: String,
    pub(super) algorithm: Option<String>,
    /// All parameters in canonical form, which is signed as well.
    pub(super) text: String,
}

/// Separates Spillway's member of a field from the rest, which stays byte for byte unchanged: it
/// may be the client's own signature, in a form that is no Structured Field. Of several members the
/// last counts, as in every dictionary.
pub fn part(line: &str) -> (Option<&str>, String) {
    let is_own = |member: &&str| {
        member.trim_start().strip_prefix(LABEL).is_some_and(|rest| rest.starts_with('='))
    };
    let own = line.split(',').rfind(is_own).map(str::trim);
    let rest: Vec<&str> = line.split(',').filter(|member| !is_own(member)).collect();
    (own, rest.join(",").trim().to_owned())
}

impl Member {
    pub(super) fn new(parameters: &str, mac: &[u8]) -> Self {
        let mac = ItemSerializer::new().bare_item(mac).finish();
        Self {
            input: Some(format!("{LABEL}={parameters}")),
            signature: Some(format!("{LABEL}={mac}")),
        }
    }

    pub(super) fn read(&self) -> Result<(Parameters, Vec<u8>), Invalid> {
        let (input, signature) = match (&self.input, &self.signature) {
            (Some(input), Some(signature)) => (input, signature),
            (None, None) => return Err(Invalid::Missing),
            _ => return Err(Invalid::Malformed),
        };
        match (entry(input), entry(signature)) {
            (Some(ListEntry::InnerList(list)), Some(ListEntry::Item(item))) => {
                let BareItem::ByteSequence(mac) = item.bare_item else {
                    return Err(Invalid::Malformed);
                };
                Ok((Parameters::read(list)?, mac))
            }
            _ => Err(Invalid::Malformed),
        }
    }
}

fn entry(member: &str) -> Option<ListEntry> {
    if member.len() > MEMBER_BYTES_MAX {
        return None;
    }
    let mut members: Dictionary = Parser::new(member).parse().ok()?;
    members.swap_remove(LABEL)
}

impl Parameters {
    fn read(list: InnerList) -> Result<Self, Invalid> {
        let component = |item: &sfv::Item| match &item.bare_item {
            BareItem::String(name) if item.params.is_empty() => Ok(name.as_str().to_owned()),
            _ => Err(Invalid::WrongComponents),
        };
        let components = list.items.iter().map(component).collect::<Result<_, _>>()?;
        let text = |name: &str| match list.params.get(name) {
            None => Ok(None),
            Some(BareItem::String(text)) => Ok(Some(text.as_str().to_owned())),
            Some(_) => Err(Invalid::Malformed),
        };
        let time = |name: &str| match list.params.get(name) {
            Some(BareItem::Integer(time)) => Ok(i64::from(*time)),
            _ => Err(Invalid::Malformed),
        };
        // Without a nonce, two equal requests of one second would have the same signature.
        text("nonce")?.filter(|nonce| !nonce.is_empty()).ok_or(Invalid::Malformed)?;
        Ok(Self {
            components,
            created: time("created")?,
            expires: time("expires")?,
            key_id: text("keyid")?.ok_or(Invalid::Malformed)?,
            algorithm: text("alg")?,
            text: canonical(list),
        })
    }
}

fn canonical(list: InnerList) -> String {
    let mut serializer = ListSerializer::new();
    serializer.members(&[ListEntry::InnerList(list)]);
    serializer.finish().unwrap_or_default()
}
