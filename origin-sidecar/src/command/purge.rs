//! `spillway purge`: sidecars first, the edge after them. An edge that was purged first could fetch the old
//! answer again.

use super::settings;
use crate::operate::purge::PurgeRequest;
use crate::operate::{admin, reload};
use bytes::Bytes;
use http::request::Builder;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use net::https::{self, HttpsClient};
use rules::Rules;
use rules::cache::url_tag;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// One sidecar, or the edge.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer to a purge is a line.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Purges the sidecars, then the edge, and says what came of each.
///
/// # Errors
/// When one of them could not be purged; the others are.
pub async fn everywhere(settings: &settings::Purge, out: &mut dyn Write) -> Result<(), String> {
    let order = PurgeRequest {
        urls: settings.url.clone(),
        tags: settings.tag.clone(),
        all: settings.all,
        soft: settings.soft,
    };
    order.check().map_err(|why| why.to_string())?;
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
    order: &PurgeRequest,
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
    order: &PurgeRequest,
    rules: &Rules,
) -> Result<String, String> {
    let Some(token) = settings.edge_token.as_deref() else {
        return Err("no token: set SPILLWAY_EDGE_TOKEN to an API token with Cache Purge".to_owned());
    };
    if order.soft {
        return Err("the edge knows no soft purge; leave --zone or --soft out".to_owned());
    }
    let mut tags = order.tags.clone();
    let urls = order.stored_urls(rules).map_err(|why| why.to_string())?;
    tags.extend(urls.iter().map(|url| url_tag(url)));
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
