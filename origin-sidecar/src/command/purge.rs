//! `spillway purge`: purges the sidecars first, then the edge. An edge that was purged first could
//! fetch the old answer again.

use super::pods::{addresses, send};
use super::settings;
use crate::operate::purge::PurgeRequest;
use crate::operate::{admin, reload};
use http::Request;
use net::https::{self, HttpsClient};
use rules::Rules;
use rules::cache::url_tag;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one sidecar, or the edge, may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Purges the sidecars, then the edge, and prints the results.
///
/// # Errors
/// One of them could not be purged; the others are.
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
        match addresses(sidecars).await {
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

async fn one(
    client: &HttpsClient,
    pod: SocketAddr,
    token: Option<&str>,
    order: &PurgeRequest,
) -> Result<String, String> {
    let body = serde_json::to_string(order).map_err(|error| error.to_string())?;
    let request =
        Request::post(format!("http://{pod}/purge")).header(&admin::FIELD, admin::FIELD_VALUE);
    send(client, request, token, (body, TIMEOUT)).await
}

/// Purges the edge with Cloudflare's purge by tag. Every answer in the edge has a tag of its URL,
/// too.
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
    send(client, Request::post(url), Some(token), (body.to_string(), TIMEOUT))
        .await
        .map(|_| "purged".to_owned())
}
