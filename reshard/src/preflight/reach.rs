//! Whether each database reaches the other. Hours of copying would be lost if only the subscription found that out.

use super::evidence::{Evidence, SideFacts};
use super::fault::{Fault, FaultKind};
use crate::moved::Move;
use tokio_postgres::error::SqlState;

/// The first major whose client library knows the certificates of its system.
const SYSTEM_CERTIFICATES_SINCE: u32 = 16;

pub(super) fn faults(_: &Move, evidence: &Evidence) -> Vec<Fault> {
    evidence.sides().into_iter().filter_map(|(side, other)| reach(side, other)).collect()
}

fn reach(side: &SideFacts, other: &SideFacts) -> Option<Fault> {
    let may_replicate = other.server.role.is_superuser || other.server.role.may_replicate;
    let (is_asked_for_none, other) = (!other.is_password_asked, &other.shard);
    let error = side.reach.as_ref().err()?;
    // Each of these has a fault of its own, which says more.
    let is_said = side.server.is_in_recovery
        || !may_replicate
        || error.is(&SqlState::INSUFFICIENT_PRIVILEGE)
        || is_asked_for_none && error.is(&SqlState::S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED)
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

#[cfg(test)]
mod tests {
    use super::super::samples::{evidence, kinds, moved};
    use super::*;
    use crate::server::{ServerError, Spot};

    fn refused(state: Option<SqlState>, message: &str) -> Evidence {
        let spot = Spot { shard: "d".to_owned(), address: "u@h:1/d".to_owned() };
        let error = ServerError { state, ..ServerError::other(&spot, "try", message) };
        let mut own = evidence();
        own.target.reach = Err(error);
        own
    }

    #[test]
    fn a_database_that_is_not_reached_is_a_fault_of_the_one_that_subscribes() {
        let found = faults(&moved(), &refused(None, "could not translate host name"));
        assert_eq!(kinds(&found), [FaultKind::NotReached]);
        assert_eq!(found[0].shard, "d");
        assert!(found[0].remedy.starts_with("say how it reaches `b`: --replicate-from b="));
        assert_eq!(faults(&moved(), &evidence()), []);
    }

    #[test]
    fn what_has_a_fault_of_its_own_is_not_said_twice() {
        for (state, message) in [
            (Some(SqlState::INSUFFICIENT_PRIVILEGE), "permission denied to create subscription"),
            (None, "number of requested standby connections exceeds max_wal_senders"),
        ] {
            assert_eq!(faults(&moved(), &refused(state, message)), [], "{message}");
        }
        let unasked = Some(SqlState::S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED);
        let mut own = refused(unasked, "password is required");
        // By the way of `--replicate-from` none is asked for, by that of the tool one is.
        assert_eq!(kinds(&faults(&moved(), &own)), [FaultKind::NotReached]);
        own.source.is_password_asked = false;
        assert_eq!(faults(&moved(), &own), []);
        let mut own = refused(None, "must be superuser or replication role to start walsender");
        own.source.server.role.may_replicate = false;
        assert_eq!(faults(&moved(), &own), []);
    }
}
