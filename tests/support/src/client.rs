//! A client that sees everything: no redirects followed, every status an answer.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// All lines of a field, joined; empty when it is absent.
    pub fn header(&self, name: &str) -> String {
        let lines = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        lines.collect::<Vec<_>>().join(", ")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What the sidecar's cache did: `hit; ttl=3`.
    pub fn cache(&self) -> String {
        let status = self.header("cache-status");
        let own = status.split(", ").filter(|member| member.starts_with("spillway-sidecar")).last();
        own.and_then(|member| member.split_once("; "))
            .map_or(String::new(), |(_, what)| what.to_owned())
    }

    /// The name of the problem, if the answer is one.
    pub fn problem(&self) -> String {
        let json = self.json();
        json["type"]
            .as_str()
            .and_then(|text| text.rsplit('/').next())
            .unwrap_or_default()
            .to_owned()
    }
}

#[derive(Clone)]
pub struct Client {
    base: String,
    client: Pooled<HttpConnector, Full<Bytes>>,
    headers: Vec<(String, String)>,
}

impl Client {
    pub fn new(base: String) -> Self {
        Self {
            base,
            client: Pooled::builder(TokioExecutor::new()).build_http(),
            headers: Vec::new(),
        }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// The same client with one more header on every request.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.push((name.to_owned(), value.to_owned()));
        other
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, "").await
    }

    pub async fn post(&self, target: &str, body: impl Into<Bytes>) -> Answer {
        self.send("POST", target, body).await
    }

    /// # Panics
    /// When there is no answer within [`crate::PATIENCE`].
    pub async fn send(&self, method: &str, target: &str, body: impl Into<Bytes>) -> Answer {
        match self.try_send(method, target, body).await {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {target}: {error}"),
        }
    }

    /// # Errors
    /// When there is no answer.
    pub async fn try_send(
        &self,
        method: &str,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{target}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).map_err(|error| error.to_string())?;
        let answered = tokio::time::timeout(crate::PATIENCE, async {
            let response =
                self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        });
        answered.await.map_err(|_| "no answer".to_owned())?
    }
}
