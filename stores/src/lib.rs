//! Where jobs and their results are kept: [`queue`] and [`results`], two implementations each.
//!
//! Amazon SQS and S3 in production (feature `aws`); a SQLite file and a folder of one node otherwise.

mod local;
pub mod queue;
pub mod results;

// The crates whose types SQS and S3 are connected with, for whoever connects other than by the environment.
#[cfg(feature = "aws")]
pub use {aws_config, aws_credential_types};
