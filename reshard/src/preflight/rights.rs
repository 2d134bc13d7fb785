//! What the role may do on each side.

use super::evidence::{Evidence, SideFacts};
use super::fault::{Fault, FaultKind};
use crate::catalog::Table;
use crate::moved::Move;
use crate::sql::Identifier;

/// The first major in which a role that is no superuser may subscribe.
const SUBSCRIBE_SINCE: u32 = 16;

pub(super) fn faults(_: &Move, evidence: &Evidence) -> Vec<Fault> {
    let mut found = Vec::new();
    for (side, other) in evidence.sides() {
        // Nothing is refused to a superuser.
        if !side.server.role.is_superuser {
            found.extend(role(side));
            found.extend(subscription(side, other));
            found.extend(side.tables.iter().flatten().flat_map(|own| table(side, own)));
        }
    }
    found
}

/// The role's name for a statement. It has one that PostgreSQL took.
fn quoted(name: &str) -> String {
    Identifier::new(name).map_or_else(|_| name.to_owned(), |own| own.to_string())
}

fn role(side: &SideFacts) -> Vec<Fault> {
    let own = &side.server.role;
    let name = quoted(&own.name);
    let database = quoted(&side.server.database);
    let rights = [
        (
            own.may_replicate,
            FaultKind::NoReplicationAttribute,
            "create a slot: it has not REPLICATION",
            format!("ALTER ROLE {name} REPLICATION"),
        ),
        (
            own.may_create,
            FaultKind::NoCreate,
            "create the schema spillway and a publication",
            format!("GRANT CREATE ON DATABASE {database} TO {name}"),
        ),
        (
            own.may_set_replication_role,
            FaultKind::NoReplicaRole,
            "load rows without firing the application's triggers",
            format!("GRANT SET ON PARAMETER session_replication_role TO {name}"),
        ),
        (
            own.may_see_sessions,
            FaultKind::SessionsHidden,
            "see who holds a transaction open",
            format!("GRANT pg_read_all_stats TO {name}"),
        ),
    ];
    let missing = rights.into_iter().filter(|(is_there, ..)| !is_there);
    missing
        .map(|(_, kind, what, remedy)| {
            let what = format!("{} may not {what}", own.name);
            Fault::new(kind, (&side.shard, "role"), what, remedy)
        })
        .collect()
}

/// The subscription on this side reads from the other one.
fn subscription(side: &SideFacts, other: &SideFacts) -> Vec<Fault> {
    let (own, spot) = (&side.server.role, (side.shard.as_str(), "role"));
    let name = quoted(&own.name);
    if side.server.major() < SUBSCRIBE_SINCE {
        return vec![Fault::new(
            FaultKind::NoSuperuser,
            spot,
            format!(
                "{} is no superuser, and PostgreSQL {} lets nobody else subscribe",
                own.name,
                side.server.major()
            ),
            format!("ALTER ROLE {name} SUPERUSER for the time of the move, or PostgreSQL 16"),
        )];
    }
    let mut found = Vec::new();
    if !own.may_subscribe {
        found.push(Fault::new(
            FaultKind::NoSubscribe,
            spot,
            format!("{} may not create a subscription", own.name),
            format!("GRANT pg_create_subscription TO {name}"),
        ));
    }
    if !other.is_password_asked {
        found.push(Fault::new(
            FaultKind::NoPassword,
            spot,
            format!("the subscription of {} must use a password, and shard `{}` asks us for none", own.name, other.shard),
            format!("let pg_hba.conf of `{}` ask for scram-sha-256, and give the password as RESHARD_PASSWORD_SHARD or in ~/.pgpass", other.shard),
        ));
    }
    found
}

fn table(side: &SideFacts, own: &Table) -> Vec<Fault> {
    let (role, subject) = (&side.server.role, own.name.shown());
    let spot = (side.shard.as_str(), subject.as_str());
    let (name, owner) = (quoted(&role.name), quoted(&own.owner));
    let mut found = Vec::new();
    if !own.rights.may_read {
        found.push(Fault::new(
            FaultKind::NotReadable,
            spot,
            format!("{} may not read it, so nothing was asked of its rows", role.name),
            format!(
                "GRANT USAGE ON SCHEMA {} TO {name}; GRANT SELECT ON {} TO {name}",
                own.name.schema, own.name
            ),
        ));
    }
    if !own.rights.is_owner {
        found.push(Fault::new(
            FaultKind::NotOwner,
            spot,
            format!(
                "{} belongs to {}, and {} has not that role's rights",
                subject, own.owner, role.name
            ),
            format!("GRANT {owner} TO {name}"),
        ));
    } else if !own.rights.may_become_owner {
        found.push(Fault::new(
            FaultKind::OwnerOutOfReach,
            spot,
            format!(
                "changes are applied as {}, and {} may not SET ROLE to it",
                own.owner, role.name
            ),
            format!("GRANT {owner} TO {name} WITH SET TRUE"),
        ));
    }
    if own.has_row_security && !role.may_bypass_row_security {
        found.push(Fault::new(
            FaultKind::RowSecurity,
            spot,
            format!("it has row-level security, and {} has not BYPASSRLS: rows could be left behind unseen", role.name),
            format!("ALTER ROLE {name} BYPASSRLS"),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::FaultKind;
    use super::super::samples::{evidence, kinds, moved, source_table};

    #[test]
    fn what_a_role_needs_depends_on_the_major_of_its_server() {
        let mut own = evidence();
        assert_eq!(super::faults(&moved(), &own), []);
        own.source.server.version = 150_018;
        assert_eq!(kinds(&super::faults(&moved(), &own)), [FaultKind::NoSuperuser]);
        own.source.server.role.is_superuser = true;
        assert_eq!(super::faults(&moved(), &own), []);
        own.target.server.role.may_subscribe = false;
        assert_eq!(kinds(&super::faults(&moved(), &own)), [FaultKind::NoSubscribe]);
    }

    #[test]
    fn a_subscription_needs_the_password_of_the_other_side() {
        let mut own = evidence();
        own.source.is_password_asked = false;
        let found = super::faults(&moved(), &own);
        assert_eq!(kinds(&found), [FaultKind::NoPassword]);
        assert_eq!(found[0].shard, "d", "the target subscribes at the source");
        own.target.server.role.is_superuser = true;
        assert_eq!(super::faults(&moved(), &own), []);
    }

    #[test]
    fn the_role_must_be_able_to_become_the_owner_of_a_table() {
        let mut own = evidence();
        source_table(&mut own.target).rights.may_become_owner = false;
        let found = super::faults(&moved(), &own);
        assert_eq!(kinds(&found), [FaultKind::OwnerOutOfReach]);
        assert!(found[0].remedy.contains("WITH SET TRUE"), "{}", found[0]);
    }
}
