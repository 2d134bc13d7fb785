//! The queues and the result store of an operator's command.

use crate::secrets::Secrets;
use rules::{Rules, UnixMillis};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use stores::queue::Queue;
use stores::results::Results;

/// The queues and the store that the settings name.
pub struct Stores {
    pub queues: BTreeMap<String, Arc<dyn Queue>>,
    pub results: Arc<dyn Results>,
    pub rules: Arc<Rules>,
    /// The secret that verifies ids which were made here, if it is given.
    pub secrets: Option<Arc<Secrets>>,
    /// What time it was then.
    pub now: UnixMillis,
}

pub type CommandResult = Result<(), String>;

pub fn line(out: &mut dyn Write, line: &str) -> CommandResult {
    writeln!(out, "{line}").map_err(text)
}

pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
