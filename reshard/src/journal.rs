//! What is known of a move: a row in the source's database. The tool itself keeps nothing, so that any machine may
//! go on where another one was killed.

use crate::moved::{Move, MoveId, MovedTable};
use crate::server::{ServerError, Session, Spot};
use crate::sql::{Identifier, KeyRange, TableName};
use rules::document::KeyType;
use rules::shard::ShardKey;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The format of the plan. A tool does not touch a move of a higher one.
const FORMAT: i32 = 1;
/// The class of the advisory lock that whoever changes the source holds; its object is 0.
const LOCK_CLASS: i32 = 20_561;

/// The statements that create the journal.
pub const CREATE: &str = "\
CREATE SCHEMA IF NOT EXISTS spillway;
CREATE TABLE IF NOT EXISTS spillway.move (
  id int PRIMARY KEY, format int NOT NULL, step text NOT NULL, plan jsonb NOT NULL, removed jsonb, paused boolean NOT NULL DEFAULT false,
  began timestamptz NOT NULL DEFAULT clock_timestamp(), changed timestamptz NOT NULL DEFAULT clock_timestamp())";
const SELECT: &str = "\
SELECT id, format, step, plan::text AS plan, removed::text AS removed, extract(epoch FROM clock_timestamp() - began)::bigint AS age
FROM spillway.move";

/// How far a move has come. Each step is done over from its beginning by whoever goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its row exists.
    Planned,
    /// The gates exist: closed at the target, open at the source.
    Gated,
    /// The definitions of what is removed from the target are kept; rows may be there.
    Copying,
    /// The rows of the snapshot are at the target.
    Copied,
    /// Keys and indexes are back.
    Indexed,
    /// The target follows the source.
    Following,
    /// Both have been compared while the target followed.
    Verified,
    /// The way back is made.
    Prepared,
    /// The map's members are told, or are about to be.
    Announced,
    /// The range's writes wait, or are about to: whoever goes on undoes that first.
    Fencing,
    /// The map can only be committed.
    PastReturn,
    /// The target owns the range.
    Committed,
    /// The source follows the target.
    Switched,
    /// The same as `Announced` on the way back.
    BackAnnounced,
    /// The same as `Fencing` on the way back.
    BackFencing,
    /// The same as `PastReturn` on the way back.
    BackPastReturn,
    /// The source owns the range again, with all that was written at the target.
    RolledBack,
    /// The way back is closed; the source's rows are being removed.
    Finishing,
    /// Nothing is left of it but its row: the range lies at the target alone.
    Finished,
    /// It is being undone.
    Aborting,
    /// Nothing is left of it but its row.
    Aborted,
}

impl Step {
    const ALL: [Self; 21] = [
        Self::Planned,
        Self::Gated,
        Self::Copying,
        Self::Copied,
        Self::Indexed,
        Self::Following,
        Self::Verified,
        Self::Prepared,
        Self::Announced,
        Self::Fencing,
        Self::PastReturn,
        Self::Committed,
        Self::Switched,
        Self::BackAnnounced,
        Self::BackFencing,
        Self::BackPastReturn,
        Self::RolledBack,
        Self::Finishing,
        Self::Finished,
        Self::Aborting,
        Self::Aborted,
    ];

    /// As the journal has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Gated => "gated",
            Self::Copying => "copying",
            Self::Copied => "copied",
            Self::Indexed => "indexed",
            Self::Following => "following",
            Self::Verified => "verified",
            Self::Prepared => "prepared",
            Self::Announced => "announced",
            Self::Fencing => "fencing",
            Self::PastReturn => "past-return",
            Self::Committed => "committed",
            Self::Switched => "switched",
            Self::BackAnnounced => "back-announced",
            Self::BackFencing => "back-fencing",
            Self::BackPastReturn => "back-past-return",
            Self::RolledBack => "rolled-back",
            Self::Finishing => "finishing",
            Self::Finished => "finished",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
        }
    }

    /// Whether the move has ended.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Aborted | Self::Finished)
    }
}

