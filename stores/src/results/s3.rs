//! The results in Amazon S3, or a service that speaks its protocol. rusty-s3 signs and the program's own
//! client sends, because five calls do not need an SDK.

mod answer;
mod call;
mod credentials;
mod listing;

use super::{Condition, Listed, Object, PutError, Results, StoreError, key};
use answer::Refusal;
use aws_config::SdkConfig;
use bytes::Bytes;
use call::{Call, Payload};
use credentials::Credentials;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use net::boxed::{Boxed, ObjectBody};
use net::https::{HttpsClient, chain, client};
use rusty_s3::{Bucket, S3Action, UrlStyle};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// How long a call may take to the answer's head, with its retry. S3 usually answers within 100 ms.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The rate in bytes per second of the slowest upload that is waited for: a large body adds its own time.
const UPLOAD_RATE_MIN: u64 = 256 << 10;

/// How long a signature is good for: longer than any wait for a connection, well within the 15
/// minutes that clocks may differ.
const SIGNATURE_LIFE: Duration = Duration::from_secs(5 * 60);

/// The number of attempts: the first one and one retry.
const ATTEMPTS: usize = 2;

/// The results in a bucket. The names of its errors are `key-illegal`, `range`, `bucket-missing`,
/// `throttled`, `denied`, `unavailable`, `timeout`, `unreachable`, `not-sent`, `refused`, `store-failed`.
pub struct S3Results {
    client: HttpsClient,
    bucket: Bucket,
    /// The prefix of our keys: empty, or with a slash at its end.
    prefix: String,
    credentials: Credentials,
}

