//! What servers and tables are, as their catalogs say: plain structures, one query for each.

mod table;

pub use table::{Column, ReplicaIdentity, Table, TableKind};
