//! How the target takes what the source sends.

use super::publication::slot_name;
use crate::moved::Channel;
use crate::server::{Address, Password, ServerError, ServerErrorKind, Session, TlsMode};
use crate::sql::Identifier;

/// The first version whose subscriptions can leave out what came by replication itself.
pub const ORIGIN_SINCE: u32 = 160_000;

/// How long one database waits until the other takes its connection, in seconds. It tries again.
const CONNECT_SECONDS: u32 = 10;

/// What a subscription is called that is taken back at once.
const PROBE: &str = "spillway_probe";

/// The statement that lets a subscription of name $1 leave out the other side's log up to $2. One that was awake already
/// has taken its own way since.
pub const LEAVING_OUT: &str = "\
SELECT pg_replication_origin_advance('pg_' || oid, $2::text::pg_lsn) FROM pg_subscription WHERE subname = $1
AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND NOT subenabled";

/// The connection string by which the target reaches the source. It contains the password, and lies in
/// `pg_subscription`, which superusers of the target can read.
pub fn connection(address: &Address, password: Option<&Password>) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut fields = vec![
        ("host", address.host.clone()),
        ("port", address.port.to_string()),
        ("dbname", address.database.clone()),
        ("user", address.user.clone()),
        ("connect_timeout", CONNECT_SECONDS.to_string()),
        // A policy that hides rows is an error, and not a smaller table.
        ("options", "-c row_security=off -c statement_timeout=0".to_owned()),
    ];
    match &address.tls {
        TlsMode::Disable => fields.push(("sslmode", "disable".to_owned())),
        TlsMode::VerifyFull { authorities } => {
            let file = authorities.as_ref().map(|file| file.display().to_string());
            fields.push(("sslmode", "verify-full".to_owned()));
            fields.push(("sslrootcert", file.unwrap_or_else(|| "system".to_owned())));
        }
    }
    if let Some(password) = password {
        fields.push(("password", password.reveal().to_owned()));
    }
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    fields.join(" ")
}

/// The statement that creates the subscription, that of the way back still asleep and committing to the disk, with `%L` for the connection string.
pub fn create(channel: Channel, slot: &Identifier, version: u32) -> String {
    let own = channel.name();
    let origin = if version >= ORIGIN_SINCE { ", origin = none" } else { "" };
    let commits = if channel.is_back { "on" } else { "off" };
    format!(
        "CREATE SUBSCRIPTION {own} CONNECTION %L PUBLICATION {own} WITH \
         (create_slot = false, slot_name = '{}', copy_data = false, enabled = {}, streaming = on, synchronous_commit = '{commits}'{origin})",
        slot.as_str(),
        !channel.is_back
    )
}

/// Lets every transaction that is applied wait for the disk, now that the target has caught up. A worker that is begun
/// anew, as after a cut, confirms what the one before it has applied as if that were on the disk; a server that
/// crashes then loses it, and the other side does not send it again. What is applied before this is compared later;
/// what is applied after it can't be lost.
///
/// # Errors
/// When there is no subscription.
pub async fn commit_to_disk(to: &Session, channel: Channel) -> Result<(), ServerError> {
    to.batch("let the subscription commit to the disk", &committing_to_disk(channel)).await
}

/// The statement for that.
pub fn committing_to_disk(channel: Channel) -> String {
    format!("ALTER SUBSCRIPTION {} SET (synchronous_commit = 'on')", channel.name())
}

/// Creates the subscription, if there is none yet. The connection string is a parameter and the statement runs
/// inside a function, so that the password stands in no statement of `pg_stat_activity`; errors are told without
/// their context for the same reason.
///
/// # Errors
/// When the role may not, or the target does not reach the source.
pub async fn begin(
    target: &Session,
    channel: Channel,
    slot: &Identifier,
    connection: &str,
) -> Result<(), ServerError> {
    if exists(target, channel).await? {
        return Ok(());
    }
    let doing = "create the subscription";
    let (name, statement) = (channel.name(), create(channel, slot, target.version()));
    match connect(target, doing, (name.as_str(), &statement), connection, "COMMIT").await? {
        true => Ok(()),
        false => Err(elsewhere(target)),
    }
}