/// Something that was removed from an empty target for the time of the copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Quoted, for SQL.
    pub table: String,
    /// Name of the constraint or index, quoted with its schema where it is an index.
    pub name: String,
    pub kind: RemovedKind,
    /// What PostgreSQL says of it: of a constraint what follows its name, of an index the whole statement.
    pub definition: String,
    /// Whether updates of replicated rows find them by it.
    pub is_replica_identity: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemovedKind {
    /// A primary, unique or exclusion key.
    Key,
    Index,
    ForeignKey,
}

/// A plan as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    map: String,
    key_type: KeyType,
    from: Option<String>,
    until: Option<String>,
    source: String,
    target: String,
    tables: Vec<PlannedTable>,
    clusters: Clusters,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PlannedTable {
    schema: String,
    name: String,
    key: String,
}

/// The two clusters by the numbers that no other cluster has: a move does not go on in another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clusters {
    pub source: String,
    pub target: String,
}

/// One move of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub moved: Move,
    pub step: Step,
    pub clusters: Clusters,
    /// None: not decided yet.
    pub removed: Option<Vec<Removed>>,
    /// Seconds since it began.
    pub age: i64,
}

/// Why the journal can't be used.
#[derive(Debug, Clone)]
pub enum JournalError {
    Server(ServerError),
    /// Another tool works on this source: its session.
    Locked(String),
    /// The row is of a newer version of this tool, or was changed by hand.
    Unreadable(Spot, i32, String),
}

impl fmt::Display for JournalError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(why) => why.fmt(out),
            Self::Locked(who) => write!(
                out,
                "source-locked: another run works on this source: {who}; wait until it has ended, or end it with --take-over"
            ),
            Self::Unreadable(spot, id, why) => {
                write!(out, "{spot}: the journal's row of move {id} can't be read: {why}")
            }
        }
    }
}

impl std::error::Error for JournalError {}

impl From<ServerError> for JournalError {
    fn from(why: ServerError) -> Self {
        Self::Server(why)
    }
}

/// The journal, held by the one tool that may change its source.
#[derive(Debug)]
pub struct Journal<'s> {
    session: &'s Session,
}

impl<'s> Journal<'s> {
    /// Takes the source's lock, which lasts as long as the session, and creates the journal if there is none.
    ///
    /// # Errors
    /// `Locked` when another tool holds the lock and `take_over` is not set.
    pub async fn open(session: &'s Session, take_over: bool) -> Result<Self, JournalError> {
        let doing = "take the source's lock";
        let mut may_end = take_over;
        loop {
            let sql = format!("SELECT pg_try_advisory_lock({LOCK_CLASS}, 0)");
            if session.row(doing, &sql, &[]).await?.get(0) {
                break;
            }
            let holders = session.rows(doing, &holders(), &[]).await?;
            let Some(holder) = holders.first() else { continue };
            let (pid, who): (i32, String) = (holder.get(0), holder.get(1));
            if !may_end {
                return Err(JournalError::Locked(format!("pid {pid}, {who}")));
            }
            session
                .rows(
                    "end the other tool's session",
                    "SELECT pg_terminate_backend($1, 5000)",
                    &[&pid],
                )
                .await?;
            may_end = false;
        }
        session.batch("create the journal", CREATE).await?;
        Ok(Self { session })
    }

    /// Begins a move; its number is one that no other has had here.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn begin(&self, moved: &Move, clusters: Clusters) -> Result<Entry, JournalError> {
        let plan = Plan {
            map: moved.map.clone(),
            key_type: moved.range.key_type(),
            from: moved.range.from().map(ShardKey::to_string),
            until: moved.range.until().map(ShardKey::to_string),
            source: moved.source.clone(),
            target: moved.target.clone(),
            tables: moved.tables.iter().map(PlannedTable::of).collect(),
            clusters,
        };
        let json = serde_json::to_string(&plan).unwrap_or_default();
        let row = self
            .session
            .row(
                "begin the move",
                "INSERT INTO spillway.move (id, format, step, plan) \
                 SELECT coalesce(max(id), 0) + 1, $1, 'planned', $2::text::jsonb FROM spillway.move RETURNING id",
                &[&FORMAT, &json],
            )
            .await?;
        let id = MoveId(u32::try_from(row.get::<_, i32>(0)).unwrap_or_default());
        let moved = Move { id, ..moved.clone() };
        let clusters = plan.clusters;
        Ok(Entry { moved, step: Step::Planned, clusters, removed: None, age: 0 })
    }

    /// Notes that a step is done.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn to(&self, entry: &mut Entry, step: Step) -> Result<(), ServerError> {
        let id = entry.moved.id.number();
        let doing = format!("note that the move is {}", step.name());
        let sql = "UPDATE spillway.move SET step = $2, changed = clock_timestamp() WHERE id = $1";
        self.session.execute(&doing, sql, &[&id, &step.name()]).await?;
        entry.step = step;
        Ok(())
    }

    /// Keeps what is going to be removed from the target, before it is.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn keep(&self, entry: &mut Entry, removed: Vec<Removed>) -> Result<(), ServerError> {
        let (id, json) = (entry.moved.id.number(), serde_json::to_string(&removed));
        let sql = "UPDATE spillway.move SET removed = $2::text::jsonb, changed = clock_timestamp() WHERE id = $1";
        let doing = "keep the definitions of the target's indexes";
        self.session.execute(doing, sql, &[&id, &json.unwrap_or_default()]).await?;
        entry.removed = Some(removed);
        Ok(())
    }
}

