//! The parts in which rows are compared: by their keys, because a row lies at other pages on the other side.

use crate::catalog::Table;
use crate::moved::{Move, MovedTable};
use crate::server::{ServerError, Session};
use crate::sql::{KeyRange, RowSide};
use rules::document::KeyType;
use rules::shard::ShardKey;

/// Rows of one chunk: hashed in some tens of milliseconds, so that few of them change meanwhile.
const CHUNK_ROWS: i64 = 50_000;

/// A table of so many bytes stays in the memory of its server while it is compared.
const SMALL_BYTES: i64 = 64 * 1024 * 1024;
/// How well the order of the keys must fit that of the pages, from 0 to 1 (`pg_stats.correlation`), for runs of keys.
const CORRELATION_MIN: f32 = 0.8;

/// Chunks of a table whose keys no index has in their order. They are compared in one pass, so that their number costs
/// nothing; of a chunk in which a client has written only every so many rows are hashed again.
pub const BUCKETS: i32 = 1_024;

/// One part of a table's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChunk {
    /// Keys from one to below another.
    Range(KeyRange),
    /// Keys that fall into one of these buckets.
    Buckets(Vec<i32>),
}

/// How a table is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// Each range is read by an index.
    Ranges(Vec<KeyRange>),
    /// Reading one chunk means reading the table.
    Buckets,
}

impl KeyChunk {
    /// The condition that a row lies in the chunk.
    pub fn condition(&self, moved: &Move, table: &MovedTable) -> String {
        match self {
            Self::Range(range) => range.condition(&table.key, RowSide::Row),
            Self::Buckets(buckets) => {
                let numbers: Vec<String> = buckets.iter().map(i32::to_string).collect();
                format!(
                    "{} AND {} = ANY ('{{{}}}'::int[])",
                    moved.range.condition(&table.key, RowSide::Row),
                    bucket(table),
                    numbers.join(",")
                )
            }
        }
    }
}

/// The number of a row's bucket, from 0: by the bytes of its key, whatever the database's collation takes for equal.
pub fn bucket(table: &MovedTable) -> String {
    let last = BUCKETS - 1;
    format!("(hashtextextended({}::text COLLATE \"C\", 0) & {last})::int", table.key)
}

/// Cuts the range of a table: by keys where an index begins with the key, and the rows lie roughly in its order. Texts
/// are ordered by bytes, in which few indexes are.
///
/// # Errors
/// When the server does not answer.
pub async fn read(
    source: &Session,
    moved: &Move,
    table: &MovedTable,
    shape: &Table,
) -> Result<Cut, ServerError> {
    let doing = format!("cut {} into chunks", table.name.shown());
    let number = shape.column(table.key.as_str()).map_or(0, |column| column.number);
    let indexed = "SELECT EXISTS (SELECT 1 FROM pg_index WHERE indrelid = $1 AND indkey[0] = $2 AND indisvalid AND indpred IS NULL)";
    let is_indexed: bool = source.row(&doing, indexed, &[&shape.oid, &number]).await?.get(0);
    if !is_indexed || moved.range.key_type() == KeyType::Text {
        return Ok(Cut::Buckets);
    }
    let correlation = "SELECT correlation FROM pg_stats WHERE schemaname = $1 AND tablename = $2 AND attname = $3 AND NOT inherited";
    let (schema, name) = (table.name.schema.as_str(), table.name.name.as_str());
    let rows = source.rows(&doing, correlation, &[&schema, &name, &table.key.as_str()]).await?;
    let correlation = rows.first().and_then(|row| row.get::<_, Option<f32>>(0));
    if is_scattered(correlation, shape.bytes) {
        return Ok(Cut::Buckets);
    }
    let condition = moved.range.condition(&table.key, RowSide::Row);
    let (key, name) = (&table.key, &table.name);
    // A year before the first, or none at all, can't be written as a key of a map.
    let (as_text, bounds) = match moved.range.key_type() {
        KeyType::Timestamp => (
            format!("to_char({key}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"),
            format!(" AND {key} BETWEEN '0001-01-01Z' AND '9999-12-31Z'"),
        ),
        _ => (format!("{key}::text"), String::new()),
    };
    let sql = format!(
        "SELECT DISTINCT {key}, {as_text} AS bound FROM (SELECT {key}, row_number() OVER (ORDER BY {key}) AS n \
         FROM {name} WHERE {condition}) own WHERE n % {CHUNK_ROWS} = 0{bounds} ORDER BY 1"
    );
    let rows = source.rows(&doing, &sql, &[]).await?;
    let parse = |text: String| {
        ShardKey::parse(moved.range.key_type(), &text)
            .ok_or_else(|| ServerError::other(source.spot(), &doing, format!("`{text}` is no key")))
    };
    let cuts: Result<Vec<ShardKey>, ServerError> =
        rows.iter().map(|row| parse(row.get(1))).collect();
    Ok(Cut::Ranges(cut(&moved.range, cuts?)))
}

/// Whether the rows of a run of keys lie at so many pages that reading all runs would read the table over and over. A
/// small table is read from memory anyway.
fn is_scattered(correlation: Option<f32>, bytes: i64) -> bool {
    bytes > SMALL_BYTES && correlation.is_some_and(|own| own.abs() < CORRELATION_MIN)
}

fn cut(range: &KeyRange, cuts: Vec<ShardKey>) -> Vec<KeyRange> {
    let mut ends: Vec<Option<ShardKey>> = vec![range.from().cloned()];
    ends.extend(cuts.into_iter().filter(|key| Some(key) != range.from()).map(Some));
    ends.push(range.until().cloned());
    let pairs = ends.windows(2).filter_map(|pair| {
        let part = KeyRange::new(range.key_type(), pair[0].clone(), pair[1].clone());
        // The ends ascend and lie in the range, so that each pair is a range.
        part.ok()
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_table_whose_rows_lie_in_another_order_is_read_in_one_pass() {
        let large = SMALL_BYTES + 1;
        for (correlation, bytes, expected) in [
            (Some(0.01), large, true),
            (Some(-0.5), large, true),
            (Some(-1.0), large, false),
            (Some(0.01), SMALL_BYTES, false),
            // The table was never analyzed.
            (None, large, false),
        ] {
            assert_eq!(is_scattered(correlation, bytes), expected, "{correlation:?} {bytes}");
        }
    }

    #[test]
    fn chunks_cover_the_range() {
        let range = KeyRange::parse(KeyType::Int, "1..100").expect("a range");
        let key = |number| ShardKey::parse(KeyType::Int, &format!("{number}")).expect("a key");
        let shown = |cuts: Vec<ShardKey>| -> Vec<String> {
            let chunks = cut(&range, cuts);
            chunks.iter().map(KeyRange::to_string).collect()
        };
        assert_eq!(shown(vec![]), ["[1,100)"]);
        assert_eq!(shown(vec![key(1), key(7), key(99)]), ["[1,7)", "[7,99)", "[99,100)"]);
    }
}
