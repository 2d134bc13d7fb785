//! Every reason for which Spillway itself refuses a request (RFC 9457 problem types).

/// A named refusal. The name is the problem type, the log field and the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// Servers interpret the request's path in different ways, and a rule depends on it.
    PathAmbiguous,
    /// No route matches and the rules say `default = "refuse"`, or there is no such resource under
    /// the reserved prefix.
    NoRoute,
    /// A client asked for the path at which the application is notified of finished jobs.
    HookPath,
    /// No source of the route's `shard.from` is in the request.
    KeyMissing,
    /// The shard key is not of the map's `key_type`.
    KeyInvalid,
    /// No range of the shard map holds the key, and the map has no `outside`.
    KeyUnmapped,
    /// The request has several keys, which lie on different shards.
    CrossShard,
    /// The shard map is a live one, and this process has not seen it yet.
    MapUnknown,
    /// Another sidecar follows a newer version of the shard map, and this one could not settle it in time.
    MapBehind,
    /// The keys move to another shard, and the move took longer than a request may wait.
    RangeFenced,
    /// Another sidecar follows an older version of the shard map; it asks again with the newer one.
    StaleEpoch,
    /// The upstream of the key's shard can't be reached.
    ShardUnavailable,
    /// The request has passed more Spillway processes than a deployment has: it is in a loop.
    ShardLoop,
    /// The body is larger than `max_body`, `offload.max_body` or `shard.body_limit` allow.
    BodyTooLarge,
    /// The body must be buffered, and the memory or spool for bodies is full (backpressure).
    NoRoom,
    /// Queue or result store did not take the job, and the route does not run it inline.
    OffloadUnavailable,
    /// `auth.check` did not accept the caller, or the request names no caller.
    OffloadUnauthorized,
    /// A request with a user's cookie may come from a page of another site (cross-site request forgery).
    CrossSite,
    /// The client waited for the outcome of its job for as long as the route allows.
    WaitOver,
    /// The `Idempotency-Key` belongs to a job that was started by another request.
    IdempotencyMismatch,
    /// The `Idempotency-Key` belongs to a request whose answer was not kept.
    AlreadyAnswered,
    /// The id names no job, or one of another caller.
    JobUnknown,
    /// The result was kept for `result_ttl`, and is gone.
    JobExpired,
    /// The result was requested before the job has ended.
    JobUnfinished,
    /// An outcome was reported for a job that already has one.
    JobEnded,
    /// An outcome was reported by a caller that does not hold the job's lease.
    JobRunning,
    /// The limit of clients with streams of job events is reached.
    TooManyWatchers,
    /// The request must have a signature of the edge, and has none.
    SignatureMissing,
    /// The request's edge signature is invalid ([`crate::signature::Invalid`]).
    SignatureInvalid,
    /// Replay protection can't remember another signature.
    SignatureUnchecked,
    /// The application could not be connected to, or closed the connection before an answer.
    UpstreamUnreachable,
    /// There was no head of an answer within the route's `timeout`; or the request has
    /// `only-if-cached`, and nothing usable is stored.
    UpstreamTimeout,
    /// The exchange took longer than the route's `total_timeout`.
    TotalTimeout,
    /// What the application sent is not valid HTTP, or broke off.
    UpstreamInvalid,
    /// CONNECT asks for a tunnel (RFC 9110 section 9.3.6).
    ConnectRefused,
    /// What the client sent is not valid HTTP, or contradicts itself.
    BadRequest,
    /// A trusted proxy contradicts itself in `Forwarded` and `X-Forwarded-*`.
    ForwardedConflict,
    /// A field names another method than the request has, where a rule depends on the method.
    MethodOverride,
    /// The request target is longer than the limit.
    TargetTooLong,
    /// The request's head has more bytes or lines than the limits allow.
    HeadTooLarge,
    /// The transfer coding is not chunked (RFC 9112 section 6.1).
    CodingUnknown,
    /// The major version of HTTP is not supported (RFC 9110 section 15.6.6).
    VersionUnsupported,
    /// The upstream's concurrency limit is reached, and the request may neither be queued nor served stale
    /// (load shedding).
    Overloaded,
    /// The route's `concurrency` is reached.
    RouteBusy,
    /// The sidecar has never had valid rules, and refuses requests until it has.
    RulesUnreadable,
    /// The edge was deployed with the demo's rules, whose origin does not exist.
    DemoRules,
    /// A fault of Spillway's own.
    Internal,
}

