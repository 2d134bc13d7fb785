//! What servers and tables are, as their catalogs say: plain structures, one query for each.

mod estimate;
mod index;
mod letter;
mod links;
mod open;
mod server;
mod table;

pub use estimate::Estimate;
pub use index::{CheckConstraint, ForeignKey, Index};
pub use links::{Feed, Links, Trigger, TruncateSeen};
pub use open::OpenTransaction;
pub use server::{RoleFacts, ServerFacts};
pub use table::{Column, ReplicaIdentity, Table, TableKind, TableRights};
