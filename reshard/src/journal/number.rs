//! Numbers of moves. What a move creates bears its number, at both databases, and each of them may be source or target
//! of other moves whose journal lies elsewhere.

use crate::server::{ServerError, Session};

/// Everything whose name has the number of a move: gates, publications, subscriptions and slots.
const NAMES: &str = "\
SELECT coalesce(max(coalesce(substring(name FROM '^(?:spillway_|spillway_back_|gate_)([0-9]{1,9})(?:_[0-9]+)?$')::int, 0)), 0) FROM (
  SELECT relname::text AS name FROM pg_class WHERE relkind = 'S' AND relnamespace = to_regnamespace('spillway')
  UNION ALL SELECT pubname::text FROM pg_publication
  UNION ALL SELECT subname::text FROM pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()) AS names";

/// The highest number that a move has here, whoever has begun it; 0: none.
///
/// # Errors
/// When the server does not answer.
pub(super) async fn highest(session: &Session) -> Result<i32, ServerError> {
    let doing = "look for a free number";
    let named: i32 = session.row(doing, NAMES, &[]).await?.get(0);
    let sql = "SELECT to_regclass('spillway.move') IS NOT NULL";
    if !session.row(doing, sql, &[]).await?.get::<_, bool>(0) {
        return Ok(named);
    }
    let sql = "SELECT coalesce(max(id), 0) FROM spillway.move";
    Ok(named.max(session.row(doing, sql, &[]).await?.get(0)))
}