impl S3Results {
    /// Opens the bucket. Region, credentials and endpoint are those of `config` (`AWS_ENDPOINT_URL_S3` comes
    /// first). A custom endpoint is addressed in path style. S3 itself is not asked, because the sidecar has
    /// other things to do while it is away.
    pub async fn connect(
        config: &SdkConfig,
        bucket: String,
        prefix: String,
    ) -> Result<Self, String> {
        let own = std::env::var("AWS_ENDPOINT_URL_S3").ok().filter(|url| !url.is_empty());
        let endpoint = own.or_else(|| config.endpoint_url().map(str::to_owned));
        let region = match (&endpoint, config.region()) {
            (_, Some(region)) => region.as_ref().to_owned(),
            // A private S3 server has no regions; this one signs for all of them.
            (Some(_), None) => "us-east-1".to_owned(),
            (None, None) => return Err(format!("s3://{bucket}: set AWS_REGION")),
        };
        let credentials = Credentials::new(config)
            .ok_or_else(|| format!("s3://{bucket}: no AWS credentials are configured"))?;
        // This says at once what would otherwise show only with the first job.
        if let Err(error) = credentials.get().await {
            tracing::warn!(%bucket, %error, "calls to the result store will fail");
        }
        let bucket = address(endpoint, bucket, region)?;
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => {
                key::check(prefix).map_err(|error| format!("the prefix: {error}"))?;
                format!("{prefix}/")
            }
        };
        Ok(Self { client: client(), bucket, prefix, credentials })
    }

    /// Sends the call and waits for the answer's head.
    async fn call(&self, call: &Call<'_>) -> Result<Response<Incoming>, StoreError> {
        match call.listing {
            Some(_) => key::check_prefix(call.key)?,
            None => key::check(call.key)?,
        }
        let bound = CALL_TIMEOUT + Duration::from_secs(call.payload.length() / UPLOAD_RATE_MIN);
        let late = |_| StoreError { name: "timeout", detail: format!("no answer in {bound:?}") };
        timeout(bound, self.attempt(call)).await.map_err(late)?
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Response<Incoming>, StoreError> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let error = match self.client.request(self.request(call).await?).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Without a connection nothing was sent. Otherwise only an idempotent call is sent again: a
            // create whose answer was lost must not meet its own object.
            if left == 0 || !(error.is_connect() || call.idempotent) {
                return Err(StoreError { name: "unreachable", detail: chain(&error) });
            }
        }
    }

    async fn request(&self, call: &Call<'_>) -> Result<Request<ObjectBody>, StoreError> {
        let url = self.sign(call).await?;
        let mut request = Request::builder().method(call.method.clone()).uri(url);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if call.method == Method::PUT {
            request = request.header("content-length", call.payload.length());
        }
        let failed = |error: &dyn std::fmt::Display| store_failed(error.to_string());
        let body = call.payload.body().await.map_err(|error| failed(&error))?;
        request.body(body).map_err(|error| failed(&error))
    }

    async fn sign(&self, call: &Call<'_>) -> Result<String, StoreError> {
        let credentials = self.credentials.get().await?;
        let credentials = Some(&credentials);
        let key = format!("{}{}", self.prefix, call.key);
        if let Some((after, max)) = call.listing {
            let mut action = self.bucket.list_objects_v2(credentials);
            action.with_prefix(key);
            action.with_max_keys(max);
            if !after.is_empty() {
                action.with_start_after(format!("{}{after}", self.prefix));
            }
            return Ok(signed(action, &call.headers));
        }
        Ok(match call.method {
            Method::PUT => signed(self.bucket.put_object(credentials, &key), &call.headers),
            Method::HEAD => signed(self.bucket.head_object(credentials, &key), &call.headers),
            Method::DELETE => signed(self.bucket.delete_object(credentials, &key), &call.headers),
            _ => signed(self.bucket.get_object(credentials, &key), &call.headers),
        })
    }

    async fn write(
        &self,
        key: &str,
        payload: Payload<'_>,
        condition: Condition,
    ) -> Result<String, PutError> {
        let idempotent = condition == Condition::Always;
        let replaces = matches!(condition, Condition::IfMatch(_));
        let headers = match condition {
            Condition::Always => Vec::new(),
            Condition::IfAbsent => vec![("if-none-match", "*".to_owned())],
            Condition::IfMatch(etag) => vec![("if-match", etag)],
        };
        let call = Call { method: Method::PUT, key, headers, payload, listing: None, idempotent };
        let answer = self.call(&call).await.map_err(PutError::Failed)?;
        if answer.status().is_success() {
            return answer::etag(answer.headers()).map_err(PutError::Failed);
        }
        let refusal = Refusal::read(answer).await;
        match refusal.status {
            // S3 answers 409 while another conditional write of the same key is under way, which may win.
            StatusCode::PRECONDITION_FAILED => Err(PutError::Precondition),
            StatusCode::CONFLICT if !idempotent => Err(PutError::Precondition),
            // The object that was to be replaced is gone.
            StatusCode::NOT_FOUND if replaces && refusal.code == "NoSuchKey" => {
                Err(PutError::Precondition)
            }
            _ => Err(PutError::Failed(refusal.into_error())),
        }
    }

    async fn write_file(
        &self,
        key: &str,
        path: &Path,
        condition: Condition,
    ) -> Result<String, PutError> {
        let length = tokio::fs::metadata(path).await.map(|it| it.len());
        let length = length.map_err(|error| {
            PutError::Failed(store_failed(format!("{}: {error}", path.display())))
        })?;
        self.write(key, Payload::File(path, length), condition).await
    }

    async fn read(
        &self,
        key: &str,
        range: Option<(u64, u64)>,
    ) -> Result<Option<Object>, StoreError> {
        let headers = match range {
            None => Vec::new(),
            Some((first, last)) => vec![("range", format!("bytes={first}-{last}"))],
        };
        let answer = self.call(&Call::of(Method::GET, key, headers)).await?;
        let length = match answer.status() {
            StatusCode::OK if range.is_none() => answer::length(answer.headers())?,
            StatusCode::PARTIAL_CONTENT => answer::total(answer.headers())?,
            _ => return missing(Refusal::read(answer).await),
        };
        let etag = answer::etag(answer.headers())?;
        Ok(Some(Object { etag, length, body: answer::body(answer.into_body()) }))
    }

    async fn look(&self, key: &str) -> Result<Option<(String, u64)>, StoreError> {
        let answer = self.call(&Call::of(Method::HEAD, key, Vec::new())).await?;
        match answer.status() {
            StatusCode::OK => {
                Ok(Some((answer::etag(answer.headers())?, answer::length(answer.headers())?)))
            }
            // The answer to a HEAD has no document that would tell a missing bucket from a missing key.
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(Refusal::read(answer).await.into_error()),
        }
    }

    async fn keys(&self, prefix: &str, after: &str, max: usize) -> Result<Vec<Listed>, StoreError> {
        let listing = Some((after, max.clamp(1, listing::KEYS_MAX)));
        let call = Call { listing, ..Call::of(Method::GET, prefix, Vec::new()) };
        let answer = self.call(&call).await?;
        if answer.status() != StatusCode::OK {
            return Err(Refusal::read(answer).await.into_error());
        }
        listing::read(answer::body(answer.into_body()), &self.prefix).await
    }

    async fn address_of(
        &self,
        key: &str,
        life: Duration,
        headers: &[(String, String)],
    ) -> Result<String, StoreError> {
        key::check(key)?;
        let credentials = self.credentials.get().await?;
        let key = format!("{}{key}", self.prefix);
        let mut action = self.bucket.get_object(Some(&credentials), &key);
        for (name, value) in headers {
            action.query_mut().insert(format!("response-{name}"), value.clone());
        }
        Ok(action.sign(life).to_string())
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let answer = self.call(&Call::of(Method::DELETE, key, Vec::new())).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        missing::<()>(Refusal::read(answer).await).map(|_| ())
    }
}

