//! The gate of a range: triggers by which the owner's own database refuses whoever writes there while it is closed.
//!
//! Its state is a sequence, because a sequence is not versioned: a transaction of any isolation level sees the state
//! of now, also one whose snapshot is older. Whoever saw it open holds a shared advisory lock until its transaction
//! ends, so that the exclusive lock, taken once after the closing, has waited for all of them.
//!
//! Ordinary triggers do not fire for replication, nor in sessions with `session_replication_role = replica`: both
//! ways by which rows of the range reach the target pass a closed gate.

use crate::moved::{Move, MoveId, MovedTable};
use crate::server::{ServerError, Session};
use crate::sql::{Literal, RowSide, TableName};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

/// The class of the advisory lock of a gate; its object is the number of the move.
pub(crate) const LOCK_CLASS: i32 = 20_560;
/// In the place of a move's number, which begin with 1: the lock of whoever creates a gate.
const CREATION: u32 = 0;
/// How long one statement waits for the lock of a table. Others queue behind it meanwhile.
const LOCK_TIMEOUT: &str = "200ms";
/// Between two tries, so that those who queued behind the last one get on.
const LOCK_PAUSE: Duration = Duration::from_millis(300);
/// After this, somebody holds the table who does not let go.
const LOCK_PATIENCE: Duration = Duration::from_secs(120);

/// What a gate lets through. The number is the value of its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateState {
    /// Writes of the range pass.
    Open = 0,
    /// Writes of the range are refused.
    Closed = 1,
    /// The same: the range belongs to the other database, and only a move can change that.
    Moved = 2,
}

/// Statements that create sequence and functions. They change nothing of a gate that exists.
pub fn objects(moved: &Move, state: GateState) -> Vec<String> {
    let id = moved.id;
    let (gate, refusal, value) = (id.gate(), id.refusal(), state as i64);
    let described = text(&moved.described());
    vec![
        "CREATE SCHEMA IF NOT EXISTS spillway".to_owned(),
        format!("CREATE SEQUENCE IF NOT EXISTS {gate} MINVALUE 0 START 0"),
        format!("COMMENT ON SEQUENCE {gate} IS {described}"),
        format!("SELECT setval('{gate}', {value}) WHERE pg_sequence_last_value('{gate}') IS NULL"),
        format!(
            "CREATE OR REPLACE FUNCTION {gate}() RETURNS trigger LANGUAGE plpgsql \
             SECURITY DEFINER SET search_path = pg_catalog AS $f$ BEGIN \
             PERFORM pg_advisory_xact_lock_shared({LOCK_CLASS}, {id}); \
             IF coalesce(pg_sequence_last_value('{gate}'), 1) > 0 THEN \
             RAISE EXCEPTION 'range % of % is closed here: it moves or has moved to another shard', \
             TG_ARGV[0], TG_TABLE_NAME USING ERRCODE = '55006'; END IF; \
             IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $f$"
        ),
        format!(
            "CREATE OR REPLACE FUNCTION {refusal}() RETURNS trigger LANGUAGE plpgsql \
             SECURITY DEFINER SET search_path = pg_catalog AS $f$ BEGIN \
             IF TG_OP = 'TRUNCATE' THEN RAISE EXCEPTION \
             'TRUNCATE of % is refused while its range % moves', TG_TABLE_NAME, TG_ARGV[0] \
             USING ERRCODE = '55006'; END IF; RAISE EXCEPTION \
             'a row of % can not enter or leave range % while that moves', TG_TABLE_NAME, TG_ARGV[0] \
             USING ERRCODE = '55006'; END $f$"
        ),
    ]
}

/// When the trigger of INSERT fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertTiming {
    /// The row is refused before anything looks at it.
    Before,
    /// For the time of a copy into an empty table. It refuses just as well: whoever sees the gate open then has its
    /// lock. But a row that exists is a conflict first. A BEFORE trigger, also one that does not fire, makes COPY write
    /// row by row, which costs a third more CPU time.
    After,
}

/// The statement that creates the trigger of INSERT, in place of the one that is there.
pub fn insert_trigger(moved: &Move, table: &MovedTable, timing: InsertTiming) -> String {
    let event = match timing {
        InsertTiming::Before => "BEFORE INSERT",
        InsertTiming::After => "AFTER INSERT",
    };
    let condition = moved.range.condition(&table.key, RowSide::New);
    let when = format!("FOR EACH ROW WHEN ({condition})");
    trigger((moved, table), 'i', (event, &when), &moved.id.gate())
}