impl Problem {
    /// All problems, for metric labels and the reference.
    pub const ALL: [Self; 47] = [
        Self::PathAmbiguous,
        Self::NoRoute,
        Self::HookPath,
        Self::KeyMissing,
        Self::KeyInvalid,
        Self::KeyUnmapped,
        Self::CrossShard,
        Self::MapUnknown,
        Self::MapBehind,
        Self::RangeFenced,
        Self::StaleEpoch,
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

    /// The stable name in the answer's `type`, in metrics and in logs.
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        self.facts().1
    }

    /// The status for a gRPC client: the code that gRPC's http-grpc-status-mapping gives for the
    /// HTTP status, or a more precise one.
    pub fn grpc_status(self) -> u16 {
        match self {
            Self::BodyTooLarge | Self::HeadTooLarge | Self::TargetTooLong => 8,
            // The request may have been executed: clients repeat UNAVAILABLE, and must not repeat
            // this one.
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

    /// One sentence for the reader of the answer (RFC 9457 section 3.1.3).
    pub fn title(self) -> &'static str {
        self.facts().2
    }

    /// What to do about it, for the page at the problem's type URI: first for the client, then for
    /// the operator. Backticks mark keys of the rules file, options and commands of `spillway`,
    /// fields and settings.
    pub fn remedy(self) -> &'static str {
        self.facts().3
    }

