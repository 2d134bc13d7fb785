//! Transactions of a cluster that have written and are not over: a new slot waits for each of them.

use crate::server::{ServerError, Session};

/// One of them. Two looks that find the same `number` have found one that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The transaction's number.
    pub number: String,
    pub database: String,
    pub user: String,
    /// How long it has been open, in seconds.
    pub seconds: i64,
    /// The session's process; none: it is prepared and has none.
    pub pid: Option<i32>,
    /// The name of a prepared one, or what the session calls itself.
    pub name: String,
}

const OPEN: &str = "\
SELECT backend_xid::text AS number, coalesce(datname::text, '') AS database, coalesce(usename::text, '') AS owner,
       extract(epoch FROM clock_timestamp() - xact_start)::bigint AS seconds, pid, application_name AS name
FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
  AND backend_type <> 'autovacuum worker'
UNION ALL
SELECT transaction::text, database::text, owner::text, extract(epoch FROM clock_timestamp() - prepared)::bigint,
       NULL, gid FROM pg_prepared_xacts";

impl OpenTransaction {
    /// All of the cluster, of every database, as far as our role sees them. What autovacuum does ends by itself, and
    /// nobody should end it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read_all(session: &Session) -> Result<Vec<Self>, ServerError> {
        let rows = session.rows("look for open transactions", OPEN, &[]).await?;
        let of_row = |row: &tokio_postgres::Row| Self {
            number: row.get("number"),
            database: row.get("database"),
            user: row.get("owner"),
            seconds: row.get("seconds"),
            pid: row.get("pid"),
            name: row.get("name"),
        };
        Ok(rows.iter().map(of_row).collect())
    }
}
