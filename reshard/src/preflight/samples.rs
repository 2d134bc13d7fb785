//! Evidence of two servers that are as they should be, for tests of the judgement.

use super::evidence::{Evidence, SideFacts};
use super::fault::{Fault, FaultKind};
use super::map_facts::MapFacts;
use super::row_facts::RowFacts;
use crate::catalog::{
    Column, Index, Links, ReplicaIdentity, RoleFacts, ServerFacts, Table, TableKind, TableRights,
};
use crate::map::Member;
use crate::moved::{Move, MoveId, tables};
use crate::sql::KeyRange;
use rules::document::KeyType;
use std::time::Duration;

pub(super) fn moved() -> Move {
    Move {
        id: MoveId(0),
        map: "m".to_owned(),
        range: KeyRange::parse(KeyType::Int, "100..200").expect("a range"),
        source: "b".to_owned(),
        target: "d".to_owned(),
        tables: tables(["orders:k"].into_iter(), None).expect("a table"),
    }
}

pub(super) fn kinds(faults: &[Fault]) -> Vec<FaultKind> {
    faults.iter().map(|fault| fault.kind).collect()
}

/// The one table of a side.
pub(super) fn source_table(side: &mut SideFacts) -> &mut Table {
    side.tables[0].as_mut().expect("it has the table")
}

fn column(number: i16, name: &str) -> Column {
    Column { number, is_not_null: true, ..Column::sample(name, "bigint", "pg_catalog.int8") }
}

fn table() -> Table {
    let names = ["k".to_owned(), "id".to_owned()];
    Table {
        oid: 1,
        name: moved().tables[0].name.clone(),
        kind: TableKind::Ordinary,
        persistence: 'p',
        owner: "app".to_owned(),
        is_partition: false,
        has_row_security: false,
        rights: TableRights { may_read: true, is_owner: true, may_become_owner: true },
        identity: ReplicaIdentity::Default,
        primary_key: names.to_vec(),
        identity_columns: names.to_vec(),
        bytes: 8192,
        columns: vec![column(1, "k"), column(2, "id")],
        indexes: vec![Index {
            name: "orders_pkey".to_owned(),
            is_unique: true,
            is_primary: true,
            is_valid: true,
            columns: names.map(Some).to_vec(),
            types: vec!["bigint".to_owned(), "bigint".to_owned()],
            is_partial: false,
            shape: "UNIQUE USING btree (k, id)".to_owned(),
        }],
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        links: Links::default(),
    }
}

fn side(shard: &str) -> SideFacts {
    let settings = [
        ("wal_level", "logical"),
        ("max_replication_slots", "10"),
        ("max_wal_senders", "10"),
        ("max_logical_replication_workers", "4"),
        ("max_worker_processes", "8"),
        ("max_slot_wal_keep_size", "-1"),
        ("default_transaction_read_only", "off"),
        ("server_encoding", "UTF8"),
        ("lc_monetary", "C"),
    ];
    let system = format!("system-{shard}");
    SideFacts {
        shard: shard.to_owned(),
        server: ServerFacts {
            version: 160_014,
            system: system.clone(),
            database: "market".to_owned(),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            role: RoleFacts {
                name: "mover".to_owned(),
                is_superuser: false,
                may_replicate: true,
                may_bypass_row_security: false,
                may_create: true,
                may_see_sessions: true,
                may_set_replication_role: true,
                may_subscribe: true,
            },
            ..ServerFacts::default()
        },
        tables: vec![Some(table())],
        lasting: Vec::new(),
        replication: Ok(system),
        is_password_asked: true,
        reach: Ok(()),
        wal_rate: 0,
        truncates: Vec::new(),
    }
}

pub(super) fn evidence() -> Evidence {
    Evidence {
        map: MapFacts {
            shards: vec!["b".to_owned(), "d".to_owned()],
            hold: Duration::from_secs(5),
            members: Some(vec![Member { pod: "p".to_owned(), hindrance: None }]),
        },
        source: side("b"),
        target: side("d"),
        rows: vec![RowFacts::default()],
        drain: Duration::from_secs(3),
    }
}
