//! Asks both servers everything that a judgement needs. No session of it writes anything that stays.

use super::evidence::{Evidence, SideFacts};
use super::map_facts::MapFacts;
use super::questions::row_facts;
use crate::catalog::{OpenTransaction, ServerFacts, Table, TruncateSeen};
use crate::moved::{Move, is_copying};
use crate::replication::subscription;
use crate::server::{Endpoint, ServerError, Session};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// One of the two databases.
pub struct Reachable<'e> {
    pub endpoint: &'e Endpoint,
    /// The connection string by which the other database reaches it.
    pub connection: String,
}

/// No transaction of the session writes, and no question takes longer than 30 s: a table without an index on its
/// key is read as a whole, which is not worth more.
const READ_ONLY: &str = "SET default_transaction_read_only = on; SET statement_timeout = '30s'";
/// What sessions of this command are called in `pg_stat_activity`.
const SESSION: &str = "reshard preflight";

/// A session that can't write, and whose questions end.
async fn session(database: &Endpoint) -> Result<Session, ServerError> {
    let session = database.session(SESSION).await?;
    session.batch("make the session read only", READ_ONLY).await?;
    Ok(session)
}

/// Asks both servers. `window` is how long the WAL is measured, and how long a transaction must be open to be
/// called one that lasts.
///
/// # Errors
/// When a server can't be asked at all.
pub async fn gather(
    moved: &Move,
    map: MapFacts,
    [source, target]: [Reachable<'_>; 2],
    drain: Duration,
    window: Duration,
) -> Result<Evidence, ServerError> {
    let (own, other) = (session(source.endpoint).await?, session(target.endpoint).await?);
    let begin = Instant::now();
    let looks = [Look::take(&own).await?, Look::take(&other).await?];
    let mut sides =
        [side(moved, &own, &source, &target).await?, side(moved, &other, &target, &source).await?];
    let mut rows = Vec::new();
    for place in 0..moved.tables.len() {
        rows.push(row_facts(moved, place, (&own, &sides[0]), (&other, &sides[1])).await?);
    }
    sleep_until(begin + window).await;
    for ((side, session), look) in sides.iter_mut().zip([&own, &other]).zip(looks) {
        let now = Look::take(session).await?;
        let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        side.wal_rate = now.written.saturating_sub(look.written).saturating_mul(1000) / millis;
        side.lasting = lasting(&look.open, now.open);
    }
    let [source, target] = sides;
    Ok(Evidence { map, source, target, rows, drain })
}

/// What changes from one moment to the next.
struct Look {
    /// The position in the WAL in bytes.
    written: u64,
    open: Vec<OpenTransaction>,
}

impl Look {
    async fn take(session: &Session) -> Result<Self, ServerError> {
        // A replica writes none.
        let sql = "SELECT pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN '0/0' ELSE pg_current_wal_lsn() END, '0/0')::bigint";
        let row = session.row("read the position in the WAL", sql, &[]).await?;
        let written = row.get::<_, i64>(0).unsigned_abs();
        Ok(Self { written, open: OpenTransaction::read_all(session).await? })
    }
}

/// Those that were open at both looks. The copy of another move commits each chunk: its transactions are no fault.
fn lasting(before: &[OpenTransaction], now: Vec<OpenTransaction>) -> Vec<OpenTransaction> {
    let was_open = |own: &OpenTransaction| before.iter().any(|it| it.number == own.number);
    let copies = |own: &OpenTransaction| own.pid.is_some() && is_copying(&own.name);
    now.into_iter().filter(|own| was_open(own) && !copies(own)).collect()
}

async fn side(
    moved: &Move,
    session: &Session,
    own: &Reachable<'_>,
    other: &Reachable<'_>,
) -> Result<SideFacts, ServerError> {
    let database = own.endpoint;
    let server = ServerFacts::read(session).await?;
    let mut tables = Vec::new();
    for own in &moved.tables {
        tables.push(Table::read(session, &own.name).await?);
    }
    let truncates = TruncateSeen::read_all(session).await?;
    let replication = database.walsender(SESSION).await;
    let replication = match replication {
        Ok(walsender) => walsender.system_identifier().await,
        Err(why) => Err(why),
    };
    let is_password_asked = is_password_asked(database).await;
    let channel = moved.id.forward();
    let reach = subscription::probe(session, channel, &other.connection).await.map(|_| ());
    Ok(SideFacts {
        shard: database.address.shard.clone(),
        server,
        tables,
        lasting: Vec::new(),
        replication,
        is_password_asked,
        reach,
        wal_rate: 0,
        truncates,
    })
}

/// Whether we have a password, and the server does not let us in without.
async fn is_password_asked(database: &Endpoint) -> bool {
    if database.password.is_none() {
        return false;
    }
    let without = Endpoint { password: None, ..database.clone() };
    session(&without).await.is_err()
}
