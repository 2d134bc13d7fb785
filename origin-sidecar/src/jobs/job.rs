//! A job as a queue message contains it.

use super::lines::Lines;
use super::payload::Payload;
use super::record::Bare;
use rules::UnixMillis;
use std::collections::BTreeMap;

/// The attribute with the job's deadline, in milliseconds since 1970.
pub(super) const DEADLINE: &str = "deadline";

/// The attribute in which a redriven message keeps its original id, which is its job's id.
pub(super) const FIRST_ID: &str = "first-id";

/// The attribute with the token by which a foreign consumer ends the job.
pub(super) const TOKEN: &str = "outcome-token";

/// The attribute with the client's sealed fields.
pub(super) const SEALED: &str = "sealed";

/// A job as a consumer executes it.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: String,
    /// The route; `None` for a plain producer's message.
    pub route: Option<String>,
    /// What is known of a plain producer's message.
    pub bare: Option<Bare>,
    pub method: String,
    pub target: String,
    pub host: String,
    pub headers: Lines,
    pub body: Payload,
    /// The group for fair scheduling: a name that reveals nothing about the tenant.
    pub group: Option<String>,
    /// Not worth starting after this.
    pub deadline: Option<UnixMillis>,
    /// The client's own fields, sealed: see [`super::sealed`].
    pub sealed: Option<String>,
    /// The token by which a foreign consumer may end it: see [`super::outside`].
    pub token: Option<String>,
}

/// Whether the body is in the store.
pub(super) fn is_claim_check(attributes: &BTreeMap<String, String>) -> bool {
    [EXTENDED_SIZE, EXTENDED_SIZE_OLD].iter().any(|name| attributes.contains_key(*name))
}

/// The attribute and first element of a claim check (Amazon SQS Extended Client Library).
pub(super) const EXTENDED_SIZE: &str = "ExtendedPayloadSize";

/// The same attribute in library versions before 2.
pub(super) const EXTENDED_SIZE_OLD: &str = "SQSLargePayloadSize";
