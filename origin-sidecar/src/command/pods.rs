//! Calls to the admin ports of running processes.

use bytes::Bytes;
use http::header;
use http::request::Builder;
use http_body_util::{BodyExt, Full, Limited};
use net::https::{self, HttpsClient};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the name service may take.
const NAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Of an answer. The largest is a shard map.
const ANSWER_BYTES_MAX: usize = rules::shard::object::OBJECT_BYTES_MAX;

/// Every address of a name: a headless Service has one for each pod.
///
/// # Errors
/// When the name service does not answer, or knows no such name.
pub async fn addresses(name: &str) -> Result<BTreeSet<SocketAddr>, String> {
    let found = tokio::time::timeout(NAME_TIMEOUT, tokio::net::lookup_host(name)).await;
    let found = found.map_err(|_| "the name service does not answer".to_owned())?;
    Ok(found.map_err(|error| format!("{error}; write HOST:PORT of the admin port"))?.collect())
}

/// Sends a request with this body, and returns the text of a successful answer that came in time.
///
/// # Errors
/// The status and text of any other answer, or why there was none.
pub async fn send(
    client: &HttpsClient,
    request: Builder,
    token: Option<&str>,
    (body, timeout): (String, Duration),
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
    tokio::time::timeout(timeout, answered)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
}
