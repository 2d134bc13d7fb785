//! What is known of a move: a row in the source's database. The tool itself keeps nothing, so that any machine may
//! go on where another one was killed.

mod error;
mod lock;
mod number;
mod step;

pub use error::JournalError;
pub use lock::{Holder, MayEnd};
pub use step::Step;

use crate::moved::{Move, MoveId, MovedTable};
use crate::server::{ServerError, Session};
use crate::sql::{Identifier, KeyRange, TableName};
use rules::document::KeyType;
use rules::shard::ShardKey;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

/// The format of the plan. A tool does not touch a move of a higher one.
const FORMAT: i32 = 1;

/// The statements that create the journal.
pub const CREATE: &str = "\
CREATE SCHEMA IF NOT EXISTS spillway;
CREATE TABLE IF NOT EXISTS spillway.move (
  id int PRIMARY KEY, format int NOT NULL, step text NOT NULL, plan jsonb NOT NULL, removed jsonb, paused boolean NOT NULL DEFAULT false,
  lost_slots int NOT NULL DEFAULT 0, compared jsonb NOT NULL DEFAULT '{}',
  began timestamptz NOT NULL DEFAULT clock_timestamp(), changed timestamptz NOT NULL DEFAULT clock_timestamp())";
/// The statement that begins a move: $1 is its number, $2 the format, $3 the plan.
pub const BEGIN: &str = "INSERT INTO spillway.move (id, format, step, plan) VALUES ($1, $2, 'planned', $3::text::jsonb)";
const SELECT: &str = "\
SELECT id, format, step, plan::text AS plan, removed::text AS removed, lost_slots, extract(epoch FROM clock_timestamp() - began)::bigint AS age
FROM spillway.move";

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
    /// How a key is made from an index that is made before; none: it is made as a whole.
    #[serde(default)]
    pub by_index: Option<KeyIndex>,
    /// Whether updates of replicated rows find them by it.
    pub is_replica_identity: bool,
}

/// The index of a key. Unlike the key it can be made while others of its table are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyIndex {
    /// Quoted with its schema.
    pub name: String,
    /// The whole statement that makes it.
    pub definition: String,
    /// What follows the key's name, as `PRIMARY KEY USING INDEX prices_pkey`.
    pub using: String,
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
    /// How often its copy has begun again because its slot was lost.
    pub lost_slots: i32,
    /// Seconds since it began.
    pub age: i64,
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
    /// `Locked` when a session holds the lock that may not be ended.
    pub async fn open(session: &'s Session, may_end: MayEnd) -> Result<Self, JournalError> {
        lock::take(session, may_end).await?;
        session.batch("create the journal", CREATE).await?;
        Ok(Self { session })
    }

    /// The session by which this journal holds the lock.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn holder(&self) -> Result<Holder, JournalError> {
        let lost = || ServerError::other(self.session.spot(), "look for the lock", "nobody has it");
        Ok(lock::holder(self.session).await?.ok_or_else(lost)?)
    }

    /// Begins a move; its number is one that no other has had here, or has at the target.
    ///
    /// # Errors
    /// When a server refuses it.
    pub async fn begin(
        &self,
        target: &Session,
        moved: &Move,
        clusters: Clusters,
    ) -> Result<Entry, JournalError> {
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
        let used = number::highest(self.session).await?.max(number::highest(target).await?);
        let number = used.saturating_add(1);
        self.session.execute("begin the move", BEGIN, &[&number, &FORMAT, &json]).await?;
        let id = MoveId(u32::try_from(number).unwrap_or_default());
        let moved = Move { id, ..moved.clone() };
        let clusters = plan.clusters;
        let step = Step::Planned;
        Ok(Entry { moved, step, clusters, removed: None, lost_slots: 0, age: 0 })
    }

    /// Notes that a step is done.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn to(&self, entry: &mut Entry, step: Step) -> Result<(), ServerError> {
        let doing = format!("note that the move is {}", step.name());
        self.session.execute(&doing, &noting(entry.moved.id, step), &[]).await?;
        entry.step = step;
        Ok(())
    }

    /// Notes that the copy begins again, because its slot was lost.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn copy_again(&self, entry: &mut Entry) -> Result<(), ServerError> {
        let (id, step) = (entry.moved.id.number(), Step::Copying);
        let sql = "UPDATE spillway.move SET step = $2, lost_slots = lost_slots + 1, compared = '{}', changed = clock_timestamp() \
                   WHERE id = $1 RETURNING lost_slots";
        let doing = "note that the copy begins again";
        let row = self.session.row(doing, sql, &[&id, &step.name()]).await?;
        (entry.step, entry.lost_slots) = (step, row.get(0));
        Ok(())
    }

    /// What of the rows was found the same, as JSON.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn compared(&self, id: MoveId) -> Result<String, ServerError> {
        let sql = "SELECT compared::text FROM spillway.move WHERE id = $1";
        Ok(self.session.row("read what was compared", sql, &[&id.number()]).await?.get(0))
    }

    /// Keeps that.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn keep_compared(&self, id: MoveId, json: &str) -> Result<(), ServerError> {
        let sql = "UPDATE spillway.move SET compared = $2::text::jsonb, changed = clock_timestamp() WHERE id = $1";
        let doing = "keep what was compared";
        self.session.execute(doing, sql, &[&id.number(), &json]).await.map(|_| ())
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

/// The statement that notes a step.
pub fn noting(id: MoveId, step: Step) -> String {
    let step = step.name();
    format!("UPDATE spillway.move SET step = '{step}', changed = clock_timestamp() WHERE id = {id}")
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

fn read(row: &Row) -> Result<Entry, String> {
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
    let (lost_slots, age) = (row.get("lost_slots"), row.get("age"));
    Ok(Entry { moved, step, clusters: plan.clusters, removed, lost_slots, age })
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
