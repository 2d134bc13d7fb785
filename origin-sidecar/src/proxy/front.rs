//! Answers the requests of one connection.

use super::context::Worker;
use super::handle::handle;
use crate::message::body::{Body, BodySource};
use crate::message::reply;
use crate::request::inbound::Peer;
use http::Response;
use http1::Refusal;
use http1::block::Encoded;
use http1::head::{HeadLimits, RequestHead};
use http1::server::{self, Exchange, RequestBody, Tolerance};
use http1::slow::SlowPeer;
use rules::Problem;
use rules::document::UNMATCHED;
use std::net::IpAddr;
use std::sync::Arc;

/// The requests of one connection.
pub(super) struct Front {
    pub worker: Arc<Worker>,
    pub peer: Peer,
    pub(super) tolerance: Arc<Tolerance>,
    pub head: HeadLimits,
}

impl Front {
    /// The connection's entry among the slow peers.
    pub fn slow_peer(&self) -> SlowPeer {
        SlowPeer::new(&self.tolerance.slow, server::Service::address(self))
    }
}

impl server::Service for Front {
    type Body = Body;

    fn encoded(body: &Body) -> Option<Encoded<'_>> {
        body.encoded()
    }

    fn answer(
        &self,
        head: &mut RequestHead,
        body: RequestBody,
        exchange: Exchange,
    ) -> impl Future<Output = Response<Body>> + Send {
        handle(&self.worker, head, BodySource::Client(body).into(), &self.peer, Some(exchange))
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        let problem = match refusal {
            Refusal::TargetTooLong => Problem::TargetTooLong,
            Refusal::HeadTooLarge | Refusal::TooManyFields => Problem::HeadTooLarge,
            Refusal::Coding => Problem::CodingUnknown,
            Refusal::Version => Problem::VersionUnsupported,
            _ => Problem::BadRequest,
        };
        let metrics = &self.worker.context.metrics;
        metrics.http.problems.with_label_values(&[UNMATCHED, problem.name()]).inc();
        self.body_refused(refusal);
        tracing::debug!(peer = %self.peer.address, problem = problem.name(), reason = refusal.name(), "refused");
        reply::problem(
            &self.worker.context.active.rules().document.jobs.base,
            problem,
            &refusal.to_string(),
        )
    }

    fn broken(&self, error: &std::io::Error) -> Response<Body> {
        let problem = Problem::UpstreamInvalid;
        let metrics = &self.worker.context.metrics;
        metrics.http.problems.with_label_values(&[UNMATCHED, problem.name()]).inc();
        tracing::debug!(peer = %self.peer.address, problem = problem.name(), %error, "the client's request broke off");
        let base = &self.worker.context.active.rules().document.jobs.base;
        reply::problem(base, problem, &format!("the answer broke off: {error}"))
    }

    fn tolerance(&self) -> Option<&Tolerance> {
        Some(&self.tolerance)
    }

    fn head_limits(&self) -> HeadLimits {
        self.head
    }

    fn address(&self) -> Option<IpAddr> {
        (!self.peer.trust.is_named()).then_some(self.peer.address)
    }

    fn quiet(&self) {
        self.worker.let_go.notify_one();
    }

    fn body_refused(&self, refusal: Refusal) {
        self.worker.context.metrics.http.refused.with_label_values(&[refusal.name()]).inc();
    }
}
