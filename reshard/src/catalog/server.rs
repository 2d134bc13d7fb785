//! A server: its version, its settings, what of them is used up, and what our role may do.

use crate::server::{ServerError, Session};
use std::collections::BTreeMap;

/// Settings that a move depends on. Some majors don't have some of them.
const SETTINGS: [&str; 13] = [
    "wal_level",
    "max_replication_slots",
    "max_active_replication_origins",
    "max_wal_senders",
    "max_logical_replication_workers",
    "max_worker_processes",
    "max_slot_wal_keep_size",
    "idle_replication_slot_timeout",
    "output_plugin_libraries",
    "default_transaction_read_only",
    "server_encoding",
    "lc_monetary",
    "session_replication_role",
];

/// What a role may do in its database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleFacts {
    pub name: String,
    pub is_superuser: bool,
    pub may_replicate: bool,
    pub may_bypass_row_security: bool,
    /// CREATE on the database: schema and publication need it.
    pub may_create: bool,
    /// Of `pg_read_all_stats`: without it the sessions of others are hidden.
    pub may_see_sessions: bool,
    pub may_set_replication_role: bool,
    /// Of `pg_create_subscription`, which 16 has first.
    pub may_subscribe: bool,
}

/// One server and one of its databases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// As `server_version_num`: 150018.
    pub version: u32,
    /// No other cluster has this number.
    pub system: String,
    pub database: String,
    pub is_in_recovery: bool,
    pub settings: BTreeMap<String, String>,
    /// Of `max_replication_slots`.
    pub slots_used: i64,
    /// Of the same, or of `max_active_replication_origins`.
    pub origins_used: i64,
    /// Of `max_wal_senders`.
    pub senders_used: i64,
    /// Of `max_logical_replication_workers`.
    pub workers_used: i64,
    /// Of `max_worker_processes`, as far as our role sees them.
    pub processes_used: i64,
    pub role: RoleFacts,
}

const SERVER: &str = "\
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system, current_database()::text AS database,
       pg_is_in_recovery() AS is_in_recovery,
       (SELECT count(*) FROM pg_replication_slots) AS slots,
       (SELECT count(*) FROM pg_replication_origin) AS origins,
       (SELECT count(*) FROM pg_stat_get_wal_senders()) AS senders,
       (SELECT count(*) FROM pg_stat_get_subscription(NULL) WHERE pid IS NOT NULL) AS workers,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type <> ALL ($1)) AS processes";

/// Kinds of processes that don't count for `max_worker_processes`.
const OWN_PROCESSES: [&str; 14] = [
    "client backend",
    "walsender",
    "autovacuum launcher",
    "autovacuum worker",
    "background writer",
    "checkpointer",
    "walwriter",
    "archiver",
    "startup",
    "walreceiver",
    "logger",
    "walsummarizer",
    "slotsync worker",
    "io worker",
];

const ROLE: &str = "\
SELECT r.rolname::text AS name, r.rolsuper, r.rolreplication, r.rolbypassrls,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       pg_has_role('pg_read_all_stats', 'USAGE') AS may_see_sessions,
       has_parameter_privilege('session_replication_role', 'SET') AS may_set_replication_role,
       EXISTS (SELECT FROM pg_roles s WHERE s.rolname = 'pg_create_subscription' AND pg_has_role(s.oid, 'USAGE'))
         AS may_subscribe
FROM pg_roles r WHERE r.rolname = current_user";

impl ServerFacts {
    /// Reads them. Some belong to no single moment, as the catalogs of the cluster don't.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read(session: &Session) -> Result<Self, ServerError> {
        let doing = "read what the server is";
        let own = session.row(doing, SERVER, &[&OWN_PROCESSES.as_slice()]).await?;
        let names = SETTINGS.as_slice();
        // What the server, the database and the role have set, whatever our own session has by now.
        let settings = "SELECT name, reset_val FROM pg_settings WHERE name = ANY ($1)";
        let settings = session.rows(doing, settings, &[&names]).await?;
        let role = session.row("read what the role may do", ROLE, &[]).await?;
        Ok(Self {
            version: session.version(),
            system: own.get("system"),
            database: own.get("database"),
            is_in_recovery: own.get("is_in_recovery"),
            settings: settings.iter().map(|row| (row.get(0), row.get(1))).collect(),
            slots_used: own.get("slots"),
            origins_used: own.get("origins"),
            senders_used: own.get("senders"),
            workers_used: own.get("workers"),
            processes_used: own.get("processes"),
            role: RoleFacts {
                name: role.get("name"),
                is_superuser: role.get("rolsuper"),
                may_replicate: role.get("rolreplication"),
                may_bypass_row_security: role.get("rolbypassrls"),
                may_create: role.get("may_create"),
                may_see_sessions: role.get("may_see_sessions"),
                may_set_replication_role: role.get("may_set_replication_role"),
                may_subscribe: role.get("may_subscribe"),
            },
        })
    }

    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// A setting; none where this major has none of that name.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// A setting that is a number, in the unit of `pg_settings`.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.setting(name)?.parse().ok()
    }
}
