//! A move that has begun, found in the journal of its source.

use super::arguments::OnMove;
use super::open::{addresses, endpoint};
use super::stop::Stop;
use crate::journal::{Entry, Step, entries};
use crate::server::{Endpoint, ServerError, Session};

/// The databases of a move.
pub struct Databases {
    pub source_endpoint: Endpoint,
    pub target_endpoint: Endpoint,
    pub source: Session,
    pub target: Session,
}

impl Databases {
    /// Opens a session with each.
    ///
    /// # Errors
    /// When one is not there.
    pub async fn open(
        source_endpoint: Endpoint,
        target_endpoint: Endpoint,
    ) -> Result<Self, ServerError> {
        let source = source_endpoint.session(SESSION).await?;
        let target = target_endpoint.session(SESSION).await?;
        Ok(Self { source_endpoint, target_endpoint, source, target })
    }
}

/// What the leading sessions are called in `pg_stat_activity`; those that copy have the move's number.
pub const SESSION: &str = "reshard";

/// The move that is meant: by its number, else the one that has not ended.
///
/// # Errors
/// When there is none, or more than one.
pub async fn entry(source: &Session, number: Option<u32>) -> Result<Entry, Stop> {
    let all = entries(source).await.map_err(Stop::run)?;
    let is_meant = |own: &Entry| match number {
        Some(number) => own.moved.id.0 == number,
        None => own.step != Step::Aborted,
    };
    let mut meant: Vec<Entry> = all.into_iter().filter(is_meant).collect();
    match (meant.len(), number) {
        (0, Some(number)) => Err(Stop::run(format!(
            "no-such-move: the journal of shard `{}` has no move {number}: `reshard status` lists them",
            source.spot().shard
        ))),
        (0, None) => Err(Stop::run(format!(
            "no-such-move: no move is under way from shard `{}`",
            source.spot().shard
        ))),
        (1, _) => Ok(meant.remove(0)),
        (_, _) => Err(Stop::config("several moves are under way: say which with --move NUMBER")),
    }
}

/// The move that is meant, and its databases.
///
/// # Errors
/// As [`entry`]; code 78 when an address is missing.
pub async fn open(own: &OnMove) -> Result<(Entry, Databases), Stop> {
    let addresses = addresses(&own.connections)?;
    let source_endpoint = endpoint(&addresses, &own.source)?;
    let source = source_endpoint.session(SESSION).await.map_err(Stop::run)?;
    let entry = entry(&source, own.number).await?;
    let target_endpoint = endpoint(&addresses, &entry.moved.target)?;
    let target = target_endpoint.session(SESSION).await.map_err(Stop::run)?;
    Ok((entry, Databases { source_endpoint, target_endpoint, source, target }))
}
