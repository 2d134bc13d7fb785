//! Where jobs and their results are kept, as this process is bound to them.

use crate::soundness::Soundness;
use std::collections::BTreeMap;
use std::sync::Arc;
use stores::queue::Queue;
use stores::results::Results;

#[derive(Clone, Default)]
pub struct Backends {
    /// By their names in the rules file.
    pub queues: BTreeMap<String, Arc<dyn Queue>>,
    pub results: Option<Arc<dyn Results>>,
    /// What these refuse.
    pub soundness: Arc<Soundness>,
}
