//! The caller to whom a job belongs.

use crate::message::fields::View;
use crate::secrets::{Purpose, Secrets};
use http::HeaderMap;
use rules::document::{Auth, Identity};
use serde::{Deserialize, Serialize};

/// The longest name of a caller in bytes. A name is a number, an address or a token, and every
/// remembered permission holds one.
pub(super) const CALLER_BYTES_MAX: usize = 1024;

/// Who may see a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    /// Everybody who knows its id: `auth = "none"`.
    Anyone,
    /// One caller, and the source that names it: `check:x-user-id` 42 and `cookie:session` 42 are
    /// two callers.
    Known { source: String, name: String },
}

/// Why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    Nowhere,
    /// The check's answer names several callers, and none can be preferred.
    Several,
    TooLong,
}

impl Unnamed {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nowhere => "the request names no caller",
            Self::Several => "the answer of the check names several callers",
            Self::TooLong => "the answer of the check names a caller of more than 1,024 bytes",
        }
    }
}

impl Caller {
    fn known(source: &Identity, name: String) -> Self {
        Self::Known { source: source.to_string(), name }
    }

    /// The caller of a request: the first of the rule's sources that has a name. `said` are the
    /// fields of the check's positive answer, where the application was asked.
    ///
    /// # Errors
    /// No source has a name.
    pub fn of(auth: &Auth, asked: &HeaderMap, said: Option<&HeaderMap>) -> Result<Self, Unnamed> {
        let Auth::Caller { identity, .. } = auth else { return Ok(Self::Anyone) };
        for source in identity {
            let name = match (source, said) {
                (Identity::Check(field), Some(said)) => the_only(said, field)?,
                (Identity::Check(_), None) => None,
                _ => in_request(source, asked),
            };
            if let Some(name) = name {
                return Ok(Self::known(source, name));
            }
        }
        Err(Unnamed::Nowhere)
    }

    /// Whether only the application can identify the caller: no earlier source of the rule has a
    /// name.
    pub fn needs_check(auth: &Auth, asked: &HeaderMap) -> bool {
        let first = auth.identities().iter().find(|source| {
            matches!(source, Identity::Check(_)) || in_request(source, asked).is_some()
        });
        matches!(first, Some(Identity::Check(_)))
    }

    /// Whether the application identified the caller.
    pub fn is_said_by_check(&self) -> bool {
        matches!(self, Self::Known { source, .. } if source.starts_with("check:"))
    }

    /// The parts that are signed, each length-prefixed by the signer, so that no two callers have
    /// the same.
    pub fn parts(&self) -> [&[u8]; 3] {
        match self {
            Self::Anyone => [b"anyone", b"", b""],
            Self::Known { source, name } => [b"caller", source.as_bytes(), name.as_bytes()],
        }
    }

    /// Whether `owner` was made for this caller, with any of the secret's keys.
    pub fn is(&self, secrets: &Secrets, owner: &str) -> bool {
        secrets.verify(Purpose::Owner, &self.parts(), owner)
    }

    /// A keyed hash that is stored instead of the name, which often is a session cookie.
    pub fn owner(&self, secrets: &Secrets) -> String {
        secrets.sign(Purpose::Owner, &self.parts())
    }
}

fn in_request(source: &Identity, headers: &HeaderMap) -> Option<String> {
    let view = View::of(headers);
    let name = match source {
        Identity::Header(name) => rules::head::first(&view, name),
        Identity::Cookie(name) => {
            rules::head::cookie(&view, name).map(|value| rules::head::text_of(&value))
        }
        Identity::Check(_) => None,
    };
    name.filter(|name| !name.is_empty())
}

/// The only non-empty line of a field in the check's answer.
fn the_only(said: &HeaderMap, field: &str) -> Result<Option<String>, Unnamed> {
    let lines = said.get_all(field).iter().map(|value| rules::head::text_of(value.as_bytes()));
    let mut names = lines.filter(|name| !name.is_empty());
    let name = names.next();
    if names.next().is_some() {
        return Err(Unnamed::Several);
    }
    match name {
        Some(name) if name.len() > CALLER_BYTES_MAX => Err(Unnamed::TooLong),
        name => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn auth(identity: Vec<Identity>) -> Auth {
        Auth::Caller { check: Some("/me".into()), identity, keep: Vec::new(), login: None }
    }

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::try_from(*name).expect("a name");
            fields.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        fields
    }

    fn known(source: &str, name: &str) -> Caller {
        Caller::Known { source: source.into(), name: name.into() }
    }

    #[test]
    fn the_first_source_that_names_a_caller_counts() {
        let auth = auth(vec![
            Identity::Cookie("session".into()),
            Identity::Check("x-user-id".into()),
            Identity::Header("x-api-key".into()),
        ]);
        let said = fields(&[("x-user-id", "42")]);
        let of = |asked: &[(&str, &str)], said| Caller::of(&auth, &fields(asked), said);
        let both = [("cookie", "session=a"), ("x-api-key", "k")];
        assert_eq!(of(&both, Some(&said)), Ok(known("cookie:session", "a")));
        assert_eq!(of(&both[1..], Some(&said)), Ok(known("check:x-user-id", "42")));
        let nobody = fields(&[]);
        assert_eq!(of(&both[1..], Some(&nobody)), Ok(known("header:x-api-key", "k")));
        assert_eq!(of(&[("cookie", "session=")], Some(&nobody)), Err(Unnamed::Nowhere));
        assert!(!Caller::needs_check(&auth, &fields(&both)));
        assert!(Caller::needs_check(&auth, &fields(&both[1..])));
    }

    #[test]
    fn the_application_names_one_caller_or_none() {
        let auth = auth(vec![Identity::Check("x-user-id".into())]);
        let of = |said: &[(&str, &str)]| Caller::of(&auth, &fields(&[]), Some(&fields(said)));
        let named = Ok(known("check:x-user-id", "42"));
        assert_eq!(of(&[("x-user-id", " 42 "), ("x-user-id", " ")]), named);
        assert_eq!(of(&[("x-user-id", "42"), ("x-user-id", "42")]), Err(Unnamed::Several));
        assert_eq!(of(&[("x-user-id", "")]), Err(Unnamed::Nowhere));
        assert_eq!(of(&[("x-user-id", &"4".repeat(1025))]), Err(Unnamed::TooLong));
    }

    #[test]
    fn callers_of_the_same_name_by_different_sources_are_different_callers() {
        let secrets = Secrets::parse(&"s".repeat(32)).expect("long enough");
        let callers = [
            Caller::Anyone,
            known("check:x-user-id", "42"),
            known("cookie:session", "42"),
            known("header:x-api-key", "42"),
            known("header:x-api-key", ""),
            known("header:x-api-ke", "y42"),
            known("", "header:x-api-key42"),
        ];
        for (one, first) in callers.iter().enumerate() {
            for (other, second) in callers.iter().enumerate() {
                let is_same = first.is(&secrets, &second.owner(&secrets));
                assert_eq!(is_same, one == other, "{first:?} and {second:?}");
            }
        }
    }
}
