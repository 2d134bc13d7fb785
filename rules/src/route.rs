//! Finds the route of a request, with the precedence of the Gateway API.
//!
//! `matchit` finds a template that matches the path in about 50 ns, whatever their number. But it
//! refuses `{*rest}` beside `{id}`, gives one answer only, and does not match a bare prefix. The
//! thin layer here groups equal shapes and keeps with each shape all routes whose templates overlap
//! it, most specific first, so that the next route is tried when the method, a header or a query
//! parameter of the best one does not match.

mod overlaps;
mod template;

pub use template::Template;

use crate::document::{Match, Route};
use crate::head::{Head, first};
use crate::path::{self, PathParameter};
use overlaps::Overlaps;
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;

/// Pairs of routes that can match the same path. Each pair costs memory, and thousands of `/a/{x}`
/// beside thousands of `/{x}/b` make millions.
const OVERLAPS_MAX: usize = 1_000_000;

/// Why a route that matches the path was not chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteMismatch {
    /// The path begins like the template, but is longer or shorter.
    Path,
    /// `strict_slash`: only one of path and template ends with a slash.
    Slash,
    /// The host is not one of `hosts`.
    Host,
    /// The method is not one of `methods`.
    Method,
    /// A field does not have its value in `headers`.
    Header,
    /// A parameter does not have its value in `query`.
    Query,
}

impl RouteMismatch {
    /// The text that `explain` prints.
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
    /// For each shape, the routes that can match where the shape does, most specific first, as
    /// indexes of the document's routes.
    leaves: Vec<Vec<usize>>,
    /// One for each of the document's routes, in their order.
    templates: Vec<Template>,
}

/// The route of a request.
pub struct Found<'r> {
    /// The route's position among the document's routes.
    pub index: usize,
    template: &'r Template,
}

impl<'r> Found<'r> {
    /// The path's parameters with their decoded values.
    pub fn parameters<'a>(&self, path: &'a str) -> Vec<PathParameter<'a>>
    where
        'r: 'a,
    {
        let mut parameters = Vec::new();
        let keep = |name: &'a str, value: &'a str| {
            parameters.push((name, path::decode(value)?));
            Some(())
        };
        // The template matches, because the route was found by it.
        let _ = self.template.capture(path, keep);
        parameters
    }

    /// The same parameters, but none where the route's rules read none, as most do.
    pub(crate) fn parameters_for<'a>(&self, route: &Route, path: &'a str) -> Vec<PathParameter<'a>>
    where
        'r: 'a,
    {
        let has_tags = route.cache.as_ref().is_some_and(|rule| !rule.tags.is_empty());
        if has_tags || route.shard.is_some() { self.parameters(path) } else { Vec::new() }
    }
}

impl Router {
    /// Indexes the routes.
    ///
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
        // `{*rest}` also matches the bare prefix, which matchit does not do.
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

    /// The routes that match path and host, whatever their other conditions.
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

    /// Finds a route as [`Router::find`] does, and calls `miss` for each route that was considered
    /// and rejected.
    pub fn walk(
        &self,
        routes: &[Route],
        head: &Head<'_>,
        path: &str,
        query: Option<&str>,
        miss: &mut dyn FnMut(usize, RouteMismatch),
    ) -> Option<Found<'_>> {
        for (index, template) in self.candidates(path) {
            let Some(route) = routes.get(index) else { continue };
            if !template.matches(path) {
                miss(index, RouteMismatch::Path);
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

/// Sorts routes by the precedence of the Gateway API: path, then method, headers, query parameters,
/// then file order.
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
) -> Option<RouteMismatch> {
    if own.strict_slash && path.len() > 1 && path.ends_with('/') != template.ends_with_slash {
        return Some(RouteMismatch::Slash);
    }
    if !is_for_host(own, head.host) {
        return Some(RouteMismatch::Host);
    }
    // A route for GET matches HEAD, too.
    let is_method =
        |method: &String| method == head.method || (method == "GET" && head.method == "HEAD");
    if !own.methods.is_empty() && !own.methods.iter().any(is_method) {
        return Some(RouteMismatch::Method);
    }
    let has_header = |(name, value): (&String, &String)| {
        first(head.fields, name).is_some_and(|found| found == *value)
    };
    if !own.headers.iter().all(has_header) {
        return Some(RouteMismatch::Header);
    }
    let has_parameter = |(name, value): (&String, &String)| {
        path::query_values(query.unwrap_or_default(), name)
            .next()
            .is_some_and(|found| found == *value)
    };
    if !own.query.iter().all(has_parameter) {
        return Some(RouteMismatch::Query);
    }
    None
}
