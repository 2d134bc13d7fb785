//! How far a request gets before something has to be waited for.

use super::context::Worker;
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::telemetry::spans::Span;
use http::Response;
use prometheus::IntCounter;
use rules::Problem;
use rules::document::Route;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A request that was answered at once, or the rest of its way.
pub enum Handled<'a> {
    Ready(Response<Body>),
    /// Something must be waited for first.
    Pending(Later<'a>),
}

/// In a box: a future is as large as its largest branch, and what the cache answers needs none.
pub type Later<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, Refused>> + Send + 'a>>;

/// How long a request may take in all.
pub struct Total {
    left: Duration,
    /// Counts answers that had begun and were cut off.
    cut: IntCounter,
}

impl Total {
    /// None where the route does not say.
    pub fn of(worker: &Worker, route: Option<&Route>, span: &Span) -> Option<Self> {
        let (route, total) = route.and_then(|route| Some((route, route.total_timeout?)))?;
        let labels = [&*route.name, Problem::TotalTimeout.name()];
        Some(Self {
            left: Duration::from(total).saturating_sub(span.took()),
            cut: worker.context.metrics.http.problems.with_label_values(&labels),
        })
    }
}

impl<'a> Handled<'a> {
    /// The same, but for what is not through by then, body included.
    pub fn within(self, total: Option<Total>) -> Self {
        let Some(Total { left, cut }) = total else { return self };
        Self::Pending(Box::pin(async move {
            let end = Instant::now() + left;
            match timeout_at(end, self.done()).await {
                Ok(answered) => Ok(answered?.map(|body| body.ending(end, cut))),
                Err(_) => Err(Refused::from(Problem::TotalTimeout)),
            }
        }))
    }

    pub async fn done(self) -> Result<Response<Body>, Refused> {
        match self {
            Self::Ready(response) => Ok(response),
            Self::Pending(rest) => rest.await,
        }
    }
}
