//! Requests at a fixed rate, however slowly they are answered (no coordinated omission): a latency
//! counts from the moment the request was due.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;
use tokio::time::Instant;

/// A report's parameters.
const BODY_BYTES: usize = 600;

/// Sends so many requests at the rate; their latencies, sorted.
pub(crate) async fn send(address: &str, rate: u32, count: u32) -> Vec<Duration> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let body = Bytes::from(format!(r#"{{"report_params":"{}"}}"#, "x".repeat(BODY_BYTES)));
    let began = Instant::now();
    let requests: Vec<_> = (0..count)
        .map(|number| {
            let (client, address, body) = (client.clone(), address.to_owned(), body.clone());
            tokio::spawn(async move {
                let due = began + Duration::from_secs(1) * number / rate;
                tokio::time::sleep_until(due).await;
                let request = Request::post(address)
                    .header("content-type", "application/json")
                    .body(Full::new(body))
                    .expect("a request");
                let answer = client.request(request).await.expect("an answer");
                let status = answer.status().as_u16();
                let body = answer.into_body().collect().await.expect("a whole answer").to_bytes();
                assert_eq!(status, 202, "{}", String::from_utf8_lossy(&body));
                due.elapsed()
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for request in requests {
        latencies.push(request.await.expect("no panic"));
    }
    latencies.sort_unstable();
    latencies
}
