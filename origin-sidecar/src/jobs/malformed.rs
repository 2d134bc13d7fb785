//! Why a message of a queue can't be a job.

use std::fmt;
use stores::results::StoreError;

/// Such a message is left for the dead letters, with this as the reason in the log.
#[derive(Debug)]
pub enum Malformed {
    /// It has one of the attributes of a job, and lacks others, without which none is run.
    Incomplete { has: &'static str, lacks: Vec<&'static str> },
    /// Its `first-id` is no id.
    FirstId,
    /// Its `first-id` is the id of another job.
    FirstIdOfJob,
    /// Its `job-id` is no id.
    JobId,
    /// A plain producer's, and there is no secret to make its id with.
    NoSecret,
    /// A plain producer's, and the queue names no path.
    NoPath,
    /// It lacks an attribute.
    Lacks(&'static str),
    /// Its attribute `headers` holds none.
    Headers(serde_json::Error),
    /// Its body is to say where the job's lies, and is no JSON.
    ClaimCheck(serde_json::Error),
    /// Where its body lies is not in our store.
    ClaimsElsewhere,
    /// Where its body lies is no key of a store.
    ClaimedKey(StoreError),
    /// A plain producer's, and its body is not in the store any more.
    BodyGone,
    /// Its `job-id` was used before, for another user's.
    IdOfAnother,
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Incomplete { has, lacks } => {
                let lacks = lacks.join(", ");
                return write!(
                    out,
                    "the message has the attribute {has} of a job, but not {lacks}"
                );
            }
            Self::Lacks(name) => return write!(out, "no attribute {name}"),
            Self::Headers(error) => return write!(out, "headers: {error}"),
            Self::ClaimCheck(error) => return write!(out, "claim check: {error}"),
            Self::ClaimedKey(error) => return write!(out, "claim check: {error}"),
            Self::FirstId => "the first id is not an id",
            Self::FirstIdOfJob => "first-id is not the id of a message",
            Self::JobId => "the job id is not an id",
            Self::NoSecret => "its id is made with the secret, and none is given",
            Self::NoPath => "a bare message, and [queue] names no path to replay it at",
            Self::ClaimsElsewhere => "the claim check points elsewhere",
            Self::BodyGone => "the claim check's body is gone",
            Self::IdOfAnother => "its job-id is that of another user's message",
        };
        out.write_str(text)
    }
}
