//! A move that has begun, found in the journal of its source, and what works on it.

use super::arguments::{EndArguments, OnMove, SwitchArguments};
use super::open::{addresses, endpoint, map_facts};
use super::report::Report;
use super::stop::Stop;
use crate::interrupt::Interrupt;
use crate::journal::{Entry, Journal, entries};
use crate::limits::PauseLimits;
use crate::map::Spillway;
use crate::mover::{CopyOptions, Mover};
use crate::replication::subscription;
use crate::server::{Endpoint, ServerError, Session};
use std::time::Duration;

/// What the leading sessions are called in `pg_stat_activity`; those that copy have the move's number.
pub const SESSION: &str = "reshard";
/// Of the time that the map holds writes: left for the commit, and for sidecars to hear of it.
const COMMIT_SHARE: Duration = Duration::from_secs(1);

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

/// What a mover is made of.
pub struct MoverParts {
    pub databases: Databases,
    pub spillway: Spillway,
    pub limits: PauseLimits,
    /// By which the target reaches the source.
    pub connection: String,
    /// By which the source reaches the target.
    pub back_connection: String,
    pub options: CopyOptions,
}

impl MoverParts {
    pub fn mover<'m>(
        &'m self,
        journal: &'m Journal<'m>,
        report: &'m Report,
        interrupt: &'m Interrupt,
    ) -> Mover<'m> {
        Mover {
            journal,
            source: &self.databases.source,
            target: &self.databases.target,
            source_endpoint: &self.databases.source_endpoint,
            target_endpoint: &self.databases.target_endpoint,
            connection: self.connection.clone(),
            back_connection: self.back_connection.clone(),
            spillway: &self.spillway,
            options: self.options,
            limits: self.limits,
            listener: report,
            interrupt,
        }
    }
}

/// The limits of a switch, of which the whole pause is given by the map: `hold` is how long it holds writes.
pub fn limits(own: &SwitchArguments, hold: Duration) -> PauseLimits {
    PauseLimits {
        pause: hold.saturating_sub(COMMIT_SHARE),
        drain: Duration::from_secs(own.drain),
        wait_jobs: Duration::from_secs(own.wait_jobs),
        gap: own.gap,
    }
}

/// The move that is meant: by its number, else the one that has not ended.
///
/// # Errors
/// When there is none, or more than one.
pub async fn entry(source: &Session, number: Option<u32>) -> Result<Entry, Stop> {
    let all = entries(source).await?;
    let is_meant = |own: &Entry| match number {
        Some(number) => own.moved.id.0 == number,
        None => !own.step.is_over(),
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
    let source = source_endpoint.session(SESSION).await?;
    let entry = entry(&source, own.number).await?;
    let target_endpoint = endpoint(&addresses, &entry.moved.target)?;
    let target = target_endpoint.session(SESSION).await?;
    Ok((entry, Databases { source_endpoint, target_endpoint, source, target }))
}

/// The same with what ends it.
///
/// # Errors
/// As [`open`]; code 78 when the rules file can't be read.
pub async fn open_to_end(own: &EndArguments) -> Result<(Entry, MoverParts), Stop> {
    let (entry, databases) = open(&own.on).await?;
    let spillway = own.spillway.spillway();
    let map = map_facts(&spillway, &entry.moved.map).await?;
    let of = |own: &Endpoint| subscription::connection(&own.address, own.password.as_ref());
    let parts = MoverParts {
        connection: of(&databases.source_endpoint),
        back_connection: of(&databases.target_endpoint),
        databases,
        spillway,
        limits: limits(&own.switch, map.hold),
        options: CopyOptions {
            jobs: 1,
            rate: None,
            removes_indexes: false,
            may_copy_again: false,
            owner_check: !own.no_owner_check,
        },
    };
    Ok((entry, parts))
}
