//! The parts in which rows are compared: runs of keys, because a row lies at other pages on the other side.

use crate::catalog::Table;
use crate::moved::{Move, MovedTable};
use crate::server::{ServerError, Session};
use crate::sql::{KeyRange, RowSide};
use rules::document::KeyType;
use rules::shard::ShardKey;

/// Rows of one chunk: hashed in some tens of milliseconds, so that few of them change meanwhile.
const CHUNK_ROWS: i64 = 50_000;

/// Keys from one to below another; none: to that end of the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChunk {
    range: Option<KeyRange>,
}

impl KeyChunk {
    /// The condition that a row lies in the chunk.
    pub fn condition(&self, moved: &Move, table: &MovedTable) -> String {
        self.range.as_ref().unwrap_or(&moved.range).condition(&table.key, RowSide::Row)
    }
}

/// Cuts the range of a table. Where no index of it begins with the key, each chunk would read the whole table: then
/// it is one.
///
/// # Errors
/// When the server does not answer.
pub async fn read(
    source: &Session,
    moved: &Move,
    table: &MovedTable,
    shape: &Table,
) -> Result<Vec<KeyChunk>, ServerError> {
    let doing = format!("cut {} into chunks", table.name.shown());
    let number = shape.column(table.key.as_str()).map_or(0, |column| column.number);
    let indexed = "SELECT EXISTS (SELECT 1 FROM pg_index WHERE indrelid = $1 AND indkey[0] = $2 AND indisvalid AND indpred IS NULL)";
    let is_indexed: bool = source.row(&doing, indexed, &[&shape.oid, &number]).await?.get(0);
    let whole = KeyChunk { range: None };
    // Texts are ordered by bytes, in which few indexes are.
    if !is_indexed || moved.range.key_type() == KeyType::Text {
        return Ok(vec![whole]);
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
    Ok(cut(&moved.range, cuts?))
}

fn cut(range: &KeyRange, cuts: Vec<ShardKey>) -> Vec<KeyChunk> {
    let mut ends: Vec<Option<ShardKey>> = vec![range.from().cloned()];
    ends.extend(cuts.into_iter().filter(|key| Some(key) != range.from()).map(Some));
    ends.push(range.until().cloned());
    let pairs = ends.windows(2).filter_map(|pair| {
        let part = KeyRange::new(range.key_type(), pair[0].clone(), pair[1].clone());
        // The ends ascend and lie in the range, so that each pair is a range.
        part.ok().map(|part| KeyChunk { range: Some(part) })
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_range() {
        let range = KeyRange::parse(KeyType::Int, "1..100").expect("a range");
        let key = |number| ShardKey::parse(KeyType::Int, &format!("{number}")).expect("a key");
        let shown = |cuts: Vec<ShardKey>| -> Vec<String> {
            let chunks = cut(&range, cuts);
            chunks.iter().map(|own| own.range.as_ref().expect("a range").to_string()).collect()
        };
        assert_eq!(shown(vec![]), ["[1,100)"]);
        assert_eq!(shown(vec![key(1), key(7), key(99)]), ["[1,7)", "[7,99)", "[99,100)"]);
    }
}
