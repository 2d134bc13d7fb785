//! WebSocket: forwards the upgrade and joins the two byte streams.

use super::client::Client;
use super::forward;
use super::outgoing::{Failure, Outgoing};
use crate::message::body::{Body, StreamEnd, UpgradedGuards};
use crate::telemetry::streams::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http1::server::Exchange;
use http1::stream::Upgraded;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, copy_bidirectional, sink};
use tokio::time::timeout;

/// How long an upstream may take to close its end once we have closed ours.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Forwards the request with its `Upgrade` and, when the upstream agrees, joins both ends, until `end` if
/// there is one.
pub(crate) async fn pass(
    client: &Client,
    mut outgoing: Outgoing,
    exchange: &Exchange,
    end: Option<StreamEnd>,
) -> Result<Response<Body>, Failure> {
    outgoing.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    outgoing.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let response = forward::send(client, &mut outgoing).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    if let Some((server, guards)) = body.into_upgraded() {
        let open = client.metrics.stream(Stream::Upgrade);
        exchange.upgrade(|client| async move {
            let _until_its_end = open;
            join(client, server, guards, end).await;
        });
    }
    Ok(Response::from_parts(parts, Body::empty()))
}

/// Carries bytes both ways until one end closes, or the stream must end.
async fn join(
    mut client: Upgraded,
    mut server: Upgraded,
    mut guards: UpgradedGuards,
    end: Option<StreamEnd>,
) {
    let end = async {
        match end {
            Some(end) => end.await,
            None => std::future::pending().await,
        }
    };
    let is_closed = tokio::select! {
        copied = copy_bidirectional(&mut client, &mut server) => {
            if let Err(error) = &copied {
                tracing::debug!(%error, "upgraded connection ended");
            }
            copied.is_ok()
        }
        () = end => {
            drop(client);
            close(&mut server).await
        }
    };
    if let Some(write) = guards.write.as_mut().filter(|_| is_closed) {
        write.settled();
    }
}

/// Closes our end, and waits for the upstream to close its own: then it has dealt with all that was sent.
async fn close(server: &mut Upgraded) -> bool {
    let closing = async {
        server.shutdown().await?;
        tokio::io::copy(server, &mut sink()).await
    };
    matches!(timeout(CLOSE_TIMEOUT, closing).await, Ok(Ok(_)))
}
