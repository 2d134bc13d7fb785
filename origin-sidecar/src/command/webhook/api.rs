//! The webhook's calls to the Kubernetes API: Secret, configuration, events.
//!
//! It is a thin client on hyper and rustls, which are linked anyway: the `kube` crate and its types
//! take 130 s of CPU to compile.

use super::certificates::{Disagreement, agreed};
use crate::clock::{Clock, System};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use net::https::chain;
use net::tls::Authorities;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// How long a call may take: longer than in any working cluster.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer in bytes; a Secret has 1 MiB at most.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The folder in which a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Our name in the audit log and as the manager of fields.
const AGENT: &str = concat!("spillway-webhook/", env!("CARGO_PKG_VERSION"));

pub struct Api {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    token: PathBuf,
    /// By how many seconds our clock was ahead of the API server's at its last answer.
    offset: Mutex<Option<i64>>,
}

impl Api {
    /// Opens the given address, or the cluster in which this pod runs.
    ///
    /// # Errors
    /// Names what is missing outside of a cluster.
    pub fn open(address: Option<&str>) -> Result<Self, String> {
        let base = match address {
            Some(address) => address.trim_end_matches('/').to_owned(),
            None => in_cluster().ok_or(
                "not in a cluster: set --api, e.g. http://127.0.0.1:8001 of `kubectl proxy`",
            )?,
        };
        // Not needed for an address without TLS.
        let roots = match Authorities::of(&Path::new(ACCOUNT).join("ca.crt")) {
            Err(error) if base.starts_with("https://") => return Err(error),
            roots => roots.unwrap_or_else(|_| Authorities::none()),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(roots.client()?)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let token = Path::new(ACCOUNT).join("token");
        Ok(Self { client, base, token, offset: Mutex::default() })
    }

    /// By how many seconds our clock is ahead of the API server's, once that has answered.
    pub fn offset(&self) -> Option<i64> {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API server's time in seconds since 1970.
    ///
    /// # Errors
    /// It has not answered yet, or the two clocks are too far apart.
    pub fn now(&self) -> Result<u64, Disagreement> {
        let own = System.now().as_secs();
        agreed(own, self.offset().and_then(|ahead| own.checked_add_signed(-ahead)))
    }

    fn note_date(&self, headers: &HeaderMap) {
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let Some(theirs) = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) else {
            return;
        };
        let seconds = |own: u64| i64::try_from(own).unwrap_or(i64::MAX);
        let ahead = seconds(System.now().as_secs()) - seconds(theirs.as_secs());
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
    }

    /// Calls the API, and returns the status and the object.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        let what = format!("{method} {path}");
        let call = tokio::time::timeout(CALL_TIMEOUT, self.exchange(method, path, body));
        match call.await {
            Ok(answer) => answer.map_err(|error| format!("{what}: {error}")),
            Err(_) => Err(format!("{what}: no answer within {CALL_TIMEOUT:?}")),
        }
    }

    /// The minor version of Kubernetes 1, as far as the API server states it.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn minor_version(&self) -> Result<Option<u32>, String> {
        let (_, version) = self.call(Method::GET, "/version", None).await?;
        // Some servers say `29+`.
        let minor = version["minor"].as_str().unwrap_or_default();
        let digits = minor.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        Ok(digits.parse().ok())
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        // Every write names its manager.
        let manager = if method == Method::GET {
            String::new()
        } else {
            format!("?fieldManager={}", AGENT.replace('/', "%2F"))
        };
        let uri: Uri =
            format!("{}{path}{manager}", self.base).parse().map_err(|error| format!("{error}"))?;
        let kind = if method == Method::PATCH {
            "application/json-patch+json"
        } else {
            "application/json"
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::USER_AGENT, AGENT)
            .header(header::CONTENT_TYPE, kind);
        // Read for each call, because the kubelet renews it.
        if let Ok(token) = tokio::fs::read_to_string(&self.token).await {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| chain(&error))?;
        self.note_date(response.headers());
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

fn in_cluster() -> Option<String> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").ok()?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(format!("https://{host}:{port}"))
}
