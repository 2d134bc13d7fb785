//! A job as a message of the queue carries it.

use super::lines::Lines;
use super::payload::Payload;
use super::record::Bare;
use rules::UnixMillis;
use std::collections::BTreeMap;

/// When the job stops being worth starting, in milliseconds since 1970.
pub(super) const DEADLINE: &str = "deadline";

/// A redriven message keeps the id that it had first: its job has no other.
pub(super) const FIRST_ID: &str = "first-id";

/// With which another's consumer ends the job.
pub(super) const TOKEN: &str = "outcome-token";

/// The client's own fields, sealed.
pub(super) const SEALED: &str = "sealed";

/// A job as a consumer runs it.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: String,
    /// `None` for a plain producer's message.
    pub route: Option<String>,
    /// Of such a message.
    pub bare: Option<Bare>,
    pub method: String,
    pub target: String,
    pub host: String,
    pub headers: Lines,
    pub body: Payload,
    /// Whose it is, for the queue's fairness: a name that tells nothing of the tenant.
    pub group: Option<String>,
    /// Not worth starting after this.
    pub deadline: Option<UnixMillis>,
    /// The client's own fields, sealed: see [`super::sealed`].
    pub sealed: Option<String>,
    /// With which another's consumer may end it: [`super::outside`].
    pub token: Option<String>,
}

/// Whether the body lies in the store.
pub(super) fn is_claim_check(attributes: &BTreeMap<String, String>) -> bool {
    [EXTENDED_SIZE, EXTENDED_SIZE_OLD].iter().any(|name| attributes.contains_key(*name))
}

/// Attribute and first element of a claim check (Amazon SQS Extended Client Library).
pub(super) const EXTENDED_SIZE: &str = "ExtendedPayloadSize";

/// The same in its versions before 2.
pub(super) const EXTENDED_SIZE_OLD: &str = "SQSLargePayloadSize";