impl Results for S3Results {
    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>> {
        Box::pin(self.write(key, Payload::Bytes(body), condition))
    }

    fn put_file<'a>(
        &'a self,
        key: &'a str,
        path: &'a Path,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>> {
        Box::pin(self.write_file(key, path, condition))
    }

    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<(u64, u64)>,
    ) -> Boxed<'a, Result<Option<Object>, StoreError>> {
        Box::pin(self.read(key, range))
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(String, u64)>, StoreError>> {
        Box::pin(self.look(key))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), StoreError>> {
        Box::pin(self.remove(key))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        max: usize,
    ) -> Boxed<'a, Result<Vec<Listed>, StoreError>> {
        Box::pin(self.keys(prefix, after, max))
    }

    fn signed_url<'a>(
        &'a self,
        key: &'a str,
        life: Duration,
        headers: &'a [(String, String)],
    ) -> Boxed<'a, Result<Option<String>, StoreError>> {
        Box::pin(async move { self.address_of(key, life, headers).await.map(Some) })
    }

    fn is_billed(&self) -> bool {
        true
    }

    fn bucket(&self) -> &str {
        self.bucket.name()
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// The URL of the bucket.
fn address(endpoint: Option<String>, name: String, region: String) -> Result<Bucket, String> {
    // Amazon's certificates cover one label before `s3.`, so a name with a dot goes into the path.
    let in_path = endpoint.is_some() || name.contains('.');
    let style = if in_path { UrlStyle::Path } else { UrlStyle::VirtualHost };
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.{domain}"));
    let url = endpoint.parse().map_err(|error| format!("the S3 endpoint {endpoint:?}: {error}"))?;
    Bucket::new(url, style, name.clone(), region)
        .map_err(|error| format!("s3://{name} at {endpoint}: {error}"))
}

/// The URL to call, with the signature in its query, and the signed headers.
fn signed<'a>(mut action: impl S3Action<'a>, headers: &[(&'static str, String)]) -> String {
    for (name, value) in headers {
        action.headers_mut().insert(*name, value.clone());
    }
    action.sign(SIGNATURE_LIFE).to_string()
}

/// Whether a refusal may only mean that there is no such key.
fn missing<T>(refusal: Refusal) -> Result<Option<T>, StoreError> {
    if refusal.status == StatusCode::NOT_FOUND && refusal.code != "NoSuchBucket" {
        return Ok(None);
    }
    Err(refusal.into_error())
}

fn store_failed(detail: String) -> StoreError {
    StoreError { name: "store-failed", detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(endpoint: Option<&str>, name: &str, region: &str) -> String {
        let bucket = address(endpoint.map(str::to_owned), name.to_owned(), region.to_owned());
        bucket.expect("an address").object_url("a/b").to_string()
    }

    #[test]
    fn addresses() {
        assert_eq!(url(None, "jobs", "eu-west-1"), "https://jobs.s3.eu-west-1.amazonaws.com/a/b");
        assert_eq!(
            url(None, "my.jobs", "cn-north-1"),
            "https://s3.cn-north-1.amazonaws.com.cn/my.jobs/a/b"
        );
        assert_eq!(url(Some("http://127.0.0.1:9"), "jobs", "x"), "http://127.0.0.1:9/jobs/a/b");
        assert!(address(Some("nonsense".into()), "jobs".into(), "x".into()).is_err());
    }

    #[test]
    fn conditions_are_signed() {
        let bucket = address(None, "jobs".into(), "eu-west-1".into()).expect("an address");
        let credentials = rusty_s3::Credentials::new("key", "secret");
        let condition = [("if-none-match", "*".to_owned())];
        let url = signed(bucket.put_object(Some(&credentials), "a"), &condition);
        assert!(url.contains("X-Amz-SignedHeaders=host%3Bif-none-match"), "{url}");
        assert!(url.contains("X-Amz-Expires=300"), "{url}");
    }
}
