//! Why a request does not use the cache, and why an answer is not stored.

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStored {
    /// The rule, or the cache in general, does not store answers with this status.
    Status,
    /// The origin says `no-store`.
    NoStore,
    /// The origin says `private`.
    Private,
    /// The answer sets a cookie, which is one client's.
    SetCookie,
    /// The request has `Authorization`, and the origin does not say that its answer may be shared (RFC 9111
    /// section 3.5).
    Authorization,
    /// The answer depends on more than request fields, or on too many of them (`Vary: *`).
    VaryStar,
    /// Neither a lifetime nor a validator: it could never be used.
    NoLifetime,
    /// A stream of events has no end.
    EventStream,
    /// A versioned name of a script, style or image answered with a page: a misconfigured app,
    /// or cache deception.
    ContentTypeMismatch,
    /// The body is longer than the store takes.
    TooLarge,
    /// Answers being received already use all the memory that they may.
    NoRoom,
    /// Its fields contradict each other about the length, but allow only one safe reading.
    Mended,
    /// It has more tags than are kept, so it could not be purged by all of them.
    TooManyTags,
    /// The answer redirected to its own path until the full request was sent. Which of the omitted
    /// fields it depends on is being determined.
    ShownTooLittle,
    /// A redirect of the request to its own path: it may depend on what this client did not send.
    LeadsBack,
    /// Rules, epoch or purge state changed while the answer was fetched.
    Superseded,
}

impl NotStored {
    /// Metric label, and detail of `Cache-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Authorization => "authorization",
            Self::VaryStar => "vary-star",
            Self::NoLifetime => "no-lifetime",
            Self::EventStream => "event-stream",
            Self::ContentTypeMismatch => "content-type-mismatch",
            Self::TooLarge => "too-large",
            Self::NoRoom => "no-room",
            Self::Mended => "mended",
            Self::TooManyTags => "too-many-tags",
            Self::ShownTooLittle => "shown-too-little",
            Self::LeadsBack => "leads-back",
            Self::Superseded => "superseded",
        }
    }

    /// Whether the next answer is unlikely to be stored either, so that nobody should wait for it.
    pub fn is_of_the_answer(self) -> bool {
        !matches!(self, Self::NoRoom | Self::Superseded)
    }
}

/// Why a request does not use the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// No route, or a route without `cache`.
    NoRule,
    /// The route's `cache` is switched off.
    Off,
    /// The route's `cache` is in observe mode.
    Observed,
    /// The route has a `cache`, but not for this tier.
    OtherTier,
    /// Neither GET nor HEAD, or one that writes in a live shard map (`shard.writes`).
    Method,
    /// The request has a cookie, and the rule does not say how to treat cookies.
    Cookie,
    /// A cookie that `bypass_cookies` names.
    BypassCookie,
    /// The answer is for the bearer of a token, and there is no secret with which to key it.
    NoSecret,
    /// An unlisted query parameter under `query_rest = "bypass"`.
    Query,
    /// The request says `Cache-Control: no-store`.
    RequestNoStore,
    /// The request asks to change the protocol.
    Upgrade,
    /// The request has a body.
    Body,
    /// The shard key is in the body, which has not been read yet.
    ShardKeyInBody,
    /// A sidecar has already forwarded the request: that sidecar caches.
    Forwarded,
    /// The shard map changed while the request was on its way, and it was sent once more.
    MapChanged,
    /// Servers interpret the path in different ways.
    AmbiguousPath,
    /// The target has the reserved parameter of a job, which is never part of a key.
    JobParameter,
    /// HTTP/1.0 without a Host: there is no URL that an answer could be stored under.
    NoHost,
    /// The last answer under this key could not be stored.
    Uncacheable,
}

impl Bypass {
    /// Metric label, and detail of `Cache-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no-rule",
            Self::Off => "off",
            Self::Observed => "observed",
            Self::OtherTier => "other-tier",
            Self::Method => "method",
            Self::Cookie => "cookie",
            Self::JobParameter => "job-parameter",
            Self::BypassCookie => "bypass-cookie",
            Self::NoSecret => "no-secret",
            Self::Query => "query",
            Self::RequestNoStore => "request-no-store",
            Self::Upgrade => "upgrade",
            Self::Body => "body",
            Self::ShardKeyInBody => "shard-key-in-body",
            Self::Forwarded => "forwarded",
            Self::MapChanged => "map-changed",
            Self::AmbiguousPath => "ambiguous-path",
            Self::NoHost => "no-host",
            Self::Uncacheable => "uncacheable",
        }
    }
}