/// Tries how the target reaches the source: a subscription is created, which connects, and taken back in the same
/// transaction. Whether the database that it reaches has the channel's publication, with tables.
///
/// # Errors
/// When it reaches none, or the role may not subscribe.
pub async fn probe(
    target: &Session,
    channel: Channel,
    connection: &str,
) -> Result<bool, ServerError> {
    let doing = "try how it reaches the other database";
    let statement = format!(
        "CREATE SUBSCRIPTION {PROBE} CONNECTION %L PUBLICATION {} WITH \
         (create_slot = false, slot_name = NONE, copy_data = false, enabled = false)",
        channel.name()
    );
    connect(target, doing, (PROBE, &statement), connection, "ROLLBACK").await
}

/// What the target reaches is another database than the one that was meant.
pub fn elsewhere(target: &Session) -> ServerError {
    let why = "the address by which it reaches the other database leads to another one: say how it reaches that by --replicate-from";
    ServerError::other(target.spot(), "subscribe to the other database", why)
}

/// Creates a subscription of this name by a statement with `%L` for the connection string, and ends the transaction so.
/// Whether it has tables: those of the publication, as the database that it has reached knows them. Without any it is
/// not left.
async fn connect(
    target: &Session,
    doing: &str,
    (name, statement): (&str, &str),
    connection: &str,
    end: &str,
) -> Result<bool, ServerError> {
    let function = format!(
        "BEGIN READ WRITE; \
         CREATE OR REPLACE FUNCTION pg_temp.spillway_subscribe(connection text) RETURNS void LANGUAGE plpgsql \
         AS $f$ BEGIN EXECUTE format($q${statement}$q$, connection); EXCEPTION WHEN OTHERS THEN \
         RAISE EXCEPTION '%', SQLERRM USING ERRCODE = SQLSTATE; END $f$"
    );
    let tables = "SELECT EXISTS (SELECT 1 FROM pg_subscription s JOIN pg_subscription_rel r ON r.srsubid = s.oid \
                  WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    let connected = async {
        target.batch(doing, &function).await?;
        target.rows(doing, "SELECT pg_temp.spillway_subscribe($1)", &[&connection]).await?;
        Ok(target.row(doing, tables, &[&name]).await?.get(0))
    };
    let connected = connected.await;
    let end = if matches!(connected, Ok(true)) { end } else { "ROLLBACK" };
    // A server that is gone has rolled it back.
    let ended = target.batch(doing, end).await;
    connected.and_then(|has_tables| ended.map(|()| has_tables))
}

/// Lets the subscription leave out what the other side had written before. Until version 16 it can't tell what had
/// come there by replication itself: without this, all copied rows would come back. The slot itself could be advanced
/// instead, but a server that crashes forgets that.
///
/// # Errors
/// When the role may not.
pub async fn leave_out(to: &Session, channel: Channel, until: &str) -> Result<(), ServerError> {
    let doing = "leave out what the old owner has";
    to.rows(doing, LEAVING_OUT, &[&channel.name().as_str(), &until]).await.map(|_| ())
}

/// Wakes the subscription of the way back.
///
/// # Errors
/// When there is none.
pub async fn enable(target: &Session, channel: Channel) -> Result<(), ServerError> {
    target.batch("let the old owner follow", &enabling(channel)).await
}

/// The statement that wakes it.
pub fn enabling(channel: Channel) -> String {
    format!("ALTER SUBSCRIPTION {} ENABLE", channel.name())
}

/// Whether the target has the subscription.
///
/// # Errors
/// When the server does not answer.
pub async fn exists(target: &Session, channel: Channel) -> Result<bool, ServerError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_subscription WHERE subname = $1 \
               AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    let row = target.row("look for the subscription", sql, &[&channel.name().as_str()]).await?;
    Ok(row.get(0))
}

