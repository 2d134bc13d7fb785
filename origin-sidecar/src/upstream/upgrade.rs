//! WebSocket: forwards the upgrade and joins the two byte streams.

use super::client::Client;
use super::forward;
use super::outgoing::{Failure, Outgoing};
use crate::message::body::Body;
use crate::telemetry::streams::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http1::server::Exchange;

/// Forwards the request with its `Upgrade` and, when the upstream agrees, joins both ends.
pub(crate) async fn pass(
    client: &Client,
    mut outgoing: Outgoing,
    exchange: &Exchange,
) -> Result<Response<Body>, Failure> {
    outgoing.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    outgoing.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let response = forward::send(client, &mut outgoing).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    if let Some((mut server, guards)) = body.into_upgraded() {
        let open = client.metrics.stream(Stream::Upgrade);
        exchange.upgrade(|mut client| async move {
            let _until_its_end = (guards, open);
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                tracing::debug!(%error, "upgraded connection ended");
            }
        });
    }
    Ok(Response::from_parts(parts, Body::empty()))
}
