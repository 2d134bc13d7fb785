//! Settings, room and state of the two servers.

use super::evidence::{Evidence, SideFacts};
use super::fault::{Fault, FaultKind};
use crate::catalog::OpenTransaction;
use crate::moved::Move;
use tokio_postgres::error::SqlState;

/// The oldest major: row filters of publications came with it.
const MAJOR_MIN: u32 = 15;
/// WAL senders on each server: the one that holds the snapshot, and the subscription's.
const SENDERS: i64 = 2;
/// What a copy reads of a table in bytes a second at least: for the time that a move takes, where a smaller
/// figure is the careful one.
const COPY_RATE: u64 = 10 * 1024 * 1024;
/// What a move takes at least in seconds, however small the tables are.
const MOVE_SECONDS_MIN: u64 = 60;
const MIB: u64 = 1024 * 1024;

pub(super) fn faults(moved: &Move, evidence: &Evidence) -> Vec<Fault> {
    let mut found = Vec::new();
    let (source, target) = (&evidence.source, &evidence.target);
    if (&source.server.system, &source.server.database)
        == (&target.server.system, &target.server.database)
    {
        found.push(Fault::new(
            FaultKind::SameDatabase,
            (&moved.target, "server"),
            format!(
                "both addresses lead to the database {} of one cluster",
                target.server.database
            ),
            "correct --shard of one of them",
        ));
    }
    for (side, _) in evidence.sides() {
        found.extend(state(side));
        found.extend(room(side));
        found.extend(slots(side, estimated_seconds(evidence)));
        found.extend(connection(side));
        found.extend(side.lasting.iter().map(|own| lasting(side, own)));
    }
    let encoding =
        |side: &SideFacts| side.server.setting("server_encoding").unwrap_or_default().to_owned();
    if encoding(source) != encoding(target) {
        found.push(Fault::new(
            FaultKind::EncodingDiffers,
            (&moved.target, "server"),
            format!("its encoding is {}, the source's {}", encoding(target), encoding(source)),
            format!("create the target's database again with ENCODING '{}'", encoding(source)),
        ));
    }
    found.extend(money(moved, evidence));
    found
}

/// How long a move may take: the tables are read as a whole.
fn estimated_seconds(evidence: &Evidence) -> u64 {
    let tables = evidence.source.tables.iter().flatten();
    let bytes: u64 = tables.map(|table| table.bytes.unsigned_abs()).sum();
    (bytes / COPY_RATE).max(MOVE_SECONDS_MIN)
}

fn state(side: &SideFacts) -> Vec<Fault> {
    let (server, spot) = (&side.server, (side.shard.as_str(), "server"));
    let mut found = Vec::new();
    if server.major() < MAJOR_MIN {
        found.push(Fault::new(
            FaultKind::VersionTooOld,
            spot,
            format!("it is PostgreSQL {}, and row filters came with {MAJOR_MIN}", server.major()),
            "update the server",
        ));
    }
    if server.is_in_recovery {
        found.push(Fault::new(
            FaultKind::InRecovery,
            spot,
            "it is a replica",
            "name the primary in --shard",
        ));
    }
    if server.setting("default_transaction_read_only") == Some("on") {
        found.push(Fault::new(
            FaultKind::ReadOnly,
            spot,
            "its transactions are read only by default",
            "ALTER DATABASE or ALTER ROLE … RESET default_transaction_read_only",
        ));
    }
    if let Some(level) = server.setting("wal_level").filter(|own| *own != "logical") {
        found.push(Fault::new(
            FaultKind::WalLevel,
            spot,
            format!("wal_level is {level}; both sides send changes, so that there is a way back"),
            "ALTER SYSTEM SET wal_level = logical, then restart the server",
        ));
    }
    let plugins = server.setting("output_plugin_libraries");
    let allows = |list: &str| list.split(',').any(|own| own.trim().trim_matches('"') == "pgoutput");
    if let Some(list) = plugins.filter(|list| !allows(list)) {
        found.push(Fault::new(
            FaultKind::OutputPlugin,
            spot,
            format!("output_plugin_libraries is `{list}`, without pgoutput"),
            "add pgoutput to output_plugin_libraries, then reload",
        ));
    }
    found
}

/// Settings that say how many of something there may be, and what of it is used up.
fn room(side: &SideFacts) -> Vec<Fault> {
    let (server, spot) = (&side.server, (side.shard.as_str(), "server"));
    let origins = match server.setting("max_active_replication_origins") {
        Some(_) => "max_active_replication_origins",
        None => "max_replication_slots",
    };
    let limits = [
        (FaultKind::NoFreeSlot, "max_replication_slots", server.slots_used, 1),
        (FaultKind::NoFreeOrigin, origins, server.origins_used, 1),
        (FaultKind::NoFreeSender, "max_wal_senders", server.senders_used, SENDERS),
        (FaultKind::NoFreeWorker, "max_logical_replication_workers", server.workers_used, 1),
        (FaultKind::NoFreeWorker, "max_worker_processes", server.processes_used, 1),
    ];
    let mut found = Vec::new();
    for (kind, setting, used, needed) in limits {
        let Some(most) = server.number(setting) else { continue };
        if most - used < needed {
            found.push(Fault::new(
                kind,
                spot,
                format!("{setting} is {most}, {used} are used, and the move needs {needed}"),
                format!("ALTER SYSTEM SET {setting} = {}, then restart the server", used + needed),
            ));
        }
    }
    found
}

