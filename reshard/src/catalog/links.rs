//! What else is tied to a table: triggers, sequences, publications, subscriptions, heirs.

use super::letter::letter;
use crate::server::{ServerError, Session};
use tokio_postgres::types::Oid;

/// Triggers and publications of this tool.
const OWN_TRIGGERS: &str = "zz_spillway_%";
const OWN_PUBLICATIONS: &str = "spillway_%";

/// A trigger of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    pub name: String,
    /// `pg_trigger.tgenabled`: O (ordinary sessions), D (disabled), R (replication only), A (always).
    pub enabled: char,
    /// Whether it may change or refuse a row before it is written.
    pub is_before_row: bool,
    /// `BEFORE INSERT ON … EXECUTE FUNCTION …`.
    pub text: String,
}

/// A sequence that feeds a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    pub column: String,
    /// Schema and name.
    pub sequence: String,
    pub start: i64,
    pub increment: i64,
    pub highest: i64,
    /// What it gave last; none: nothing yet, or our role may not see it.
    pub last: Option<i64>,
    /// Whether our role may set it.
    pub may_update: bool,
}

/// What is tied to a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    pub triggers: Vec<Trigger>,
    pub feeds: Vec<Feed>,
    /// Publications that send its changes somewhere.
    pub publications: Vec<String>,
    /// Subscriptions that write it.
    pub subscriptions: Vec<String>,
    /// Moves of this tool that guard it, in words.
    pub gates: Vec<String>,
    /// Tables that inherit from it, and those it inherits from.
    pub relatives: Vec<String>,
}

/// A TRUNCATE that the server remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TruncateSeen {
    pub statement: String,
    pub calls: i64,
}

const TRIGGERS: &str = "\
SELECT tgname::text AS name, tgenabled, tgtype & 3 = 3 AS is_before_row,
       regexp_replace(pg_get_triggerdef(oid), '^CREATE (CONSTRAINT )?TRIGGER ', '') AS text
FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal AND tgname NOT LIKE $2 ORDER BY tgname";

const GATES: &str = "\
SELECT DISTINCT coalesce(obj_description(to_regclass('spillway.gate_' || substring(tgname FROM '^zz_spillway_([0-9]+)_')), 'pg_class'),
                         tgname::text)
FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal AND tgname LIKE $2 ORDER BY 1";

const FEEDS: &str = "\
SELECT a.attname::text AS column, n.nspname || '.' || c.relname AS sequence, s.seqstart, s.seqincrement, s.seqmax,
       CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE') THEN pg_sequence_last_value(c.oid) END AS last,
       has_sequence_privilege(c.oid, 'UPDATE') AS may_update
FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.deptype = 'i'
UNION
SELECT a.attname::text, n.nspname || '.' || c.relname, s.seqstart, s.seqincrement, s.seqmax,
       CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE') THEN pg_sequence_last_value(c.oid) END,
       has_sequence_privilege(c.oid, 'UPDATE')
FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid AND c.relkind = 'S'
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
WHERE f.adrelid = $1 ORDER BY 1, 2";

const PUBLICATIONS: &str = "\
SELECT p.pubname::text FROM pg_publication p WHERE p.pubname NOT LIKE $2 AND (p.puballtables
  OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = $1)
  OR EXISTS (SELECT FROM pg_publication_namespace s JOIN pg_class c ON c.relnamespace = s.pnnspid
             WHERE s.pnpubid = p.oid AND c.oid = $1)) ORDER BY 1";

const SUBSCRIPTIONS: &str = "\
SELECT s.subname::text FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid
WHERE r.srrelid = $1 AND s.subname NOT LIKE $2 ORDER BY 1";

const RELATIVES: &str = "\
SELECT n.nspname || '.' || c.relname FROM pg_inherits i
JOIN pg_class c ON c.oid = CASE WHEN i.inhrelid = $1 THEN i.inhparent ELSE i.inhrelid END
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.inhrelid = $1 OR i.inhparent = $1 ORDER BY 1";

const STATEMENTS: &str = "\
SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'";

impl Links {
    /// Reads all of them.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read(session: &Session, table: Oid) -> Result<Self, ServerError> {
        let triggers =
            session.rows("read the triggers", TRIGGERS, &[&table, &OWN_TRIGGERS]).await?;
        let feeds = session.rows("read the sequences", FEEDS, &[&table]).await?;
        let publications = session
            .rows("read the publications", PUBLICATIONS, &[&table, &OWN_PUBLICATIONS])
            .await?;
        let subscriptions = session
            .rows("read the subscriptions", SUBSCRIPTIONS, &[&table, &OWN_PUBLICATIONS])
            .await?;
        let gates = session.rows("read the gates", GATES, &[&table, &OWN_TRIGGERS]).await?;
        let relatives = session.rows("read the heirs", RELATIVES, &[&table]).await?;
        let names = |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get(0)).collect();
        Ok(Self {
            triggers: triggers.iter().map(Trigger::of_row).collect(),
            feeds: feeds.iter().map(Feed::of_row).collect(),
            publications: names(publications),
            subscriptions: names(subscriptions),
            gates: names(gates),
            relatives: names(relatives),
        })
    }
}

impl Trigger {
    fn of_row(row: &tokio_postgres::Row) -> Self {
        Self {
            name: row.get("name"),
            enabled: letter(row.get("tgenabled")).unwrap_or('?'),
            is_before_row: row.get("is_before_row"),
            text: row.get("text"),
        }
    }
}

impl Feed {
    fn of_row(row: &tokio_postgres::Row) -> Self {
        Self {
            column: row.get("column"),
            sequence: row.get("sequence"),
            start: row.get("seqstart"),
            increment: row.get("seqincrement"),
            highest: row.get("seqmax"),
            last: row.get("last"),
            may_update: row.get("may_update"),
        }
    }
}

impl TruncateSeen {
    /// The TRUNCATEs of this database that `pg_stat_statements` remembers; none where the extension is not
    /// installed or our role does not see it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read_all(session: &Session) -> Result<Vec<Self>, ServerError> {
        let doing = "read what TRUNCATEs there were";
        let Some(row) = session.rows(doing, STATEMENTS, &[]).await?.into_iter().next() else {
            return Ok(Vec::new());
        };
        let schema: String = row.get(0);
        let schema = crate::sql::Identifier::new(schema)
            .map_err(|why| ServerError::other(session.spot(), doing, why))?;
        let may = "SELECT has_schema_privilege($1, 'USAGE')
            AND has_table_privilege(format('%I.pg_stat_statements', $1), 'SELECT')
            AND current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%'";
        if !session.row(doing, may, &[&schema.as_str()]).await?.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT s.query, s.calls FROM {schema}.pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
             WHERE d.datname = current_database() AND s.query ~* '^\\s*truncate\\M' ORDER BY s.calls DESC"
        );
        let rows = session.rows(doing, &sql, &[]).await?;
        Ok(rows.iter().map(|row| Self { statement: row.get(0), calls: row.get(1) }).collect())
    }
}