/// All moves of a source's journal, the oldest first; none where it has no journal.
///
/// # Errors
/// When the server does not answer, or a row can't be read.
pub async fn entries(session: &Session) -> Result<Vec<Entry>, JournalError> {
    let doing = "read the journal";
    let exists = "SELECT to_regclass('spillway.move') IS NOT NULL";
    if !session.row(doing, exists, &[]).await?.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    let rows = session.rows(doing, &format!("{SELECT} ORDER BY id"), &[]).await?;
    let read = rows.iter().map(|row| {
        let id: i32 = row.get("id");
        read(row).map_err(|why| JournalError::Unreadable(session.spot().clone(), id, why))
    });
    read.collect()
}

fn read(row: &tokio_postgres::Row) -> Result<Entry, String> {
    let format: i32 = row.get("format");
    if format > FORMAT {
        return Err(format!(
            "it has format {format}, this version knows {FORMAT}: take a newer one"
        ));
    }
    let name: String = row.get("step");
    let step = Step::ALL.into_iter().find(|step| step.name() == name);
    let step = step.ok_or_else(|| format!("this version knows no step `{name}`"))?;
    let plan: Plan = serde_json::from_str(row.get("plan")).map_err(|why| why.to_string())?;
    let removed: Option<String> = row.get("removed");
    let removed = removed.map(|text| serde_json::from_str(&text)).transpose();
    let key = |text: &Option<String>| {
        let parse = |text: &String| {
            ShardKey::parse(plan.key_type, text).ok_or_else(|| format!("`{text}` is no key"))
        };
        text.as_ref().map(parse).transpose()
    };
    let range = KeyRange::new(plan.key_type, key(&plan.from)?, key(&plan.until)?);
    let tables: Result<Vec<MovedTable>, String> =
        plan.tables.iter().map(PlannedTable::read).collect();
    let id = u32::try_from(row.get::<_, i32>("id")).map_err(|why| why.to_string())?;
    let moved = Move {
        id: MoveId(id),
        map: plan.map,
        range: range.map_err(|why| why.to_string())?,
        source: plan.source,
        target: plan.target,
        tables: tables?,
    };
    let removed = removed.map_err(|why| why.to_string())?;
    Ok(Entry { moved, step, clusters: plan.clusters, removed, age: row.get("age") })
}

impl PlannedTable {
    fn of(own: &MovedTable) -> Self {
        let text = |name: &Identifier| name.as_str().to_owned();
        Self { schema: text(&own.name.schema), name: text(&own.name.name), key: text(&own.key) }
    }

    fn read(&self) -> Result<MovedTable, String> {
        let name = |text: &String| Identifier::new(text).map_err(|why| why.to_string());
        let table = TableName { schema: name(&self.schema)?, name: name(&self.name)? };
        Ok(MovedTable { name: table, key: name(&self.key)? })
    }
}

fn holders() -> String {
    format!(
        "SELECT l.pid, coalesce(a.application_name, '') || ' from ' || coalesce(a.client_addr::text, 'this machine') \
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.classid = {LOCK_CLASS} AND l.objid = 0 AND l.granted \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
}
