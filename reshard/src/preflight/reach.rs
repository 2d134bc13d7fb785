//! Whether each database reaches the other. Hours of copying would be lost if only the subscription found that out.

use super::evidence::{Evidence, SideFacts};
use super::fault::{Fault, FaultKind};
use crate::moved::Move;
use tokio_postgres::error::SqlState;

/// The first major whose client library knows the certificates of its system.
const SYSTEM_CERTIFICATES_SINCE: u32 = 16;

pub(super) fn faults(_: &Move, evidence: &Evidence) -> Vec<Fault> {
    evidence.sides().into_iter().filter_map(|(side, other)| reach(side, &other.shard)).collect()
}

fn reach(side: &SideFacts, other: &str) -> Option<Fault> {
    let error = side.reach.as_ref().err()?;
    // Each of these has a fault of its own, which says more.
    let is_said = side.server.is_in_recovery
        || error.is(&SqlState::INSUFFICIENT_PRIVILEGE)
        || error.is(&SqlState::S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED)
        || error.message.contains("max_wal_senders");
    if is_said {
        return None;
    }
    let certificates = if side.server.major() < SYSTEM_CERTIFICATES_SINCE {
        "; PostgreSQL 15 knows no certificates but those of the file"
    } else {
        ""
    };
    Some(Fault::new(
        FaultKind::NotReached,
        (&side.shard, "server"),
        format!("it can't subscribe to `{other}`: {}", error.message),
        format!(
            "say how it reaches `{other}`: --replicate-from {other}=postgresql://…, whose sslrootcert is a file on the machine of `{}`{certificates}",
            side.shard
        ),
    ))
}
