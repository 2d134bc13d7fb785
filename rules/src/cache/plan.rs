//! Decides whether a request may use the cache, and under which key.

use super::control::CacheControl;
use super::key_part::{push, push_keys, push_number_part};
use super::meant::{as_meant, without_usual_port};
use super::reason::Bypass;
use super::tier::Tier;
use crate::document::{Cache, KeySource, Lifetime, Mode, QueryRest, Versioned};
use crate::head::{Head, cookie, has, joined, text_of};
use crate::path::{self, PathParameter, Target};
use crate::shard::{Resolved, ShardKeys};
use crate::time::Millis;
use crate::versioned::is_versioned;
use std::borrow::Cow;
use std::ops::Deref;

/// The field with a bearer's token, as rules name it.
pub const AUTHORIZATION: &str = "authorization";

/// The edge keeps a versioned asset for a year, in milliseconds (by the convention of RFC 8246
/// section 2).
const IMMUTABLE: Millis = Millis(31_536_000_000);

/// Which cookies reach the application, so that everything it sees is part of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cookies {
    /// The request has none, or all of them reach the application; then nothing is stored.
    Untouched,
    /// All cookies are removed.
    Removed,
    /// The listed ones, as a `Cookie` field value; `None` when the request has none of them.
    Only(Option<Vec<u8>>),
}

/// The rule of a plan: a reference, whose size a plan has.
#[derive(Debug, Clone)]
pub enum Rule<'r> {
    Of(&'r Cache),
    Own(Box<Cache>),
}

impl Deref for Rule<'_> {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        match self {
            Self::Of(rule) => rule,
            Self::Own(rule) => rule,
        }
    }
}

/// How a request uses the cache.
#[derive(Debug, Clone)]
pub struct Plan<'r> {
    /// `cache` of the route.
    pub rule: Rule<'r>,
    /// The cache that the plan is for.
    pub tier: Tier,
    /// How long the rule keeps answers in this tier.
    pub lifetime: Lifetime,
    /// The cache key. Its parts are length-prefixed, so that it is unambiguous.
    pub key: String,
    /// Whether the path contains a version: the answer never changes.
    pub is_versioned: bool,
    /// Whether one answer serves pages of every origin.
    pub is_for_all_origins: bool,
    /// The request has `Authorization`.
    pub has_authorization: bool,
    /// Whether [`Plan::seal`] has put the request's token into the key.
    pub is_sealed: bool,
    /// Whether the request is HEAD: it is answered from what a GET fetches.
    pub is_head: bool,
    /// Host and target as the client asked for them: the URL that all answers under it share.
    pub url: String,
    /// How many bytes of `url` are the host.
    host_bytes: usize,
    /// Whether the URL is already in the form in which people write it, as most are.
    is_plain: bool,
    /// Which of the request's cookies the application gets.
    pub cookies: Cookies,
    /// Request fields in which the shard key may be; they are part of the cache key.
    pub shard_headers: Vec<String>,
    /// Request fields (lower case) that answers of the route are known to vary by. They are sent to
    /// the origin, and keep answers apart. Whoever remembers them sets this.
    pub learned: Vec<String>,
    /// The rule's tags, with the route's parameters filled in.
    pub tags: Vec<String>,
    /// `Cache-Control: only-if-cached` (RFC 9111 section 5.2.1.7).
    pub only_if_cached: bool,
}

impl Plan<'_> {
    /// The target to fetch: exactly what the key covers.
    pub fn target(&self) -> &str {
        self.url.get(self.host_bytes..).unwrap_or_default()
    }

    /// The URL in the form of [`as_meant`].
    pub fn url_as_meant(&self) -> Cow<'_, str> {
        if self.is_plain { Cow::Borrowed(&self.url) } else { as_meant(&self.url) }
    }

    /// The host that the client asked for; the application gets it as `X-Forwarded-Host`.
    pub fn host(&self) -> &str {
        self.url.get(..self.host_bytes).unwrap_or_default()
    }

    /// Copies what is borrowed, for a fetch that outlives the request that started it.
    pub fn into_owned(self) -> Plan<'static> {
        let rule = match self.rule {
            Rule::Of(rule) => Rule::Own(Box::new(rule.clone())),
            Rule::Own(rule) => Rule::Own(rule),
        };
        Plan { rule, ..self }
    }
}

/// What a cached answer's key says of the request's shard.
#[derive(Clone, Copy)]
pub enum ShardPart<'a> {
    /// The owner, and since when it is: what the sidecar stores, and the edge for a map of the file.
    Resolved(&'a Resolved),
    /// The keys alone: the edge does not know the owners of a live map.
    Keyed {
        /// Name of the shard map.
        map: &'a str,
        /// The request's keys.
        keys: &'a ShardKeys,
    },
}

