//! A session of the replication protocol: the only one that can create a slot together with the snapshot it
//! begins at.

use super::address::Address;
use super::error::{ServerError, Spot};
use super::passwords::Password;
use super::session::connect;
use crate::sql::Identifier;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

/// A session of the replication protocol.
#[derive(Debug)]
pub struct Walsender {
    spot: Spot,
    client: Client,
}

/// A new slot and the snapshot of the very point it begins at. The snapshot lives until the walsender's next
/// command or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// The first position that it sends, as PostgreSQL writes it: `0/1A2B3C`.
    pub consistent_point: String,
    /// For `SET TRANSACTION SNAPSHOT`.
    pub snapshot: String,
}

impl Walsender {
    /// Connects with `replication=database`.
    ///
    /// # Errors
    /// When the server is not there, the role has no REPLICATION, no walsender is free, or a pooler stands in
    /// between.
    pub async fn open(
        address: &Address,
        password: Option<&Password>,
        name: &str,
    ) -> Result<Self, ServerError> {
        let (spot, client) = connect(address, password, name, true).await?;
        Ok(Self { spot, client })
    }

    /// The cluster's own number, which no other cluster has.
    ///
    /// # Errors
    /// When the server does not speak the replication protocol on this session.
    pub async fn system_identifier(&self) -> Result<String, ServerError> {
        let doing = "identify the system";
        let row = self.one(doing, "IDENTIFY_SYSTEM").await?;
        self.column(doing, &row, "systemid")
    }

    /// Creates a slot for logical replication, with a snapshot. It waits for all write transactions of the cluster.
    ///
    /// # Errors
    /// When no slot is free, or one of this name exists (42710).
    pub async fn create_slot(&self, slot: &Identifier) -> Result<CreatedSlot, ServerError> {
        let doing = "create the slot";
        let sql = format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput (SNAPSHOT 'export')");
        let row = self.one(doing, &sql).await?;
        Ok(CreatedSlot {
            consistent_point: self.column(doing, &row, "consistent_point")?,
            snapshot: self.column(doing, &row, "snapshot_name")?,
        })
    }

    async fn one(&self, doing: &str, sql: &str) -> Result<SimpleQueryRow, ServerError> {
        let answer = self.client.simple_query(sql).await;
        let answer = answer.map_err(|why| ServerError::new(&self.spot, doing, &why))?;
        let row = answer.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        row.ok_or_else(|| ServerError::other(&self.spot, doing, "the server sent no row"))
    }

    fn column(&self, doing: &str, row: &SimpleQueryRow, name: &str) -> Result<String, ServerError> {
        let found = row.try_get(name).ok().flatten();
        let missing = || ServerError::other(&self.spot, doing, format!("it sent no {name}"));
        found.map(str::to_owned).ok_or_else(missing)
    }
}