    #[rustfmt::skip]
    fn facts(self) -> (&'static str, u16, &'static str, &'static str) {
        match self {
            Self::PathAmbiguous => ("path-ambiguous", 400, "The path can be read in more than one way.", "Send the path without dot segments, empty segments and encoded separators. If the application needs such paths, let the route pass them: `ambiguous_path = \"bypass\"`."),
            Self::NoRoute => ("no-route", 404, "No route of the rules file matches this request.", "Check method, host and path. The operator adds a route, or removes `default = \"refuse\"`; `spillway explain METHOD URL` shows which routes were tried, and why each did not match."),
            Self::HookPath => ("hook-path", 404, "This path is reserved for notifications of finished jobs.", "Only Spillway's own consumer may call it. If the application serves this path to others, too, give `notify.app` of the queue another path."),
            Self::KeyMissing => ("key-missing", 400, "The request has no shard key.", "Send the key where the route looks for it. The operator finds the places in the route's `shard.from`."),
            Self::KeyInvalid => ("key-invalid", 400, "The shard key does not have the form that the shard map wants.", "Send the key in the form that the map's `key_type` says: an integer without leading zeros, a UUID, text, or an RFC 3339 timestamp with an offset."),
            Self::KeyUnmapped => ("key-unmapped", 404, "No shard holds this key.", "Check the key. The operator adds a range to the shard map, raises `until`, or names a shard for all other keys: `outside`."),
            Self::CrossShard => ("cross-shard", 400, "The keys of this request lie on more than one shard.", "Send one request for each shard: ask for fewer keys at a time, and join the answers."),
            Self::MapUnknown => ("map-unknown", 503, "The shard map is not known here yet.", "Retry after the time in Retry-After. The operator makes the map with `spillway shards init`, and checks that the sidecar reaches `--results` or one of its `--peers`."),
            Self::MapBehind => ("map-behind", 503, "This sidecar follows an older version of the shard map than another one.", "Retry after the time in Retry-After. The operator checks whether this sidecar reaches `--results`: spillway_shard_map_age_seconds says since when it has not."),
            Self::RangeFenced => ("range-fenced", 503, "The data of this request moves to another shard.", "Retry after the time in Retry-After. The operator sees with `spillway shards show` how far the move is; a move that nobody ends any more is ended with `spillway shards abort`."),
            Self::StaleEpoch => ("stale-epoch", 421, "The sidecar that sent this request follows an older version of the shard map.", "Sidecars settle this among themselves, and no client sees it. One that does reaches a sidecar past its own: let clients use the address of the service."),
            Self::ShardUnavailable => ("shard-unavailable", 503, "The shard that holds this key can't be reached.", "Retry after the time in Retry-After. The operator checks whether the shard's pods are ready, and where `--upstream` says that they are."),
            Self::ShardLoop => ("shard-loop", 508, "The request was forwarded in a circle.", "Two sidecars, or the edge and a sidecar, disagree on who serves this request. The operator compares `--shard`, `--upstream` and /shards/map on the admin port of both."),
            Self::BodyTooLarge => ("body-too-large", 413, "The request body is larger than this route allows.", "Send less. The operator raises `max_body`, `offload.max_body` or `shard.body_limit` of the route: the detail says which."),
            Self::NoRoom => ("no-room", 503, "There is no room for the request's body at the moment.", "Nothing was started: retry after the time in Retry-After. The detail says whether memory or the spool is full. The operator gives the sidecar more memory, raises `--spool-size`, or runs more pods."),
            Self::OffloadUnavailable => ("offload-unavailable", 503, "The job could not be queued.", "Retry after the time in Retry-After, with the same Idempotency-Key if there was one. The detail says whether the job may run all the same. The operator finds the cause in spillway_offload_requests_total, by reason."),
            Self::OffloadUnauthorized => ("offload-unauthorized", 401, "The application did not accept the caller.", "Log in to the application first. The operator sees what was asked in the route's `auth.check`, and where callers are named in `auth.identity`."),
            Self::CrossSite => ("cross-site", 403, "The request may come from a page of another site, and carries a user's cookie.", "Send it from a page of the application (Sec-Fetch-Site, Origin or Referer show that), or without a cookie. The operator names further pages in `cors` of the route, or lets the application decide: `replay_as = \"caller\"`."),
            Self::WaitOver => ("wait-over", 504, "The job has not ended within the time that this route waits for it.", "The job goes on, and the detail names its address. Send Prefer: respond-async to get that address at once. The operator raises `wait` of the route."),
            Self::IdempotencyMismatch => ("idempotency-mismatch", 422, "This Idempotency-Key was used with another request.", "Use a new key for a new request."),
            Self::AlreadyAnswered => ("already-answered", 409, "The request with this Idempotency-Key was answered before, and its answer was not kept.", "The request is not executed again. Look for its effect in the application, or send a new key to execute it once more."),
            Self::JobUnknown => ("job-unknown", 404, "There is no such job, or it belongs to somebody else.", "Use the Location of the 202 answer, with the same credentials."),
            Self::JobExpired => ("job-expired", 410, "The result of this job is no longer kept.", "Start the job again. The operator raises `result_ttl` of the queue."),
            Self::TooManyWatchers => ("too-many-watchers", 503, "Too many clients hold streams of job events open.", "Ask for the job's status after the time in Retry-After, without a stream of events."),
            Self::JobUnfinished => ("job-unfinished", 409, "The job has no result yet.", "Ask for the job's status first, and for the result once that says succeeded."),
            Self::JobEnded => ("job-ended", 409, "The job has already ended.", "The first outcome counts, and this one was not stored. If both are yours, the answer to the first was lost: delete the message."),
            Self::JobRunning => ("job-running", 409, "Another consumer holds the lease of this job.", "Leave the job to that consumer, or try again in a minute, when a lease that nobody extends is over. The operator checks whether consumers of Spillway's own and others work off one queue."),
            Self::SignatureMissing => ("signature-missing", 401, "Only requests that the edge has signed are answered here.", "Ask by the public address, which leads through the edge. The operator lets a network in with `--unsigned-from`, or a route with `require_signature = false`."),
            Self::SignatureInvalid => ("signature-invalid", 401, "The request's edge signature is not valid.", "The detail names the reason. The operator compares SPILLWAY_EDGE_KEYS of edge and sidecar and their clocks, and checks whether a proxy between them changes host, path or query."),
            Self::SignatureUnchecked => ("signature-unchecked", 503, "Replay protection is at capacity.", "Retry after the time in Retry-After. The operator runs more pods: spillway_signatures_total with the result nonces-full counts these refusals."),
            Self::UpstreamUnreachable => ("upstream-unreachable", 502, "The application could not be reached.", "Retry later. The operator checks whether the application runs, and listens where `--app` or `--upstream` says."),
            Self::UpstreamTimeout => ("upstream-timeout", 504, "The application did not answer in time.", "Retry later. The operator raises `timeout` of the route, or lets the route `offload` slow requests. A request with Cache-Control: only-if-cached gets this answer when nothing usable is stored."),
            Self::TotalTimeout => ("total-timeout", 504, "The request took longer than its route allows.", "Send or ask for less at once. The operator raises `total_timeout` of the route."),
            Self::UpstreamInvalid => ("upstream-invalid", 502, "The application's answer was not valid HTTP, or broke off.", "The operator finds what was wrong with it in the sidecar's log."),
            Self::ConnectRefused => ("connect-refused", 405, "CONNECT is not supported.", "Spillway is a reverse proxy. Use a forward proxy for tunnels."),
            Self::BadRequest => ("bad-request", 400, "The request is not valid HTTP.", "The detail says what is wrong with it."),
            Self::ForwardedConflict => ("forwarded-conflict", 400, "Forwarded and X-Forwarded-* contradict each other.", "The proxy in front must write both, or remove the one that it does not write. The operator can stop believing Forwarded by starting the sidecar without `--forwarded-field`."),
            Self::MethodOverride => ("method-override", 400, "A header field names another method, and the rules of this path depend on the method.", "Send the method itself. Or the operator takes the path out of the rules that depend on it: `cache`, `shard`, `offload`, `max_body`, `concurrency` and `methods`."),
            Self::TargetTooLong => ("target-too-long", 414, "The request target is too long.", "Send at most 16 KiB of path and query; put what is longer into a body."),
            Self::HeadTooLarge => ("head-too-large", 431, "The request's header fields are too large.", "Send at most 32 KiB and 100 lines, unless the operator has set `--head-kib` or `--head-fields`. Cookies that grow are the usual cause."),
            Self::CodingUnknown => ("coding-unknown", 501, "The transfer coding of the request body is not supported.", "Send Transfer-Encoding: chunked, or Content-Length, and nothing else."),
            Self::VersionUnsupported => ("version-unsupported", 505, "This version of HTTP is not supported.", "Use HTTP/1.1, HTTP/1.0 or HTTP/2."),
            Self::Overloaded => ("overloaded", 503, "The application is at its concurrency limit.", "Retry after the time in Retry-After. The operator runs more pods, or raises `overload.concurrency`; spillway_concurrency_limit shows the limit."),
            Self::RulesUnreadable => ("rules-unreadable", 503, "The sidecar has no rules that it could read.", "The operator finds the faults of the rules file in the log, and in the body of /ready on the admin port; `spillway check` finds them before a deployment. A mended file is read within a second."),
            Self::RouteBusy => ("route-busy", 503, "The route is at its concurrency limit.", "Retry after the time in Retry-After. The operator raises `concurrency` of the route, or runs more pods."),
            Self::DemoRules => ("demo-rules", 503, "This edge still has the rules of the demo.", "The operator names an `origin` in `[edge]` of routes.toml, or in SPILLWAY_ORIGIN, and deploys with `cargo xtask deploy`, which says what else is the demo's. On workers.dev and localhost the demo's rules are followed."),
            Self::Internal => ("internal", 500, "Spillway failed to handle the request.", "This is a bug of Spillway. Report it with the log line of this request."),
        }
    }

    /// The problem of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.name() == name)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}