/// What a plan is made from.
pub struct Planned<'a, 'r> {
    /// `cache` of the route, where it has one.
    pub rule: Option<&'r Cache>,
    /// Whether one answer serves pages of all origins (the route has `versioned` and `cors = {
    /// origins = ["*"] }`).
    pub is_for_all_origins: bool,
    /// Hash of the cache rules, part of the key: entries stored under other rules are not found.
    pub policy_hash: &'a str,
    /// The cache that the plan is for.
    pub tier: Tier,
    /// The request.
    pub head: &'a Head<'a>,
    /// Its target in normal form.
    pub target: &'a Target<'a>,
    /// The path's parameters, decoded.
    pub parameters: &'a [PathParameter<'a>],
    /// The request's shard, which is part of the key.
    pub shard: Option<ShardPart<'a>>,
    /// Where the shard key may stand in a request.
    pub shard_from: &'a [KeySource],
}

/// Makes the plan for a request.
///
/// # Errors
/// The reason why the request bypasses the cache.
pub fn plan<'r>(from: &Planned<'_, 'r>) -> Result<Box<Plan<'r>>, Bypass> {
    let rule = from.rule.ok_or(Bypass::NoRule)?;
    match rule.mode {
        Mode::On => by_rule(rule, from),
        Mode::Observe => Err(Bypass::Observed),
        Mode::Off => Err(Bypass::Off),
    }
}

/// Makes the plan as if the rule were `on`.
fn by_rule<'r>(rule: &'r Cache, from: &Planned<'_, 'r>) -> Result<Box<Plan<'r>>, Bypass> {
    let head = from.head;
    let is_versioned = is_versioned(&from.target.path, rule.versioned);
    let lifetime = lifetime(rule, from.tier, is_versioned).ok_or(Bypass::OtherTier)?;
    if !head.is_get_or_head() {
        return Err(Bypass::Method);
    }
    if has(head.fields, "upgrade") {
        return Err(Bypass::Upgrade);
    }
    if has_body(head) {
        return Err(Bypass::Body);
    }
    if head.host.is_empty() {
        return Err(Bypass::NoHost);
    }
    let control = CacheControl::read(head.fields);
    if control.no_store {
        return Err(Bypass::RequestNoStore);
    }
    let cookies = cookies(rule, head, is_versioned)?;
    let query = query(rule, from.target.query.as_deref())?;
    let shard_headers = from.shard_from.iter().filter_map(|source| match source {
        KeySource::Header(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let shard_headers: Vec<String> = shard_headers.collect();
    let stated = stated_host(from);
    let host = stated.as_deref().unwrap_or(head.host);
    let key = key(rule, from, (host, &shard_headers), query.as_deref(), &cookies);
    Ok(Box::new(Plan {
        rule: Rule::Of(rule),
        tier: from.tier,
        lifetime,
        key,
        is_versioned,
        is_for_all_origins: from.is_for_all_origins,
        has_authorization: has(head.fields, AUTHORIZATION),
        is_sealed: false,
        is_head: head.method == "HEAD",
        url: url_of(host, &from.target.path, query.as_deref()),
        host_bytes: host.len(),
        is_plain: query.is_none() && without_usual_port(host).is_none(),
        cookies,
        shard_headers,
        learned: Vec::new(),
        tags: rule.tags.iter().map(|tag| fill(tag, from.parameters)).collect(),
        only_if_cached: control.only_if_cached,
    }))
}

/// The host that a trusted proxy says was asked for. The application gets it, so answers may depend
/// on it. An untrusted one was removed on arrival, and the edge trusts nobody.
fn stated_host(from: &Planned<'_, '_>) -> Option<String> {
    if from.tier == Tier::Edge {
        return None;
    }
    let stated = crate::forwarded::host(from.head.fields)?;
    (stated != from.head.host).then_some(stated)
}

fn lifetime(rule: &Cache, tier: Tier, is_versioned: bool) -> Option<Lifetime> {
    let own = match tier {
        Tier::Edge => rule.edge,
        Tier::Sidecar => rule.sidecar,
    };
    match (own, tier) {
        (_, Tier::Edge) if is_versioned => Some(Lifetime::Fixed(IMMUTABLE)),
        // A name without a version on a versioned route is revalidated: the origin's directives
        // count.
        (None, Tier::Edge) if rule.versioned != Versioned::No => Some(Lifetime::FromOrigin),
        (own, _) => own,
    }
}

fn has_body(head: &Head<'_>) -> bool {
    let length = joined(head.fields, "content-length");
    length.is_some_and(|length| length != "0") || has(head.fields, "transfer-encoding")
}

fn cookies(rule: &Cache, head: &Head<'_>, is_versioned: bool) -> Result<Cookies, Bypass> {
    if !is_versioned && bypasses(rule, head) {
        return Err(Bypass::BypassCookie);
    }
    if !rule.cookies.is_empty() {
        let pair =
            |name: &String| Some([name.as_bytes(), b"=", &cookie(head.fields, name)?].concat());
        let pairs: Vec<Vec<u8>> = rule.cookies.iter().filter_map(pair).collect();
        return Ok(Cookies::Only((!pairs.is_empty()).then(|| pairs.join(&b"; "[..]))));
    }
    // Browsers send the session cookie with every asset; the answer under a versioned name can't
    // depend on it.
    if rule.ignore_cookies || is_versioned || !rule.bypass_cookies.is_empty() {
        return Ok(Cookies::Removed);
    }
    if has(head.fields, "cookie") { Err(Bypass::Cookie) } else { Ok(Cookies::Untouched) }
}

/// Whether the request has a cookie of `bypass_cookies` in any way that an application might read
/// it: in any case, in quotes, or after a comma. A cookie that only the application would recognise
/// is not sent to it.
fn bypasses(rule: &Cache, head: &Head<'_>) -> bool {
    let mut is_there = false;
    if rule.bypass_cookies.is_empty() {
        return false;
    }
    head.fields.each("cookie", &mut |line| {
        for pair in line.split(|byte| matches!(byte, b';' | b',')) {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'"';
            let name: Vec<u8> = name.iter().copied().filter(|byte| !is_blank(byte)).collect();
            let mut listed = rule.bypass_cookies.iter();
            is_there |= listed.any(|own| own.as_bytes().eq_ignore_ascii_case(&name));
        }
    });
    is_there
}

fn url_of(host: &str, path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => [host, path, "?", query].concat(),
        None => [host, path].concat(),
    }
}

/// The URLs ([`Plan::url`]) under which answers to this target may be stored, one for each way in
/// which routes drop query parameters. For purges, which do not know the request's header fields.
pub fn urls<'r>(
    rules: impl Iterator<Item = &'r Cache>,
    host: &str,
    target: &Target,
) -> Vec<String> {
    let own = target.query.as_deref();
    let mut urls = vec![url_of(host, &target.path, own)];
    for rule in rules.filter(|_| target.query.is_some()) {
        let Ok(query) = query(rule, own) else { continue };
        let url = url_of(host, &target.path, query.as_deref());
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls
}

fn query<'q>(rule: &Cache, query: Option<&'q str>) -> Result<Option<Cow<'q, str>>, Bypass> {
    let (Some(query), Some(keep)) = (query, &rule.query) else {
        return Ok(query.map(Cow::Borrowed));
    };
    let (kept, dropped) = path::filter_query(query, keep);
    if dropped && rule.query_rest == QueryRest::Bypass {
        return Err(Bypass::Query);
    }
    Ok(kept.map(Cow::Owned))
}