/// Removes the subscription without asking the source, which may be away: its slot is removed there.
///
/// # Errors
/// When the role may not.
pub async fn remove(target: &Session, channel: Channel) -> Result<(), ServerError> {
    if !exists(target, channel).await? {
        return Ok(());
    }
    // The last of these must not be in one transaction with the others.
    for sql in removal(channel) {
        target.batch("remove the subscription", &sql).await?;
    }
    Ok(())
}

/// The statements that remove the subscription.
pub fn removal(channel: Channel) -> [String; 3] {
    let own = channel.name();
    [
        format!("ALTER SUBSCRIPTION {own} DISABLE"),
        format!("ALTER SUBSCRIPTION {own} SET (slot_name = NONE)"),
        format!("DROP SUBSCRIPTION {own}"),
    ]
}

/// How far the target has followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Following {
    /// Bytes of the source's log that the target has not confirmed; none: there is no slot.
    pub behind: Option<i64>,
    /// `pg_replication_slots.wal_status`; none: there is no slot.
    pub wal_status: Option<String>,
    /// Whether a worker is at work and connected.
    pub is_applying: bool,
    /// How often applying has failed since the subscription began.
    pub apply_errors: i64,
}

impl Following {
    /// Refuses a slot from which nothing is going to arrive any more. `from`: the database that has it.
    ///
    /// # Errors
    /// `SlotLost`.
    pub fn checked(&self, from: &Session) -> Result<(), ServerError> {
        let (kind, doing) = (ServerErrorKind::SlotLost, "let the other side follow");
        match self.lost() {
            Some(why) => Err(ServerError::of(kind, from.spot(), doing, why)),
            None => Ok(()),
        }
    }

    fn lost(&self) -> Option<&'static str> {
        match (self.behind, self.wal_status.as_deref()) {
            (_, Some("lost")) => Some(
                "slot-lost: the slot is lost: log was removed that the other side had not taken (max_slot_wal_keep_size)",
            ),
            (None, _) => Some("slot-lost: the slot of the move is gone"),
            _ => None,
        }
    }

    /// For people; `before` is what was seen at the last look.
    pub fn shown(&self, before: Option<&Self>) -> String {
        if let Some(why) = self.lost() {
            return why.to_owned();
        }
        let behind = self.behind.unwrap_or_default();
        let mut text = format!("the one that follows is {behind} bytes behind");
        if before.is_some_and(|before| before.apply_errors < self.apply_errors) {
            text.push_str(
                ", and applying fails: the target's log says why; a column that the source was given \
                 must be given to the target, a row that was there already must be removed",
            );
        } else if !self.is_applying {
            text.push_str(
                ", and no worker is at work: does its server reach the other by the address of --replicate-from? \
                 Its log says why; look at max_logical_replication_workers, too",
            );
        }
        text
    }
}

/// Looks how far the target has followed.
///
/// # Errors
/// When a server does not answer.
pub async fn following(
    source: &Session,
    target: &Session,
    channel: Channel,
) -> Result<Following, ServerError> {
    let (name, slot) = (channel.name(), slot_name(source, channel).await?);
    let slots = source
        .rows(
            "look at the slot",
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint, wal_status::text, active \
             FROM pg_replication_slots WHERE slot_name = $1",
            &[&slot.as_str()],
        )
        .await?;
    let workers = target
        .rows(
            "look at the subscription",
            "SELECT bool_or(s.pid IS NOT NULL), coalesce(max(e.apply_error_count), 0)::bigint \
             FROM pg_stat_subscription s LEFT JOIN pg_stat_subscription_stats e USING (subid) \
             WHERE s.subname = $1 GROUP BY s.subname",
            &[&name.as_str()],
        )
        .await?;
    let (slot, worker) = (slots.first(), workers.first());
    // A worker that can't connect is begun anew all the time.
    let is_sending = slot.is_some_and(|row| row.get(2));
    let is_working = worker.is_some_and(|row| row.get::<_, Option<bool>>(0) == Some(true));
    Ok(Following {
        behind: slot.and_then(|row| row.get(0)),
        wal_status: slot.and_then(|row| row.get(1)),
        is_applying: is_sending && is_working,
        apply_errors: worker.map_or(0, |row| row.get(1)),
    })
}
