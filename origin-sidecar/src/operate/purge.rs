//! Purges a sidecar's cache (`POST /purge` on the admin port): answers under a URL or with a tag
//! are removed, or made stale.

use crate::proxy::context::ProxyContext;
use http::Method;
use http1::target::Target;
use memory_cache::purge::Target as Purged;
use memory_cache::store::Purge;
use rules::cache::urls;
use rules::{Rules, path};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Targets of one call: Cloudflare accepts 30 tags, and a person types fewer.
const TARGETS_MAX: usize = 30;

/// What is to be purged: the body of `POST /purge`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeRequest {
    pub urls: Vec<String>,
    pub tags: Vec<String>,
    pub all: bool,
    /// Makes answers stale instead of removing them.
    pub soft: bool,
}

/// What is wrong with a request to purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidPurge {
    Nothing,
    /// So many targets, more than [`TARGETS_MAX`].
    TooMany(usize),
    /// This URL has no host, or is none.
    NoHost(String),
    /// The path of this URL is read in different ways by different servers; how so.
    Path(String, &'static str),
}

impl fmt::Display for InvalidPurge {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => out.write_str("nothing is named: give a URL, a tag or all"),
            Self::TooMany(count) => {
                write!(out, "{count} URLs and tags; {TARGETS_MAX} at most in one call")
            }
            Self::NoHost(url) => {
                write!(out, "{url}: write it with its host: https://shop.example/p/1")
            }
            Self::Path(url, how) => write!(out, "{url}: {how}"),
        }
    }
}

impl PurgeRequest {
    /// Checks the request.
    ///
    /// # Errors
    /// When nothing is named, or too much.
    pub fn check(&self) -> Result<(), InvalidPurge> {
        match self.urls.len() + self.tags.len() {
            0 if !self.all => Err(InvalidPurge::Nothing),
            count if count > TARGETS_MAX => Err(InvalidPurge::TooMany(count)),
            _ => Ok(()),
        }
    }

    /// The URLs in the form under which answers are stored.
    ///
    /// # Errors
    /// Names the one that is none.
    pub fn stored_urls(&self, rules: &Rules) -> Result<BTreeSet<String>, InvalidPurge> {
        let mut found = BTreeSet::new();
        for url in &self.urls {
            let target = Target::read(&Method::GET, url.as_bytes()).ok();
            let asked = target.and_then(|own| Some((own.authority?, own.path_and_query)));
            let Some((authority, target)) = asked else {
                return Err(InvalidPurge::NoHost(url.clone()));
            };
            let host = authority.to_ascii_lowercase();
            let target = path::normalize(&target)
                .map_err(|ambiguous| InvalidPurge::Path(url.clone(), ambiguous.as_str()))?;
            let caching = rules.document.routes.iter().filter_map(|route| route.cache.as_ref());
            found.extend(urls(caching, &host, &target));
        }
        Ok(found)
    }
}

/// Purges this process's store, and returns how many answers.
///
/// # Errors
/// What is wrong with the order.
pub fn here(proxy: &ProxyContext, order: &PurgeRequest) -> Result<usize, InvalidPurge> {
    order.check()?;
    let urls = order.stored_urls(&proxy.active.rules())?;
    let how = if order.soft { Purge::Soft { now: proxy.clock.now() } } else { Purge::Hard };
    let urls = urls.iter().map(|url| Purged::Url(proxy.store.url(url)));
    let tags = order.tags.iter().map(|tag| Purged::Tag(tag.clone()));
    let all = order.all.then_some(Purged::All);
    let count = urls.chain(tags).chain(all).map(|target| proxy.store.purge(&target, how)).sum();
    if count > 0 && !order.soft {
        proxy.freed.give_back();
    }
    let how = if order.soft { "soft" } else { "hard" };
    proxy.metrics.cache.purged.with_label_values(&[how]).inc_by(count as u64);
    tracing::info!(?order, count, "purged");
    Ok(count)
}