/// The cache key: everything that the answer may depend on, length-prefixed, so that no two
/// different requests have the same key.
fn key(
    rule: &Cache,
    from: &Planned<'_, '_>,
    (host, shard_headers): (&str, &[String]),
    query: Option<&str>,
    cookies: &Cookies,
) -> String {
    let mut key = String::with_capacity(160);
    key.push_str("3:GET");
    match from.head.scheme {
        "http" => key.push_str("4:http"),
        "https" => key.push_str("5:https"),
        other => push(&mut key, Some(other)),
    }
    push(&mut key, Some(from.head.host));
    if host != from.head.host {
        push(&mut key, Some(host));
    }
    push(&mut key, Some(&from.target.path));
    push(&mut key, query);
    push(&mut key, Some(from.policy_hash));
    // [`Plan::seal`] adds the token to the key.
    let told = |name: &&String| *name != AUTHORIZATION;
    for name in rule.headers.iter().chain(shard_headers).filter(told) {
        push(&mut key, joined(from.head.fields, name).as_deref());
    }
    if let Cookies::Only(value) = cookies {
        push(&mut key, value.as_deref().map(text_of).as_deref());
    }
    match from.shard {
        Some(ShardPart::Resolved(resolved)) => {
            push(&mut key, Some(resolved.map()));
            push_keys(&mut key, &resolved.keys);
            push(&mut key, Some(resolved.shard()));
            // Not the map's epoch: what moves empties the cache of the moved range alone.
            for range in resolved.ranges() {
                push_number_part(&mut key, range.since);
            }
        }
        Some(ShardPart::Keyed { map, keys }) => {
            push(&mut key, Some(map));
            push_keys(&mut key, keys);
        }
        None => {}
    }
    key
}

fn fill(tag: &str, parameters: &[PathParameter<'_>]) -> String {
    parameters
        .iter()
        .fold(tag.to_owned(), |tag, (name, value)| tag.replace(&format!("{{{name}}}"), value))
}