/// What may end a slot before the move has ended.
fn slots(side: &SideFacts, seconds: u64) -> Vec<Fault> {
    let (server, spot) = (&side.server, (side.shard.as_str(), "server"));
    let mut found = Vec::new();
    let limit = server.number("max_slot_wal_keep_size").and_then(|mib| u64::try_from(mib).ok());
    let needed = side.wal_rate.saturating_mul(seconds) / MIB;
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        found.push(Fault::new(
            FaultKind::SlotWalLimit,
            spot,
            format!(
                "max_slot_wal_keep_size is {limit} MiB, and at {} KiB a second some {needed} MiB of WAL are written in the {seconds} s that the move may take",
                side.wal_rate / 1024
            ),
            format!("ALTER SYSTEM SET max_slot_wal_keep_size = '{} MB', then reload; look at the disk first", needed * 2),
        ));
    }
    let idle = server.setting("idle_replication_slot_timeout").filter(|value| *value != "0");
    if let Some(value) = idle {
        found.push(Fault::new(
            FaultKind::IdleSlotTimeout,
            spot,
            format!("idle_replication_slot_timeout is {value}, and slots wait while the copy runs"),
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0, then reload",
        ));
    }
    found
}

/// The replication connection: refused, or not to the same server.
fn connection(side: &SideFacts) -> Option<Fault> {
    let spot = (side.shard.as_str(), "server");
    let error = match &side.replication {
        Ok(system) if *system == side.server.system => return None,
        Ok(system) => {
            return Some(Fault::new(
                FaultKind::PoolerBetween,
                spot,
                format!(
                    "a replication connection reaches the cluster {system}, another session {}",
                    side.server.system
                ),
                "name the server itself in --shard, not a pooler or a balancer",
            ));
        }
        Err(error) => error,
    };
    // Each of these has a fault of its own, which says more.
    let is_said = !side.server.role.may_replicate && error.is(&SqlState::INSUFFICIENT_PRIVILEGE)
        || error.is(&SqlState::TOO_MANY_CONNECTIONS);
    if is_said {
        return None;
    }
    let is_pooler = error.is(&SqlState::PROTOCOL_VIOLATION)
        || error.is(&SqlState::FEATURE_NOT_SUPPORTED)
        || error.message.contains("pgbouncer");
    let (kind, remedy) = if is_pooler {
        (
            FaultKind::PoolerBetween,
            "name the server itself in --shard: a pooler has no replication connections",
        )
    } else {
        (FaultKind::ReplicationRefused, "let pg_hba.conf take the role for this database from here")
    };
    Some(Fault::new(
        kind,
        spot,
        format!("it refused replication=database: {}", error.message),
        remedy,
    ))
}

fn lasting(side: &SideFacts, own: &OpenTransaction) -> Fault {
    let OpenTransaction { number, database, user, seconds, pid, name } = own;
    let spot = (side.shard.as_str(), "server");
    match pid {
        Some(pid) => Fault::new(
            FaultKind::OpenTransaction,
            spot,
            format!(
                "transaction {number} of {user} in {database} (pid {pid}, `{name}`) has been open for {seconds} s"
            ),
            format!("wait for its end, or SELECT pg_terminate_backend({pid})"),
        ),
        None => Fault::new(
            FaultKind::PreparedTransaction,
            spot,
            format!(
                "transaction {number} of {user} in {database} was prepared {seconds} s ago as `{name}`"
            ),
            format!(
                "in database {database}: COMMIT PREPARED or ROLLBACK PREPARED {name:?}, in single quotes"
            ),
        ),
    }
}

/// Money is compared as text, which follows `lc_monetary`.
fn money(moved: &Move, evidence: &Evidence) -> Option<Fault> {
    let format =
        |side: &SideFacts| side.server.setting("lc_monetary").unwrap_or_default().to_owned();
    let (source, target) = (format(&evidence.source), format(&evidence.target));
    let is_money = |name: &str| matches!(name, "pg_catalog.money" | "pg_catalog._money");
    let (_, pair) = evidence
        .pairs(moved)
        .find(|(_, pair)| pair.source.columns.iter().any(|own| is_money(&own.type_name)))?;
    (source != target).then(|| {
        Fault::new(
            FaultKind::MoneyFormatDiffers,
            (&moved.target, &pair.moved.name.shown()),
            format!("it has a column of type money; lc_monetary is {target} here and {source} at the source"),
            format!("ALTER DATABASE … SET lc_monetary = '{source}'"),
        )
    })
}

#[cfg(test)]
mod tests;
