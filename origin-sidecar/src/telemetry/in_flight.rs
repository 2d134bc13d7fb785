//! Counts what is in flight. A drain waits for requests; streams last for as long as the
//! application wants.

use super::metrics::{Http, Metrics};
use super::streams::Stream;
use prometheus::IntGauge;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// A gRPC call without an answer for this long counts as a stream: before its first message a
/// stream looks like a slow call.
pub const UNARY_MAX: Duration = Duration::from_secs(10);

impl Http {
    fn gauge(&self, stream: Option<Stream>) -> &IntGauge {
        stream.map_or(&self.in_flight, |stream| self.streams.open(stream))
    }

    /// The connections that a drain waits for: those that carry no stream.
    pub fn plain_connections(&self) -> i64 {
        // Read in this order, a stream that ends in between is counted twice rather than not at
        // all.
        let all = self.connections.get();
        all - self.streams.connections.load(Ordering::Acquire)
    }
}

impl Metrics {
    /// Counts a request or an execution until the guard is dropped.
    pub fn in_flight(self: &Arc<Self>) -> InFlight<'_> {
        self.http.in_flight.inc();
        InFlight { metrics: self, stream: None }
    }

    /// Counts a stream that has its connection to itself.
    pub fn stream(self: &Arc<Self>, stream: Stream) -> (UnderWay, Carried) {
        let carrier = Arc::new(Carrier::new(self));
        (UnderWay::new(self, Some(stream)), Carried::new(&carrier))
    }

    /// Whether no request and no execution is in flight. Streams are ignored.
    pub fn is_idle(&self) -> bool {
        self.http.in_flight.get() == 0
    }

    pub fn has_streams(&self) -> bool {
        self.http.streams.open.iter().any(|open| open.get() > 0)
    }
}

/// Something in flight; see [`Metrics::in_flight`].
pub struct InFlight<'a> {
    metrics: &'a Arc<Metrics>,
    stream: Option<Stream>,
}

impl InFlight<'_> {
    /// A guard that outlives the current one.
    pub fn further(&self, stream: Option<Stream>) -> UnderWay {
        UnderWay::new(self.metrics, stream)
    }

    /// Waits for the answer of a gRPC call, which may turn out to be a stream.
    pub async fn call<T>(&mut self, mut call: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> T {
        if let Ok(answer) = timeout(UNARY_MAX, call.as_mut()).await {
            return answer;
        }
        let http = &self.metrics.http;
        http.gauge(Some(Stream::Grpc)).inc();
        http.gauge(self.stream.replace(Stream::Grpc)).dec();
        call.await
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.http.gauge(self.stream).dec();
    }
}

/// An answer in flight, or a stream.
pub struct UnderWay {
    metrics: Arc<Metrics>,
    stream: Option<Stream>,
}

impl UnderWay {
    fn new(metrics: &Arc<Metrics>, stream: Option<Stream>) -> Self {
        metrics.http.gauge(stream).inc();
        Self { metrics: Arc::clone(metrics), stream }
    }

    pub fn is_stream(&self) -> bool {
        self.stream.is_some()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.metrics.http.gauge(self.stream).dec();
    }
}

/// A client's connection, with the number of streams that it carries.
pub struct Carrier {
    metrics: Arc<Metrics>,
    streams: AtomicUsize,
}

impl Carrier {
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), streams: AtomicUsize::new(0) }
    }

    fn connections(&self) -> &AtomicI64 {
        &self.metrics.http.streams.connections
    }
}

/// One stream of a connection.
pub struct Carried(Arc<Carrier>);

impl Carried {
    pub fn new(carrier: &Arc<Carrier>) -> Self {
        if carrier.streams.fetch_add(1, Ordering::AcqRel) == 0 {
            carrier.connections().fetch_add(1, Ordering::AcqRel);
        }
        Self(Arc::clone(carrier))
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.connections().fetch_sub(1, Ordering::AcqRel);
        }
    }
}
