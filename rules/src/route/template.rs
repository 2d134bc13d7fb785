//! Path templates: the values of `match.path`.

use crate::path;
use std::cmp::{Ordering, Reverse};

/// A path template has at most this many segments: deeper paths are data, not routes.
const SEGMENTS_MAX: usize = 32;
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(String),
    /// A parameter with a suffix, such as `{name}.css`.
    Suffix {
        name: String,
        suffix: String,
    },
    Parameter(String),
    Rest(String),
}

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub(super) segments: Vec<Segment>,
    pub(super) ends_with_slash: bool,
}

impl Template {
    /// Parses a template such as `/api/{id}`, `/assets/{*file}` or `/feeds/{name}.xml`.
    ///
    /// # Errors
    /// One sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest =
            text.strip_prefix('/').ok_or_else(|| format!("`{text}` does not start with /"))?;
        let ends_with_slash = rest.ends_with('/') || rest.is_empty();
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let names: Vec<&str> = if rest.is_empty() { Vec::new() } else { rest.split('/').collect() };
        if names.len() > SEGMENTS_MAX {
            return Err(format!("more than {SEGMENTS_MAX} segments"));
        }
        let mut segments = Vec::with_capacity(names.len());
        let last = names.len().saturating_sub(1);
        for (index, name) in names.iter().enumerate() {
            let segment = Segment::parse(name)?;
            if matches!(segment, Segment::Rest(_)) && index != last {
                return Err("{*rest} is only possible at the end".to_owned());
            }
            segments.push(segment);
        }
        Ok(Self { segments, ends_with_slash })
    }

    /// The names of the parameters, in the order of the template.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Suffix { name, .. } | Segment::Parameter(name) | Segment::Rest(name) => {
                Some(name.as_str())
            }
        })
    }

    /// The template without its parameter names: equal for templates that match the same paths.
    pub fn shape(&self) -> String {
        let mut shape = String::new();
        for segment in &self.segments {
            shape.push('/');
            match segment {
                Segment::Literal(text) => {
                    shape.push_str(&text.replace('{', "{{").replace('}', "}}"));
                }
                Segment::Suffix { suffix, .. } => {
                    shape.push_str("{p}");
                    shape.push_str(suffix);
                }
                Segment::Parameter(_) => shape.push_str("{p}"),
                Segment::Rest(_) => shape.push_str("{*r}"),
            }
        }
        if shape.is_empty() { "/".to_owned() } else { shape }
    }

    pub(super) fn has_rest(&self) -> bool {
        matches!(self.segments.last(), Some(Segment::Rest(_)))
    }

    /// Whether the path (in normal form) matches, and every parameter's value is text.
    pub(super) fn matches(&self, path: &str) -> bool {
        let is_text = |_: &str, value: &str| {
            (!value.bytes().any(|it| it == b'%') || path::decode(value).is_some()).then_some(())
        };
        self.capture(path, is_text).is_some()
    }

    /// Calls `found` with each parameter and its encoded value until it returns `None`. `None` also
    /// when the path (in normal form) does not match.
    pub(super) fn capture<'a>(
        &'a self,
        path: &'a str,
        mut found: impl FnMut(&'a str, &'a str) -> Option<()>,
    ) -> Option<()> {
        let path = path.strip_prefix('/')?;
        let mut rest = Some(path.strip_suffix('/').unwrap_or(path));
        if rest == Some("") {
            rest = None;
        }
        for segment in &self.segments {
            if let Segment::Rest(name) = segment {
                return found(name, rest.unwrap_or_default());
            }
            let (own, others) = match path::until(rest?, b'/') {
                Some((own, others)) => (own, Some(others)),
                None => (rest?, None),
            };
            segment.capture(own, &mut found)?;
            rest = others;
        }
        rest.is_none().then_some(())
    }

    /// Orders templates: less is more specific. From left to right, literal > suffix > parameter >
    /// rest.
    pub(super) fn specificity(&self, other: &Self) -> Ordering {
        let mut left = self.segments.iter();
        let mut right = other.segments.iter();
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Ordering::Equal,
                // The longer template is more specific, and `/a` is more exact than `/a/{*rest}`.
                (Some(Segment::Rest(_)), None) => return Ordering::Greater,
                (None, Some(Segment::Rest(_))) => return Ordering::Less,
                (Some(_), None) => return Ordering::Less,
                (None, Some(_)) => return Ordering::Greater,
                (Some(own), Some(theirs)) => match own.rank().cmp(&theirs.rank()) {
                    Ordering::Equal => {}
                    unequal => return unequal,
                },
            }
        }
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(open) = text.find('{') else {
            if text.is_empty() || text.contains('}') {
                return Err(format!("`{text}` is not a segment"));
            }
            let path = format!("/{text}");
            let normal = path::normalize(&path)
                .map_err(|ambiguous| format!("`{text}`: {}", ambiguous.as_str()))?;
            return Ok(Self::Literal(normal.path.trim_start_matches('/').to_owned()));
        };
        let inner = text.get(open..).unwrap_or_default();
        let close = inner.find('}').ok_or_else(|| format!("`{text}`: {{ without }}"))?;
        let name = inner.get(1..close).unwrap_or_default();
        let suffix = inner.get(close + 1..).unwrap_or_default();
        if open != 0 || suffix.contains('{') {
            return Err(format!("`{text}`: a segment holds one parameter, at its start"));
        }
        let (is_rest, name) = name.strip_prefix('*').map_or((false, name), |name| (true, name));
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(legal) {
            return Err(format!("`{name}` is not a parameter name"));
        }
        let name = name.to_owned();
        match (is_rest, suffix) {
            (true, "") => Ok(Self::Rest(name)),
            (true, _) => Err("{*rest} takes no suffix".to_owned()),
            (false, "") => Ok(Self::Parameter(name)),
            (false, suffix) => Ok(Self::Suffix { name, suffix: suffix.to_owned() }),
        }
    }

    fn capture<'a>(
        &'a self,
        text: &'a str,
        found: &mut impl FnMut(&'a str, &'a str) -> Option<()>,
    ) -> Option<()> {
        match self {
            Self::Literal(own) => (own == text).then_some(()),
            Self::Suffix { name, suffix } => {
                let value = text.strip_suffix(suffix.as_str()).filter(|value| !value.is_empty())?;
                found(name, value)
            }
            Self::Parameter(name) => {
                if text.is_empty() {
                    return None;
                }
                found(name, text)
            }
            Self::Rest(_) => None,
        }
    }

    /// A longer suffix is more specific than a shorter one.
    fn rank(&self) -> (u8, Reverse<usize>) {
        match self {
            Self::Literal(_) => (0, Reverse(0)),
            Self::Suffix { suffix, .. } => (1, Reverse(suffix.len())),
            Self::Parameter(_) => (2, Reverse(0)),
            Self::Rest(_) => (3, Reverse(0)),
        }
    }
}