fn trigger(
    (moved, table): (&Move, &MovedTable),
    kind: char,
    (event, when): (&str, &str),
    function: &TableName,
) -> String {
    let (own, name) = (trigger_name(moved.id, kind), &table.name);
    let range = text(&moved.range.to_string());
    format!(
        "CREATE OR REPLACE TRIGGER {own} {event} ON {name} {when} EXECUTE FUNCTION {function}({range})"
    )
}

/// Statements that create the triggers of one table. Triggers fire in the order of their names, and these come
/// last: an own BEFORE trigger of the application may still change the key.
pub fn triggers(moved: &Move, table: &MovedTable) -> Vec<String> {
    let condition = |side| moved.range.condition(&table.key, side);
    let (old, new) = (condition(RowSide::Old), condition(RowSide::New));
    let (gate, refusal) = (moved.id.gate(), moved.id.refusal());
    let row = |condition: String| format!("FOR EACH ROW WHEN ({condition})");
    let own =
        |kind, event, when: &str, function| trigger((moved, table), kind, (event, when), function);
    vec![
        insert_trigger(moved, table, InsertTiming::Before),
        own('u', "BEFORE UPDATE", &row(format!("{old} OR {new}")), &gate),
        own('d', "BEFORE DELETE", &row(old.clone()), &gate),
        own('b', "BEFORE UPDATE", &row(format!("{old} IS DISTINCT FROM {new}")), &refusal),
        own('t', "BEFORE TRUNCATE", "FOR EACH STATEMENT", &refusal),
    ]
}

/// A text for SQL. Neither a range nor the names of a map and of shards hold a byte 0, which alone is refused.
fn text(value: &str) -> String {
    Literal::bare(value).map_or_else(|_| "''".to_owned(), |own| own.to_string())
}

/// The five triggers of a table, by the letter at the end of their names.
const TRIGGERS: [char; 5] = ['i', 'u', 'd', 'b', 't'];

fn trigger_name(id: MoveId, kind: char) -> String {
    format!("zz_spillway_{id}_{kind}")
}

/// Creates the gate, in this state if it does not exist yet. Creating a trigger waits for all writers of its table,
/// and everybody queues behind it: so each try waits for a moment only.
///
/// # Errors
/// When a table stays locked, or the server refuses a statement.
pub async fn create(
    session: &Session,
    moved: &Move,
    state: GateState,
    say: &dyn Fn(String),
) -> Result<(), ServerError> {
    let doing = "create the gate";
    // Of two moves that took one number at the same moment, the second sees the gate of the first.
    let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK_CLASS}, {CREATION})");
    session.batch(doing, &begin).await?;
    let created = create_objects(session, moved, state).await;
    let end = if created.is_ok() { "COMMIT" } else { "ROLLBACK" };
    session.batch(doing, end).await?;
    created?;
    for table in &moved.tables {
        let doing = format!("create the gate's triggers on {}", table.name.shown());
        with_table(session, &doing, table, &triggers(moved, table), say).await?;
    }
    Ok(())
}

/// The other move, in words, that has a gate of this one's number here.
///
/// # Errors
/// When the server does not answer.
pub async fn other(session: &Session, moved: &Move) -> Result<Option<String>, ServerError> {
    let sql = "SELECT obj_description(to_regclass($1), 'pg_class')";
    let name = moved.id.gate().to_string();
    let described: Option<String> =
        session.row("look whose gate it is", sql, &[&name]).await?.get(0);
    let own = moved.described();
    Ok(described.filter(|other| *other != own))
}

async fn create_objects(
    session: &Session,
    moved: &Move,
    state: GateState,
) -> Result<(), ServerError> {
    let doing = "create the gate";
    if let Some(other) = other(session, moved).await? {
        let why = format!(
            "number-taken: the number {} is that of another move here ({other}): `reshard abort` this one, and begin again",
            moved.id
        );
        return Err(ServerError::other(session.spot(), doing, why));
    }
    session.batch(doing, &objects(moved, state).join(";\n")).await
}

/// Opens or closes it. A closing means something once [`drain`] has returned.
///
/// # Errors
/// When there is no gate.
pub async fn set(session: &Session, id: MoveId, state: GateState) -> Result<(), ServerError> {
    let doing = match state {
        GateState::Open => "open the gate",
        GateState::Closed | GateState::Moved => "close the gate",
    };
    session.rows(doing, &setting(id, state), &[]).await.map(|_| ())
}

/// The statement that sets the gate.
pub fn setting(id: MoveId, state: GateState) -> String {
    format!("SELECT setval('{}', {})", id.gate(), state as i64)
}

