//! The time in which the range's writes wait: what is still on its way reaches the taker.

use super::leg::Leg;
use super::sequences;
use crate::gate::{self, GateState};
use crate::limits::{PauseLimits, PauseReport};
use crate::map::Spillway;
use crate::move_error::MoveError;
use crate::moved::{Channel, MoveId};
use crate::replication::lookout::Lookout;
use crate::replication::{marker, subscription};
use crate::server::{ServerError, Session};
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks for the marker.
const LOOK: Duration = Duration::from_millis(3);
/// How long one wait for open transactions takes where no pause limits it.
const DRAIN_ROUND: Duration = Duration::from_secs(5);

/// The parts of a pause as they pass.
struct Watch {
    last: Instant,
    end: Instant,
}

impl Watch {
    fn new(pause: Duration) -> Self {
        let now = Instant::now();
        Self { last: now, end: now + pause }
    }

    fn part(&mut self) -> Duration {
        let last = std::mem::replace(&mut self.last, Instant::now());
        self.last - last
    }

    /// Says what is being waited for, and how long it may take.
    fn shown(&self, what: &str, progress: &dyn Fn(String)) {
        progress(format!("writes wait, for {:.1} s at most: {what}", self.left().as_secs_f64()));
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}

impl Leg<'_> {
    /// Fences the range, closes the giver, and brings over what is on its way, all before one deadline; then passes
    /// the point of no return.
    ///
    /// # Errors
    /// When that takes too long: nothing is lost, and the giver can be opened again.
    pub(super) async fn pause(
        &self,
        spillway: &Spillway,
        limits: &PauseLimits,
        progress: &dyn Fn(String),
    ) -> Result<PauseReport, MoveError> {
        let (mut watch, mut report) = (Watch::new(limits.pause), PauseReport::default());
        watch.shown("the sidecars hold them", progress);
        self.fence(spillway, limits.drain.as_secs().max(1)).await?;
        report.fence = watch.part();
        watch.shown("open transactions end", progress);
        gate::set(self.giver, self.id, GateState::Closed).await?;
        drain(self.giver, self.id, limits.drain.min(watch.left())).await?;
        report.drain = watch.part();
        watch.shown("the last of them reach the other database", progress);
        self.bring_marker(watch.end).await?;
        report.marker = watch.part();
        sequences::set(self.giver, self.taker, self.moved, limits.gap).await?;
        report.sequences = watch.part();
        if watch.left().is_zero() {
            return Err(MoveError::PauseTooLong("the sequences were set".to_owned()));
        }
        self.pass_return(spillway).await?;
        report.no_return = watch.part();
        Ok(report)
    }

    /// The same past the point of no return, where nothing but waiting helps.
    pub(super) async fn bring_over_without_end(
        &self,
        limits: &PauseLimits,
        say: &dyn Fn(String),
    ) -> Result<(), MoveError> {
        if gate::state(self.giver, self.id).await? == Some(GateState::Open) {
            gate::set(self.giver, self.id, GateState::Closed).await?;
        }
        while let Err(why) = drain(self.giver, self.id, DRAIN_ROUND).await {
            if !why.may_pass() {
                return Err(why);
            }
            say(why.to_string());
        }
        if gate::state(self.taker, self.id).await? == Some(GateState::Open) {
            // It was opened, so all had arrived before; and its own writes must not be passed over.
            return Ok(());
        }
        let mut lookout = Lookout::new(self.giver, self.taker, (self.moved, self.channel), say);
        let number = marker::set(self.giver, self.channel).await?;
        while !self.has_arrived(number).await? {
            lookout.look().await?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(sequences::set(self.giver, self.taker, self.moved, limits.gap).await?)
    }

    /// Writes a marker at the giver and waits until the taker has it on its disk.
    async fn bring_marker(&self, end: Instant) -> Result<(), MoveError> {
        let number = marker::set(self.giver, self.channel).await?;
        while !self.has_arrived(number).await? {
            if Instant::now() >= end {
                let own = subscription::following(self.giver, self.taker, self.channel).await?;
                own.checked(self.giver)?;
                return Err(MoveError::PauseTooLong(own.shown(None)));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Whether the taker has the marker on its disk. Replication commits without waiting for the disk; one transaction
    /// that waits brings all before it there. It must see the marker itself: a taker that crashed in between would
    /// have neither. What stands in the taker's log until then came from the giver, or is none of the range.
    async fn has_arrived(&self, number: i64) -> Result<bool, ServerError> {
        let sql = arriving(self.channel, number);
        Ok(self.taker.execute("note the marker", &sql, &[]).await? == 1)
    }
}

/// The statement that notes the marker of this number if it is there.
pub fn arriving(channel: Channel, number: impl fmt::Display) -> String {
    format!(
        "INSERT INTO spillway.arrival SELECT {}, n, pg_current_wal_insert_lsn() FROM {} WHERE n = {number} \
         ON CONFLICT (move) DO UPDATE SET marker = excluded.marker, until = excluded.until",
        channel.id,
        channel.marker()
    )
}

/// The statements that wait for transactions which saw the gate open.
pub fn draining(id: MoveId, limit: Duration) -> String {
    let (millis, class) = (limit.as_millis().max(1), gate::LOCK_CLASS);
    format!(
        "BEGIN; SET LOCAL lock_timeout = {millis}; SELECT pg_advisory_xact_lock({class}, {id}); COMMIT"
    )
}

/// Waits until every transaction has ended that saw the gate open.
async fn drain(giver: &Session, id: MoveId, limit: Duration) -> Result<(), MoveError> {
    let sql = draining(id, limit);
    let Err(why) = giver.batch("wait for open transactions of the range", &sql).await else {
        return Ok(());
    };
    giver.batch("end a transaction", "ROLLBACK").await?;
    if !why.is(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE) {
        return Err(MoveError::Server(why));
    }
    Err(MoveError::Undrained(holders(giver, id).await?))
}

/// Which transactions wrote in the range and have not ended, for people.
async fn holders(giver: &Session, id: MoveId) -> Result<String, ServerError> {
    let sql = format!(
        "SELECT CASE WHEN l.pid IS NULL THEN 'the prepared transaction ' || coalesce(quote_literal(p.gid), '?') || \
         ' (COMMIT PREPARED or ROLLBACK PREPARED ends it)' \
         ELSE 'pid ' || l.pid || ' (' || coalesce(a.usename, '?') || ', ' || coalesce(a.application_name, '') || ', ' || \
         coalesce(a.state, '?') || ', a transaction of ' || coalesce(extract(epoch FROM now() - a.xact_start)::bigint, 0) || ' s)' END \
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         LEFT JOIN pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid' \
         AND x.virtualtransaction = l.virtualtransaction \
         LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid WHERE l.locktype = 'advisory' \
         AND l.classid = {} AND l.objid = {id} AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() LIMIT 5",
        gate::LOCK_CLASS
    );
    let rows = giver.rows("look for open transactions", &sql, &[]).await?;
    let shown: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(if shown.is_empty() { "it has ended by now".to_owned() } else { shown.join(", ") })
}
