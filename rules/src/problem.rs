//! Every reason for which Spillway itself refuses a request (RFC 9457 problem types).

/// A named refusal. The name is the problem type, the log field and the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    PathAmbiguous,
    NoRoute,
    HookPath,
    KeyMissing,
    KeyInvalid,
    KeyUnmapped,
    CrossShard,
    ShardUnavailable,
    ShardLoop,
    BodyTooLarge,
    NoRoom,
    OffloadUnavailable,
    OffloadUnauthorized,
    CrossSite,
    WaitOver,
    IdempotencyMismatch,
    AlreadyAnswered,
    JobUnknown,
    JobExpired,
    JobUnfinished,
    JobEnded,
    JobRunning,
    TooManyWatchers,
    SignatureMissing,
    SignatureInvalid,
    SignatureUnchecked,
    UpstreamUnreachable,
    UpstreamTimeout,
    TotalTimeout,
    UpstreamInvalid,
    ConnectRefused,
    BadRequest,
    ForwardedConflict,
    MethodOverride,
    TargetTooLong,
    HeadTooLarge,
    CodingUnknown,
    VersionUnsupported,
    Overloaded,
    RouteBusy,
    RulesUnreadable,
    DemoRules,
    Internal,
}

impl Problem {
    pub const ALL: [Self; 43] = [
        Self::PathAmbiguous,
        Self::NoRoute,
        Self::HookPath,
        Self::KeyMissing,
        Self::KeyInvalid,
        Self::KeyUnmapped,
        Self::CrossShard,
        Self::ShardUnavailable,
        Self::ShardLoop,
        Self::BodyTooLarge,
        Self::NoRoom,
        Self::OffloadUnavailable,
        Self::OffloadUnauthorized,
        Self::CrossSite,
        Self::WaitOver,
        Self::IdempotencyMismatch,
        Self::AlreadyAnswered,
        Self::JobUnknown,
        Self::JobExpired,
        Self::JobUnfinished,
        Self::JobEnded,
        Self::JobRunning,
        Self::TooManyWatchers,
        Self::SignatureMissing,
        Self::SignatureInvalid,
        Self::SignatureUnchecked,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::TotalTimeout,
        Self::UpstreamInvalid,
        Self::ConnectRefused,
        Self::BadRequest,
        Self::ForwardedConflict,
        Self::MethodOverride,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::CodingUnknown,
        Self::VersionUnsupported,
        Self::Overloaded,
        Self::RouteBusy,
        Self::RulesUnreadable,
        Self::DemoRules,
        Self::Internal,
    ];

    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        self.facts().1
    }

    /// What a client of gRPC is told instead: the code that its makers give for the status
    /// (http-grpc-status-mapping), or a closer one where there is one.
    pub fn grpc_status(self) -> u16 {
        match self {
            Self::BodyTooLarge | Self::HeadTooLarge | Self::TargetTooLong => 8,
            // It may have been done: one that repeats what was UNAVAILABLE must not repeat it.
            Self::UpstreamTimeout | Self::TotalTimeout => 4,
            _ => match self.status() {
                401 => 16,
                404 | 405 => 12,
                429 | 502 | 503 | 504 => 14,
                400..=499 => 3,
                _ => 13,
            },
        }
    }

    /// One sentence for the person who reads the answer.
    pub fn title(self) -> &'static str {
        self.facts().2
    }

    /// What to do about it, for the page at the problem's type URI.
    pub fn remedy(self) -> &'static str {
        self.facts().3
    }

    #[rustfmt::skip]
    fn facts(self) -> (&'static str, u16, &'static str, &'static str) {
        match self {
            Self::PathAmbiguous => ("path-ambiguous", 400, "The path can be read in more than one way.", "Send the path without dot segments, empty segments and encoded separators, or let the route pass it: ambiguous_path = \"bypass\"."),
            Self::NoRoute => ("no-route", 404, "No route of the rules file matches.", "Add a route, or remove default = \"refuse\". `spillway explain METHOD URL` shows which routes were tried."),
            Self::HookPath => ("hook-path", 404, "This path is for notifications of finished jobs only.", "Nobody but Spillway's consumer may say that a job is finished. Give the queue's notify.app a path of its own."),
            Self::KeyMissing => ("key-missing", 400, "The request carries no shard key.", "Send the key where the route's shard.from looks for it."),
            Self::KeyInvalid => ("key-invalid", 400, "The shard key is not of the map's key type.", "Send an integer without sign and leading zeros, a UUID, text or an RFC 3339 timestamp, as the map's key_type says."),
            Self::KeyUnmapped => ("key-unmapped", 404, "No shard holds this key.", "Add a range to the shard map, raise `until`, or name a shard for all other keys: outside = \"…\"."),
            Self::CrossShard => ("cross-shard", 400, "The keys of this request lie on more than one shard.", "Ask for keys of one shard at a time, or give the route `scatter` (GET only)."),
            Self::ShardUnavailable => ("shard-unavailable", 503, "The shard that holds this key does not answer.", "Check the shard's upstream; retry after the time in Retry-After."),
            Self::ShardLoop => ("shard-loop", 508, "The request was forwarded to a shard that sends it on.", "Two sidecars, or edge and sidecar, disagree on who serves the request: compare their --shard, their upstreams and the map's epoch at /metrics."),
            Self::BodyTooLarge => ("body-too-large", 413, "The body is larger than the route allows.", "Send less, or raise the route's max_body."),
            Self::NoRoom => ("no-room", 503, "There is no room for the request's body at the moment.", "Nothing is started: retry after the time in Retry-After. The detail says whether memory or the spool is full; the operator gives the sidecar more memory, raises --spool-size, or runs more pods."),
            Self::OffloadUnavailable => ("offload-unavailable", 503, "The job could not be queued.", "Retry after the time in Retry-After, with the same Idempotency-Key if there was one; the detail says whether the job may be run all the same. The operator finds the cause in spillway_offload_requests_total by reason."),
            Self::OffloadUnauthorized => ("offload-unauthorized", 401, "The application did not accept the caller.", "Log in to the application first."),
            Self::CrossSite => ("cross-site", 403, "The request may come from a page of another site, and would run in the name of the user whose cookie it carries.", "Send it from a page of the application (Sec-Fetch-Site, Origin or Referer show it), or without a cookie. The operator names further pages in the route's cors, or lets the application decide: replay_as = \"caller\"."),
            Self::WaitOver => ("wait-over", 504, "The job has not ended within the time that a client of this route waits.", "It goes on: the detail names its address. Send Prefer: respond-async to get that at once, or raise the route's wait."),
            Self::IdempotencyMismatch => ("idempotency-mismatch", 422, "This Idempotency-Key was used with another request.", "Use a new key for a new request."),
            Self::AlreadyAnswered => ("already-answered", 409, "The request with this Idempotency-Key was answered before.", "The first answer was larger than what is kept of one, and the request is not executed again. Look for its effect in the application, or send another key."),
            Self::JobUnknown => ("job-unknown", 404, "There is no such job, or it is not yours.", "Use the Location of the 202 answer, with the same credentials."),
            Self::JobExpired => ("job-expired", 410, "The job's result is no longer kept.", "Start it again, or raise the queue's result_ttl."),
            Self::TooManyWatchers => ("too-many-watchers", 503, "Too many clients wait for jobs here.", "Ask for the status again after the time in Retry-After, without a stream."),
            Self::JobUnfinished => ("job-unfinished", 409, "The job has no result yet.", "Ask for the job's status first."),
            Self::JobEnded => ("job-ended", 409, "The job has its end.", "There is nothing left to do: the first end counts. If it was yours, its answer was lost; remove the message."),
            Self::JobRunning => ("job-running", 409, "The job is being run, or another ends it at this moment.", "Leave it to that one, or try again in a minute. The operator looks for consumers of Spillway's own on a queue that others work off."),
            Self::SignatureMissing => ("signature-missing", 401, "Only requests that the edge has signed are answered here.", "Ask by the public address, which leads through the edge. The operator lets a network in with --unsigned-from, or a route with require_signature = false."),
            Self::SignatureInvalid => ("signature-invalid", 401, "The request's signature is not one of the edge's that is still good.", "The detail names the reason. Compare SPILLWAY_EDGE_KEYS of edge and sidecar, their clocks, and whether anything between them changes host, path or query."),
            Self::SignatureUnchecked => ("signature-unchecked", 503, "Too many requests to tell a copy of one from the first.", "Retry after the time in Retry-After. The operator runs more pods: spillway_signatures_total says how often this happens."),
            Self::UpstreamUnreachable => ("upstream-unreachable", 502, "The application could not be reached.", "Check that the application listens where --app or --upstream says."),
            Self::UpstreamTimeout => ("upstream-timeout", 504, "The application did not answer in time.", "Raise the route's timeout, or offload the route."),
            Self::TotalTimeout => ("total-timeout", 504, "The request took longer than its route allows in all.", "Send or ask for less at once, raise the route's total_timeout, or offload the route."),
            Self::UpstreamInvalid => ("upstream-invalid", 502, "The application's answer was not valid HTTP.", "See the sidecar's log for the parse error."),
            Self::ConnectRefused => ("connect-refused", 405, "CONNECT is not served here.", "Spillway is a reverse proxy; use a forward proxy."),
            Self::BadRequest => ("bad-request", 400, "The request is not valid HTTP.", "See the detail."),
            Self::ForwardedConflict => ("forwarded-conflict", 400, "Forwarded and X-Forwarded-* say different things.", "The proxy in front must write both, or remove the one that it does not write. Without --forwarded-field, Forwarded is not believed."),
            Self::MethodOverride => ("method-override", 400, "The request names another method in a field, and rules of this path depend on the method.", "Send the method itself, or take the path out of the rules that depend on it: cache, shard, offload, limits and `methods`."),
            Self::TargetTooLong => ("target-too-long", 414, "The request target is too long.", "Send 16 KiB of path and query at most; what is longer belongs into a body."),
            Self::HeadTooLarge => ("head-too-large", 431, "The request head is too large.", "Send 32 KiB and 100 header lines at most, or as the operator says by --head-kib and --head-fields. Cookies that grow are the usual cause."),
            Self::CodingUnknown => ("coding-unknown", 501, "The body's transfer coding is not known.", "Send Transfer-Encoding: chunked, or Content-Length, and nothing else."),
            Self::VersionUnsupported => ("version-unsupported", 505, "The version of HTTP is not spoken here.", "Speak HTTP/1.1, HTTP/1.0 or HTTP/2."),
            Self::Overloaded => ("overloaded", 503, "The application has as much to do as it can.", "Retry after the time in Retry-After. The operator sees the limit in spillway_concurrency_limit; overload.concurrency sets it."),
            Self::RulesUnreadable => ("rules-unreadable", 503, "The sidecar has no rules that it can follow.", "The body of /ready on the admin port, and the log, say what is wrong with the rules file; once it is mended it is taken within a second."),
            Self::RouteBusy => ("route-busy", 503, "The route has as many requests under way as it may.", "Retry after the time in Retry-After, or raise the route's concurrency."),
            Self::DemoRules => ("demo-rules", 503, "This edge still has the rules of the demo.", "The operator names an origin in [edge] of routes.toml, or in SPILLWAY_ORIGIN, and deploys with `cargo xtask deploy`, which says what else is the demo's. On workers.dev and localhost the demo's rules are followed."),
            Self::Internal => ("internal", 500, "Spillway failed to handle the request.", "This is a bug: report it with the log line of this request."),
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.name() == name)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}
