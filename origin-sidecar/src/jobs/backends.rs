//! The queues and the result store of this process.

use crate::soundness::Soundness;
use std::collections::BTreeMap;
use std::sync::Arc;
use stores::queue::Queue;
use stores::results::Results;

#[derive(Clone, Default)]
pub struct Backends {
    /// The queues by their names in the rules file.
    pub queues: BTreeMap<String, Arc<dyn Queue>>,
    pub results: Option<Arc<dyn Results>>,
    /// Faults of these backends.
    pub soundness: Arc<Soundness>,
}
