//! What the source sends: a publication of the rows of the range, and a slot that keeps them until they are taken.

use crate::moved::{Channel, Move};
use crate::server::{ServerError, Session};
use crate::sql::{Identifier, RowSide};
use std::time::Duration;
use tokio::time::Instant;

/// How long a slot may stay in use after its walsender was ended.
const SLOT_PATIENCE: Duration = Duration::from_secs(10);
const SLOT_PAUSE: Duration = Duration::from_millis(50);

/// The statement that creates the publication. A TRUNCATE is not sent: row filters do not apply to it, and it would
/// empty the target's table of all its ranges.
pub fn create(moved: &Move, channel: Channel) -> String {
    let tables = moved.tables.iter().map(|table| {
        let condition = moved.range.condition(&table.key, RowSide::Row);
        format!("{} WHERE {condition}", table.name)
    });
    let tables: Vec<String> = tables.collect();
    format!(
        "CREATE PUBLICATION {} FOR TABLE {}, {} WITH (publish = 'insert,update,delete')",
        channel.name(),
        tables.join(", "),
        channel.marker()
    )
}

/// The statement that removes the publication.
pub fn remove(channel: Channel) -> String {
    format!("DROP PUBLICATION IF EXISTS {}", channel.name())
}

/// The name of the move's slot. Slots belong to the whole cluster, and another database of it may have a move of the
/// same number: so the name has the database's number, too.
///
/// # Errors
/// When the server does not answer.
pub async fn slot_name(source: &Session, channel: Channel) -> Result<Identifier, ServerError> {
    let doing = "name the slot";
    let sql = "SELECT oid FROM pg_database WHERE datname = current_database()";
    let database: u32 = source.row(doing, sql, &[]).await?.get(0);
    let name = Identifier::new(format!("{}_{database}", channel.name().as_str()));
    name.map_err(|why| ServerError::other(source.spot(), doing, why))
}

/// Removes the slot, and ends the walsender that uses it. A slot that is still being created is in use until the
/// oldest write transaction of the cluster has ended.
///
/// # Errors
/// When it stays in use.
pub async fn remove_slot(source: &Session, channel: Channel) -> Result<(), ServerError> {
    let (doing, slot) = ("remove the slot", slot_name(source, channel).await?);
    let began = Instant::now();
    loop {
        let sql = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1";
        let rows = source.rows(doing, sql, &[&slot.as_str()]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let removed = match row.get::<_, Option<i32>>(0) {
            Some(pid) => {
                source.rows(doing, "SELECT pg_terminate_backend($1)", &[&pid]).await?;
                Err(ServerError::other(source.spot(), doing, format!("pid {pid} uses it")))
            }
            None => source.rows(doing, &dropping(&slot), &[]).await,
        };
        match removed {
            Ok(_) => return Ok(()),
            Err(why) if began.elapsed() > SLOT_PATIENCE => return Err(why),
            Err(_) => tokio::time::sleep(SLOT_PAUSE).await,
        }
    }
}

/// The statement that removes a slot which nobody uses.
pub fn dropping(slot: &Identifier) -> String {
    format!("SELECT pg_drop_replication_slot('{}')", slot.as_str())
}

/// Creates the slot of the way back, if there is none. It keeps what is written from now on.
///
/// # Errors
/// When no slot is free.
pub async fn keep_slot(owner: &Session, channel: Channel) -> Result<(), ServerError> {
    let (doing, slot) = ("create the slot of the way back", slot_name(owner, channel).await?);
    owner.rows(doing, &keeping(&slot), &[]).await.map(|_| ())
}

/// The statement that creates the slot of the way back, if there is none. The name has letters, digits and `_` alone.
pub fn keeping(slot: &Identifier) -> String {
    let slot = slot.as_str();
    format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput') \
         WHERE NOT EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = '{slot}')"
    )
}
