//! Which route a request belongs to, with Gateway API precedence.
//!
//! `matchit` finds a template that matches the path in some 50 ns whatever their number. It
//! refuses `{*rest}` beside `{id}`, knows one answer only, and does not match a bare prefix; the
//! thin layer here groups equal shapes and keeps with each shape all routes whose templates
//! overlap it, most specific first, so that the next best route is tried when the method, a
//! header or a query parameter of the best does not fit.

mod overlaps;

use crate::document::{Match, Route};
use crate::head::{Head, first};
use crate::path;
use overlaps::Overlaps;
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;

/// A path template has at most so many segments: deeper paths are data, not routes.
const SEGMENTS_MAX: usize = 32;
/// Pairs of routes that can match the same path: each costs memory, and thousands of `/a/{x}` beside
/// thousands of `/{x}/b` are millions.
const OVERLAPS_MAX: usize = 1_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// `{name}.css`
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
    segments: Vec<Segment>,
    ends_with_slash: bool,
}

impl Template {
    /// `/api/{id}`, `/assets/{*file}`, `/feeds/{name}.xml`.
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

    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Suffix { name, .. } | Segment::Parameter(name) | Segment::Rest(name) => {
                Some(name.as_str())
            }
        })
    }

    /// The template with its parameter names taken away: equal for templates that match the same.
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

    fn has_rest(&self) -> bool {
        matches!(self.segments.last(), Some(Segment::Rest(_)))
    }

    /// Whether the path (normal form) matches, and every parameter's value is text.
    fn matches(&self, path: &str) -> bool {
        let is_text = |_: &str, value: &str| {
            (!value.bytes().any(|it| it == b'%') || path::decode(value).is_some()).then_some(())
        };
        self.capture(path, is_text).is_some()
    }

    /// Tells `found` of each parameter and its encoded value, until it says no; `None` also when the
    /// path (normal form) does not match.
    fn capture<'a>(
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

    /// Less is more specific: left to right, literal > suffix > parameter > rest.
    fn specificity(&self, other: &Self) -> Ordering {
        let mut left = self.segments.iter();
        let mut right = other.segments.iter();
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Ordering::Equal,
                // The longer template says more, and `/a` is more exact than `/a/{*rest}`.
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

    /// A longer suffix says more than a shorter one.
    fn rank(&self) -> (u8, Reverse<usize>) {
        match self {
            Self::Literal(_) => (0, Reverse(0)),
            Self::Suffix { suffix, .. } => (1, Reverse(suffix.len())),
            Self::Parameter(_) => (2, Reverse(0)),
            Self::Rest(_) => (3, Reverse(0)),
        }
    }
}

/// Why a route that matches the path was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    Path,
    Slash,
    Host,
    Method,
    Header,
    Query,
}

impl Miss {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Slash => "trailing slash",
            Self::Host => "host",
            Self::Method => "method",
            Self::Header => "header",
            Self::Query => "query",
        }
    }
}

/// All routes, indexed.
#[derive(Default)]
pub struct Router {
    exact: matchit::Router<usize>,
    rest: matchit::Router<usize>,
    /// Per shape: the routes that can match where the shape does, most specific first. Indexes into
    /// the document's routes.
    leaves: Vec<Vec<usize>>,
    /// As the document's routes.
    templates: Vec<Template>,
}

/// The route of a request.
pub struct Found<'r> {
    pub index: usize,
    template: &'r Template,
}

impl Found<'_> {
    /// The path's parameters, decoded.
    pub fn parameters(&self, path: &str) -> Vec<(String, String)> {
        let mut parameters = Vec::new();
        let keep = |name: &str, value: &str| {
            parameters.push((name.to_owned(), path::decode(value)?));
            Some(())
        };
        // It matched, or this would not have been found.
        let _ = self.template.capture(path, keep);
        parameters
    }

    /// The same, if the rules of the route read any: most do not.
    pub fn parameters_for(&self, route: &Route, path: &str) -> Vec<(String, String)> {
        let has_tags = route.cache.as_ref().is_some_and(|rule| !rule.tags.is_empty());
        if has_tags || route.shard.is_some() { self.parameters(path) } else { Vec::new() }
    }
}

impl Router {
    /// # Errors
    /// Names the route whose template can't be indexed.
    pub fn new(routes: &[Route]) -> Result<Self, String> {
        let mut templates = Vec::with_capacity(routes.len());
        for route in routes {
            templates.push(
                Template::parse(&route.matches.path)
                    .map_err(|reason| format!("route {}: {reason}", route.name))?,
            );
        }
        let mut router = Self::default();
        let overlaps = Overlaps::new(&templates);
        let (mut shapes, mut count) = (BTreeSet::new(), 0);
        for template in &templates {
            let shape = template.shape();
            if shapes.contains(&shape) {
                continue;
            }
            router.insert(template, &shape)?;
            let own = overlaps.of(template);
            count += own.len();
            if count > OVERLAPS_MAX {
                return Err(format!("more than {OVERLAPS_MAX} pairs of routes overlap"));
            }
            router.leaves.push(candidates(own, &templates, routes));
            shapes.insert(shape);
        }
        router.templates = templates;
        Ok(router)
    }

