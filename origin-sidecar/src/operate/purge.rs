//! `spillway purge` and what it asks of each sidecar (`POST /purge` on the admin port): answers of a
//! URL or with a tag are forgotten, or made stale. Sidecars first, the edge after them: an edge that
//! was purged first could fetch the old answer again.

use super::{admin, reload};
use crate::command::app::App;
use crate::command::settings;
use bytes::Bytes;
use http::request::Builder;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use http1::target::Target;
use memory_cache::purge::Target as Purged;
use memory_cache::store::Purge;
use net::https::{self, HttpsClient};
use rules::cache::{url_tag, urls};
use rules::{Rules, path};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Targets of one call: Cloudflare takes 30 tags in one, and a person types fewer.
const TARGETS_MAX: usize = 30;
/// One sidecar, or the edge.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer to a purge is a line.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What is to be purged; the body of `POST /purge`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Order {
    pub urls: Vec<String>,
    pub tags: Vec<String>,
    pub all: bool,
    /// Made stale, not forgotten.
    pub soft: bool,
}

impl Order {
    /// # Errors
    /// When nothing is named, or too much.
    pub fn check(&self) -> Result<(), String> {
        match self.urls.len() + self.tags.len() {
            0 if !self.all => Err("nothing is named: give a URL, a tag or all".to_owned()),
            count if count > TARGETS_MAX => {
                Err(format!("{count} URLs and tags; {TARGETS_MAX} at most in one call"))
            }
            _ => Ok(()),
        }
    }

    /// The URLs as answers are stored under them.
    ///
    /// # Errors
    /// Names the one that is none.
    fn stored_urls(&self, rules: &Rules) -> Result<BTreeSet<String>, String> {
        let mut found = BTreeSet::new();
        for url in &self.urls {
            let target = Target::read(&Method::GET, url.as_bytes()).ok();
            let asked = target.and_then(|own| Some((own.authority?, own.path_and_query)));
            let Some((authority, target)) = asked else {
                return Err(format!("{url}: write it with its host: https://shop.example/p/1"));
            };
            let host = authority.to_ascii_lowercase();
            let target = path::normalize(&target)
                .map_err(|ambiguous| format!("{url}: {}", ambiguous.as_str()))?;
            let caching = rules.document.routes.iter().filter_map(|route| route.cache.as_ref());
            found.extend(urls(caching, &host, &target));
        }
        Ok(found)
    }
}

/// Purges this process's store; how many answers.
///
/// # Errors
/// What is wrong with the order.
pub fn here(app: &App, order: &Order) -> Result<usize, String> {
    order.check()?;
    let urls = order.stored_urls(&app.rules())?;
    let how = if order.soft { Purge::Soft { now: app.clock.now() } } else { Purge::Hard };
    let urls = urls.iter().map(|url| Purged::Url(app.store.url(url)));
    let tags = order.tags.iter().map(|tag| Purged::Tag(tag.clone()));
    let all = order.all.then_some(Purged::All);
    let count = urls.chain(tags).chain(all).map(|target| app.store.purge(&target, how)).sum();
    if count > 0 && !order.soft {
        app.give_back();
    }
    let how = if order.soft { "soft" } else { "hard" };
    app.metrics.cache.purged.with_label_values(&[how]).inc_by(count as u64);
    tracing::info!(?order, count, "purged");
    Ok(count)
}

/// Purges the sidecars, then the edge, and says what came of each.
///
/// # Errors
/// When one of them could not be purged; the others are.
pub async fn everywhere(settings: &settings::Purge, out: &mut dyn Write) -> Result<(), String> {
    let order = Order {
        urls: settings.url.clone(),
        tags: settings.tag.clone(),
        all: settings.all,
        soft: settings.soft,
    };
    order.check()?;
    let client = https::client();
    let mut failed = 0;
    let mut say = |who: &str, done: Result<String, String>| -> Result<(), String> {
        let text = done.unwrap_or_else(|why| {
            failed += 1;
            format!("FAILED: {why}")
        });
        writeln!(out, "{who}: {text}").map_err(|error| error.to_string())
    };
    for sidecars in &settings.sidecars {
        match pods(sidecars).await {
            Err(why) => say(sidecars, Err(why))?,
            Ok(pods) => {
                for pod in pods {
                    let done = one(&client, pod, settings.admin_token.as_deref(), &order).await;
                    say(&pod.to_string(), done)?;
                }
            }
        }
    }
    if let Some(zone) = &settings.zone {
        let rules = reload::load(&settings.routes)?;
        say("edge", edge(&client, settings, zone, &order, &rules).await)?;
    }
    if failed > 0 { Err(format!("{failed} not purged: call this again")) } else { Ok(()) }
}

/// Every address of a name: a headless Service has one for each pod.
async fn pods(name: &str) -> Result<BTreeSet<SocketAddr>, String> {
    let found = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host(name)).await;
    let found = found.map_err(|_| "the name service does not answer".to_owned())?;
    Ok(found.map_err(|error| format!("{error}; write HOST:PORT of the admin port"))?.collect())
}

async fn one(
    client: &HttpsClient,
    pod: SocketAddr,
    token: Option<&str>,
    order: &Order,
) -> Result<String, String> {
    let body = serde_json::to_string(order).map_err(|error| error.to_string())?;
    let request =
        Request::post(format!("http://{pod}/purge")).header(&admin::FIELD, admin::FIELD_VALUE);
    send(client, request, token, body).await
}

/// Cloudflare's purge by tag. Every answer the edge keeps has a tag of its URL, too.
async fn edge(
    client: &HttpsClient,
    settings: &settings::Purge,
    zone: &str,
    order: &Order,
    rules: &Rules,
) -> Result<String, String> {
    let Some(token) = settings.edge_token.as_deref() else {
        return Err("no token: set SPILLWAY_EDGE_TOKEN to an API token with Cache Purge".to_owned());
    };
    if order.soft {
        return Err("the edge knows no soft purge; leave --zone or --soft out".to_owned());
    }
    let mut tags = order.tags.clone();
    tags.extend(order.stored_urls(rules)?.iter().map(|url| url_tag(url)));
    let body = if order.all {
        serde_json::json!({ "purge_everything": true })
    } else {
        serde_json::json!({ "tags": tags })
    };
    let url = format!("{}/zones/{zone}/purge_cache", settings.edge_api);
    send(client, Request::post(url), Some(token), body.to_string())
        .await
        .map(|_| "purged".to_owned())
}

async fn send(
    client: &HttpsClient,
    request: Builder,
    token: Option<&str>,
    body: String,
) -> Result<String, String> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    let mut request = request.header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(body).map_err(|error| error.to_string())?;
    let answered = async {
        let response = client.request(request).await.map_err(|error| https::chain(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}")) }
    };
    tokio::time::timeout(TIMEOUT, answered)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
}
