//! What is known of the two databases before a move.

use super::map_facts::MapFacts;
use super::row_facts::RowFacts;
use crate::catalog::{OpenTransaction, ServerFacts, Table, TruncateSeen};
use crate::moved::{Move, MovedTable};
use crate::server::ServerError;
use std::time::Duration;

/// What is known of one of the two databases.
#[derive(Debug, Clone)]
pub struct SideFacts {
    pub shard: String,
    pub server: ServerFacts,
    /// In the order of the move's tables.
    pub tables: Vec<Option<Table>>,
    /// Open transactions that were there at two looks.
    pub lasting: Vec<OpenTransaction>,
    /// The cluster's number as a replication connection sees it.
    pub replication: Result<String, ServerError>,
    /// Whether we have a password and the server asks for it.
    pub is_password_asked: bool,
    /// Whether this database reaches the other one as its subscription will.
    pub reach: Result<(), ServerError>,
    /// WAL that was written in bytes a second.
    pub wal_rate: u64,
    pub truncates: Vec<TruncateSeen>,
}

/// All that a judgement needs.
#[derive(Debug, Clone)]
pub struct Evidence {
    pub map: MapFacts,
    pub source: SideFacts,
    pub target: SideFacts,
    /// What was asked of the rows of each table, in the order of the move's tables.
    pub rows: Vec<RowFacts>,
    /// How long writes are drained at most.
    pub drain: Duration,
}

/// One table as both shards have it.
#[derive(Clone, Copy)]
pub(super) struct Pair<'e> {
    pub(super) moved: &'e MovedTable,
    pub(super) source: &'e Table,
    pub(super) target: &'e Table,
}

impl Evidence {
    pub(super) fn sides(&self) -> [(&SideFacts, &SideFacts); 2] {
        [(&self.source, &self.target), (&self.target, &self.source)]
    }

    /// The tables that both shards have, each with its place among those of the move.
    pub(super) fn pairs<'e>(&'e self, moved: &'e Move) -> impl Iterator<Item = (usize, Pair<'e>)> {
        let sides = self.source.tables.iter().zip(&self.target.tables);
        moved.tables.iter().zip(sides).enumerate().filter_map(|(place, (moved, sides))| {
            let (source, target) = (sides.0.as_ref()?, sides.1.as_ref()?);
            Some((place, Pair { moved, source, target }))
        })
    }
}
