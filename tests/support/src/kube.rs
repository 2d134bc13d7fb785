//! As much of a Kubernetes API server as the webhook calls, and the call that it makes itself.

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inject::patch::{Operation, apply};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// Objects by path, each with a `resourceVersion` that the server itself counts.
#[derive(Clone, Default)]
pub struct Kube {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    version: Arc<Mutex<u64>>,
    /// Seconds by which its clock is ahead of the machine's.
    ahead: Arc<AtomicI64>,
    /// Whether nobody has the right to create objects.
    creates_nothing: Arc<AtomicBool>,
    url: String,
}

impl Kube {
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let kube = Self { url, ..Self::default() };
        let served = kube.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                let service = service_fn(move |request| {
                    let served = served.clone();
                    async move { Ok::<_, Infallible>(served.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        kube
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.objects.lock().expect("no panic").get(path).cloned()
    }

    /// Creates or replaces, whatever there was.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut version = self.version.lock().expect("no panic");
        *version += 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        self.objects.lock().expect("no panic").insert(path.to_owned(), object);
    }

    pub fn remove(&self, path: &str) {
        self.objects.lock().expect("no panic").remove(path);
    }

    /// Sets its clock, by which it dates its answers.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.ahead.store(seconds, Ordering::Relaxed);
    }

    /// Refuses to create Secrets from now on, as the rights of the chart do.
    pub fn create_no_secrets(&self) {
        self.creates_nothing.store(true, Ordering::Relaxed);
    }

    /// Everything whose path begins so.
    pub fn below(&self, path: &str) -> Vec<Value> {
        let objects = self.objects.lock().expect("no panic");
        let found = objects.iter().filter(|(own, _)| own.starts_with(path));
        found.map(|(_, object)| object.clone()).collect()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (status, answer) = self.act(&head.method, head.uri.path(), body);
        let mut response = Response::new(Full::from(answer.to_string()));
        *response.status_mut() = status.try_into().expect("a status");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
        let now = now.as_secs().saturating_add_signed(self.ahead.load(Ordering::Relaxed));
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        response.headers_mut().insert("date", date.parse().expect("a field"));
        response
    }

    fn act(&self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        let said = |status: u16, message: &str| (status, json!({ "message": message }));
        let known = self.get(path);
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        match (method.as_str(), known) {
            ("GET", Some(object)) => (200, object),
            ("POST", None)
                if path.ends_with("/secrets") && self.creates_nothing.load(Ordering::Relaxed) =>
            {
                said(403, "forbidden")
            }
            ("POST", None) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let own = format!("{path}/{name}");
                if self.get(&own).is_some() {
                    return said(409, "already exists");
                }
                self.put(&own, body.clone());
                (201, body)
            }
            ("PUT", Some(object)) if version(&object) != version(&body) => {
                said(409, "the object has been modified")
            }
            ("PUT", Some(_)) => {
                self.put(path, body.clone());
                (200, body)
            }
            ("PATCH", Some(object)) => match patched(object, &body) {
                Some(object) => {
                    self.put(path, object.clone());
                    (200, object)
                }
                None => said(422, "the test operation failed"),
            },
            _ => said(404, "not found"),
        }
    }
}

/// The operations `test` and `add`; nothing when a test fails.
fn patched(mut object: Value, patch: &Value) -> Option<Value> {
    for operation in patch.as_array()? {
        let path = operation["path"].as_str()?;
        match operation["op"].as_str()? {
            "test" if object.pointer(path) != Some(&operation["value"]) => return None,
            "add" => {
                let add = Operation::Add(path.to_owned(), operation["value"].clone());
                apply(&mut object, &[add]);
            }
            _ => {}
        }
    }
    Some(object)
}

/// A connection as an API server makes it: it knows these CAs and calls this name.
///
/// # Errors
/// When nobody listens, or the certificate is not one that it trusts.
///
/// # Panics
/// When the CAs are none.
pub async fn trusting(
    address: &str,
    ca: &str,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// An open connection for several reviews.
pub struct Reviews {
    sender: client::SendRequest<Full<Bytes>>,
    /// `/inject`, or where the configuration sends others.
    pub path: &'static str,
}

impl Reviews {
    /// # Panics
    /// When the other side speaks no HTTP.
    pub async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        Self { sender, path: "/inject" }
    }

    /// Whether it may be used again, as far as the client knows.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// The status and what is answered.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post(&mut self, body: impl Into<Bytes>) -> (u16, Bytes) {
        self.sender.ready().await.expect("an open connection");
        let request = Request::post(self.path)
            .header("host", "webhook")
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .expect("a request");
        let response = self.sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.expect("a body").to_bytes())
    }
}