/// What the gate lets through; none: there is no gate.
///
/// # Errors
/// When the server does not answer.
pub async fn state(session: &Session, id: MoveId) -> Result<Option<GateState>, ServerError> {
    if !exists(session, id).await? {
        return Ok(None);
    }
    let sql = format!("SELECT pg_sequence_last_value('{}')", id.gate());
    let row = session.row("look at the gate", &sql, &[]).await?;
    Ok(Some(match row.get::<_, Option<i64>>(0) {
        Some(0) => GateState::Open,
        Some(2) => GateState::Moved,
        // One that was never set refuses, too.
        _ => GateState::Closed,
    }))
}

/// Whether the gate exists.
///
/// # Errors
/// When the server does not answer.
pub async fn exists(session: &Session, id: MoveId) -> Result<bool, ServerError> {
    let gate = id.gate().to_string();
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    Ok(session.row("look for the gate", sql, &[&gate]).await?.get(0))
}

/// Removes the gate: nothing refuses writes of the range any more but what `instead` puts in its place, in the same
/// transaction.
///
/// # Errors
/// As [`create`].
pub async fn remove(
    session: &Session,
    moved: &Move,
    instead: &dyn Fn(&MovedTable) -> Vec<String>,
    say: &dyn Fn(String),
) -> Result<(), ServerError> {
    for table in &moved.tables {
        let name = &table.name;
        let (own, names) = (name.to_string(), TRIGGERS.map(|kind| trigger_name(moved.id, kind)));
        let sql =
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = ANY($2)";
        let doing = "look for the gate's triggers";
        let row = session.row(doing, sql, &[&own, &names.as_slice()]).await?;
        if row.get::<_, i64>(0) == 0 {
            continue;
        }
        let drops = TRIGGERS.map(|kind| {
            format!("DROP TRIGGER IF EXISTS {} ON {name}", trigger_name(moved.id, kind))
        });
        let drops = [&drops[..], &instead(table)].concat();
        let doing = format!("remove the gate's triggers from {}", name.shown());
        with_table(session, &doing, table, &drops, say).await?;
    }
    let (gate, refusal) = (moved.id.gate(), moved.id.refusal());
    let drops = format!(
        "DROP FUNCTION IF EXISTS {gate}(); DROP FUNCTION IF EXISTS {refusal}(); DROP SEQUENCE IF EXISTS {gate}"
    );
    session.batch("remove the gate", &drops).await
}

/// Changes a table in one transaction, again and again while somebody holds its lock.
pub(crate) async fn with_table(
    session: &Session,
    doing: &str,
    table: &MovedTable,
    statements: &[String],
    say: &dyn Fn(String),
) -> Result<(), ServerError> {
    let body = statements.join(";\n");
    let sql = format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}';\n{body};\nCOMMIT");
    let (began, mut has_said) = (Instant::now(), false);
    loop {
        let failed = match session.batch(doing, &sql).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        session.batch("end a transaction", "ROLLBACK").await?;
        if !failed.is(&SqlState::LOCK_NOT_AVAILABLE) || began.elapsed() > LOCK_PATIENCE {
            return Err(failed);
        }
        if !has_said {
            has_said = true;
            let holders = holders(session, table).await?;
            say(format!(
                "{}: waits for the lock of {}: {holders}",
                session.spot().shard,
                table.name.shown()
            ));
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// Who holds a lock of the table that triggers have to wait for, for people.
async fn holders(session: &Session, table: &MovedTable) -> Result<String, ServerError> {
    const HOLDERS: &str = "\
        SELECT coalesce(l.pid::text, 'a prepared transaction'), coalesce(a.usename, '?')::text,
               coalesce(a.application_name, ''), coalesce(extract(epoch FROM now() - a.xact_start)::bigint, 0)
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.relation = to_regclass($1) AND l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
          AND l.pid IS DISTINCT FROM pg_backend_pid() LIMIT 5";
    let name = table.name.to_string();
    let rows = session.rows("look who holds a table", HOLDERS, &[&name]).await?;
    let shown = rows.iter().map(|row| {
        let (pid, user): (String, String) = (row.get(0), row.get(1));
        let (application, seconds): (String, i64) = (row.get(2), row.get(3));
        format!("pid {pid} ({user}, {application}, a transaction of {seconds} s)")
    });
    let shown: Vec<String> = shown.collect();
    Ok(if shown.is_empty() { "nobody holds it any more".to_owned() } else { shown.join(", ") })
}