    fn insert(&mut self, template: &Template, shape: &str) -> Result<(), String> {
        let leaf = self.leaves.len();
        let failed = |error: matchit::InsertError| format!("{shape}: {error}");
        if !template.has_rest() {
            return self.exact.insert(shape, leaf).map_err(failed);
        }
        self.rest.insert(shape, leaf).map_err(failed)?;
        // `{*rest}` also matches the bare prefix, which matchit does not.
        let prefix = shape.strip_suffix("/{*r}").unwrap_or(shape);
        let prefix = if prefix.is_empty() { "/" } else { prefix };
        self.rest.insert(prefix, leaf).map_err(failed)
    }

    /// Finds the route of a request whose path is in normal form.
    pub fn find(
        &self,
        routes: &[Route],
        head: &Head<'_>,
        path: &str,
        query: Option<&str>,
    ) -> Option<Found<'_>> {
        self.walk(routes, head, path, query, &mut |_, _| {})
    }

    /// The routes whose templates may match a path.
    fn candidates(&self, path: &str) -> impl Iterator<Item = (usize, &Template)> {
        let bare = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
        let leaf = self.exact.at(bare).or_else(|_| self.rest.at(bare)).ok();
        let routes = leaf.and_then(|leaf| self.leaves.get(*leaf.value)).into_iter().flatten();
        routes.filter_map(|route| Some((*route, self.templates.get(*route)?)))
    }

    /// The routes that match path and host, whatever else they ask for.
    pub(crate) fn of_path<'r>(
        &'r self,
        routes: &'r [Route],
        host: &'r str,
        path: &'r str,
    ) -> impl Iterator<Item = &'r Route> {
        let matching = self.candidates(path).filter(move |(_, template)| template.matches(path));
        let matching = matching.filter_map(move |(index, _)| routes.get(index));
        matching.filter(move |route| is_for_host(&route.matches, host))
    }

    /// As [`Router::find`]; tells `miss` of each route that was considered and not taken.
    pub fn walk(
        &self,
        routes: &[Route],
        head: &Head<'_>,
        path: &str,
        query: Option<&str>,
        miss: &mut dyn FnMut(usize, Miss),
    ) -> Option<Found<'_>> {
        for (index, template) in self.candidates(path) {
            let Some(route) = routes.get(index) else { continue };
            if !template.matches(path) {
                miss(index, Miss::Path);
                continue;
            }
            match misses(&route.matches, template, head, path, query) {
                None => return Some(Found { index, template }),
                Some(reason) => miss(index, reason),
            }
        }
        None
    }
}

/// The routes of these indexes, in the order of the Gateway API: path, then method, headers, query
/// parameters; then file order.
fn candidates(mut indexes: Vec<usize>, templates: &[Template], routes: &[Route]) -> Vec<usize> {
    let count = |route: &Route| {
        let own = &route.matches;
        (
            Reverse(usize::from(!own.hosts.is_empty())),
            Reverse(usize::from(!own.methods.is_empty())),
            Reverse(own.headers.len()),
            Reverse(own.query.len()),
        )
    };
    indexes.sort_by(|left, right| {
        let path = templates.get(*left).zip(templates.get(*right));
        path.map_or(Ordering::Equal, |(left, right)| left.specificity(right))
            .then_with(|| routes.get(*left).map(count).cmp(&routes.get(*right).map(count)))
            .then_with(|| left.cmp(right))
    });
    indexes
}

fn is_for_host(own: &Match, host: &str) -> bool {
    let is_own =
        |own: &String| own == host || path::until(host, b':').is_some_and(|(host, _)| own == host);
    own.hosts.is_empty() || own.hosts.iter().any(is_own)
}

fn misses(
    own: &Match,
    template: &Template,
    head: &Head<'_>,
    path: &str,
    query: Option<&str>,
) -> Option<Miss> {
    if own.strict_slash && path.len() > 1 && path.ends_with('/') != template.ends_with_slash {
        return Some(Miss::Slash);
    }
    if !is_for_host(own, head.host) {
        return Some(Miss::Host);
    }
    // HEAD is answered where GET is.
    let is_method =
        |method: &String| method == head.method || (method == "GET" && head.method == "HEAD");
    if !own.methods.is_empty() && !own.methods.iter().any(is_method) {
        return Some(Miss::Method);
    }
    let has_header = |(name, value): (&String, &String)| {
        first(head.fields, name).is_some_and(|found| found == *value)
    };
    if !own.headers.iter().all(has_header) {
        return Some(Miss::Header);
    }
    let has_parameter = |(name, value): (&String, &String)| {
        path::query_values(query.unwrap_or_default(), name)
            .next()
            .is_some_and(|found| found == *value)
    };
    if !own.query.iter().all(has_parameter) {
        return Some(Miss::Query);
    }
    None
}
