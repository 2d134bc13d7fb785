//! The lock that whoever changes a source holds.

use super::error::JournalError;
use crate::server::{ServerError, Session};
use tokio_postgres::Row;

/// The class of the advisory lock; its object is 0.
const LOCK_CLASS: i32 = 20_561;

/// A session that holds the source's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pid: i32,
    /// When its process of the server began: a later one may have the same pid.
    since: String,
    /// For people.
    who: String,
}

/// Whose session may be ended for the lock.
#[derive(Debug)]
pub enum MayEnd {
    Nobody,
    /// That of this process, which its server has not missed yet.
    Former(Holder),
    Anybody,
}

impl MayEnd {
    fn includes(&self, holder: &Holder) -> bool {
        match self {
            Self::Nobody => false,
            Self::Former(own) => own == holder,
            Self::Anybody => true,
        }
    }
}

/// Takes the lock, which lasts as long as the session.
///
/// # Errors
/// `Locked` when a session holds it that may not be ended.
pub(super) async fn take(session: &Session, mut may_end: MayEnd) -> Result<(), JournalError> {
    let doing = "take the source's lock";
    loop {
        let sql = format!("SELECT pg_try_advisory_lock({LOCK_CLASS}, 0)");
        if session.row(doing, &sql, &[]).await?.get(0) {
            return Ok(());
        }
        let Some(holder) = holder(session).await? else { continue };
        if !may_end.includes(&holder) {
            return Err(JournalError::Locked(format!("pid {}, {}", holder.pid, holder.who)));
        }
        let sql = "SELECT pg_terminate_backend($1, 5000)";
        session.rows("end the session that has the lock", sql, &[&holder.pid]).await?;
        may_end = MayEnd::Nobody;
    }
}

/// The session that has the lock.
///
/// # Errors
/// When the server does not answer.
pub(super) async fn holder(session: &Session) -> Result<Option<Holder>, ServerError> {
    let sql = format!(
        "SELECT l.pid, coalesce(a.application_name, '') || ' from ' || coalesce(a.client_addr::text, 'this machine'), \
         coalesce(a.backend_start::text, '') FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.classid = {LOCK_CLASS} AND l.objid = 0 AND l.granted \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    let rows = session.rows("look who has the source's lock", &sql, &[]).await?;
    let of = |row: &Row| Holder { pid: row.get(0), who: row.get(1), since: row.get(2) };
    Ok(rows.first().map(of))
}
