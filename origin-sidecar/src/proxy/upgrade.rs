//! WebSocket and every other protocol change: two byte streams joined.

use super::Worker;
use super::forward::{self, Failure, Outgoing};
use crate::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

/// Sends the request on with its `Upgrade` and, when the upstream agrees, joins both ends.
pub(super) async fn pass(
    worker: &Worker,
    mut request: Request<Incoming>,
    mut outgoing: Outgoing,
    protocol: HeaderValue,
) -> Result<Response<Body>, Failure> {
    outgoing.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    outgoing.headers.insert(header::UPGRADE, protocol);
    let client = hyper::upgrade::on(&mut request);
    outgoing.body = Body::Incoming(request.into_body());
    let mut response = forward::send(worker, outgoing).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let server = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        let (client, server) = match tokio::try_join!(client, server) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "upgrade failed");
                return;
            }
        };
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
            tracing::debug!(%error, "upgraded connection ended");
        }
    });
    Ok(response.map(|_| Body::Empty))
}
