//! Judgements that need a server of another version, or something in between, that no test here has.

use super::super::FaultKind::{
    IdleSlotTimeout, NoFreeOrigin, OutputPlugin, PoolerBetween, ReplicationRefused, SlotWalLimit,
    VersionTooOld,
};
use super::super::samples::{evidence, kinds, moved};
use super::super::{Evidence, FaultKind};
use crate::server::{ServerError, Spot};
use tokio_postgres::error::SqlState;

fn found(change: impl FnOnce(&mut Evidence)) -> Vec<FaultKind> {
    let mut own = evidence();
    change(&mut own);
    kinds(&super::faults(&moved(), &own))
}

fn set(name: &str, value: &str) -> impl FnOnce(&mut Evidence) {
    let (name, value) = (name.to_owned(), value.to_owned());
    move |own| drop(own.source.server.settings.insert(name, value))
}

fn refusal(state: Option<SqlState>, message: &str) -> impl FnOnce(&mut Evidence) {
    let spot = Spot { shard: "b".to_owned(), address: "u@h:1/d".to_owned() };
    let error = ServerError { state, ..ServerError::other(&spot, "connect", message) };
    move |own| own.source.replication = Err(error)
}

#[test]
fn settings_of_newer_majors_are_judged() {
    assert_eq!(found(|_| ()), []);
    assert_eq!(found(set("idle_replication_slot_timeout", "0")), []);
    assert_eq!(found(set("idle_replication_slot_timeout", "3600")), [IdleSlotTimeout]);
    assert_eq!(found(set("output_plugin_libraries", "pgoutput, test_decoding")), []);
    assert_eq!(found(set("output_plugin_libraries", "wal2json,\"pgoutput\"")), []);
    assert_eq!(found(set("output_plugin_libraries", "wal2json")), [OutputPlugin]);
    assert_eq!(found(set("output_plugin_libraries", "")), [OutputPlugin]);
    assert_eq!(found(set("max_active_replication_origins", "0")), [NoFreeOrigin]);
    assert_eq!(found(|own| own.source.server.version = 140_019), [VersionTooOld]);
}

#[test]
fn the_wal_of_the_whole_move_must_fit_into_the_limit() {
    let writing = |limit: &str, rate| {
        let limit = set("max_slot_wal_keep_size", limit);
        found(move |own| {
            limit(own);
            own.source.wal_rate = rate;
        })
    };
    assert_eq!(writing("100", 1024 * 1024), [], "60 MiB in the minute that any move may take");
    assert_eq!(writing("50", 1024 * 1024), [SlotWalLimit]);
    assert_eq!(writing("-1", u64::MAX), [], "no limit");
}

#[test]
fn a_pooler_is_told_from_a_server_that_refuses() {
    assert_eq!(found(|own| own.source.replication = Ok("other".to_owned())), [PoolerBetween]);
    let unknown = "unsupported startup parameter: options";
    assert_eq!(found(refusal(Some(SqlState::PROTOCOL_VIOLATION), unknown)), [PoolerBetween]);
    let no_entry = "no pg_hba.conf entry for replication connection";
    let state = Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    assert_eq!(found(refusal(state, no_entry)), [ReplicationRefused]);
    assert_eq!(found(refusal(None, "connection closed")), [ReplicationRefused]);
}
