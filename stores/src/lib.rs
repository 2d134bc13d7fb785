//! Where jobs and their results are kept: [`queue`] and [`results`], with two implementations each.
//!
//! They use Amazon SQS and S3 in production (feature `aws`), or a SQLite file and a folder on one node.

mod local;
pub mod queue;
pub mod results;

// Exported for callers that connect to SQS and S3 by other settings than those of the environment.
#[cfg(feature = "aws")]
pub use {aws_config, aws_credential_types};
