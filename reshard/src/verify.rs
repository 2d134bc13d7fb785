//! Whether both sides have the same rows.
//!
//! Rows are compared by chunks of keys: count and sum of the hashes of their rows, on both servers. Clients go on
//! writing and the target follows, so a chunk that differs is looked at again after the target has caught up. One
//! that still differs is compared row by row.

pub mod chunks;
pub mod hash;
mod held;
pub mod memory;
pub mod rows;
pub mod sides;

use crate::catalog::Table;
use crate::moved::MovedTable;
use crate::replication::lookout::Lookout;
use crate::replication::marker;
use crate::server::ServerError;
use crate::sql::KeyRange;
use chunks::{Cut, KeyChunk, bucket};
use hash::{HashError, RowHash};
use memory::{Known, Memory};
use rows::DifferentRow;
use rules::shard::ShardKey;
use sides::{NAMED_MAX, Sides};
use std::collections::BTreeMap;
use std::fmt;
use tokio_postgres::Row;

/// How often a chunk that differs is compared again, each time after the target has caught up.
const TRIES: usize = 4;

/// Why rows can't be compared.
#[derive(Debug, Clone)]
pub enum VerifyError {
    Server(ServerError),
    Hash(HashError),
}

impl fmt::Display for VerifyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(why) => why.fmt(out),
            Self::Hash(why) => why.fmt(out),
        }
    }
}

impl std::error::Error for VerifyError {}

impl From<ServerError> for VerifyError {
    fn from(why: ServerError) -> Self {
        Self::Server(why)
    }
}

/// What was found of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Of the source.
    pub rows: u64,
    pub chunks: usize,
    /// Chunks that an earlier run has found the same.
    pub known: usize,
    /// How many chunks were looked at more than once, because clients wrote meanwhile.
    pub again: usize,
    /// Rows that are not the same; named up to a limit.
    pub different: Vec<DifferentRow>,
    pub different_count: u64,
}

/// What one pass over all buckets has found.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    buckets: usize,
    /// Of the buckets that are the same.
    rows: u64,
    different: Vec<i32>,
}

impl Passed {
    /// From count and sum of each bucket that has rows.
    fn of(own: &BTreeMap<i32, (i64, String)>, its: &BTreeMap<i32, (i64, String)>) -> Self {
        let mut different: Vec<i32> = Vec::new();
        let mut rows = 0;
        for (bucket, found) in own {
            match its.get(bucket) == Some(found) {
                true => rows += u64::try_from(found.0).unwrap_or_default(),
                false => different.push(*bucket),
            }
        }
        different.extend(its.keys().filter(|bucket| !own.contains_key(bucket)));
        Self { buckets: own.len(), rows, different }
    }
}

/// Whether an earlier run has found all rows of the range the same.
fn is_known(known: Option<Known>, range: &KeyRange) -> bool {
    match known {
        None => false,
        Some(Known::Whole) => true,
        Some(Known::Below(key)) => {
            let key = ShardKey::parse(range.key_type(), &key);
            range.until().zip(key.as_ref()).is_some_and(|(until, key)| until <= key)
        }
    }
}

impl Sides<'_> {
    /// Waits until what was committed by now is on both sides.
    ///
    /// # Errors
    /// As [`marker::caught_up`].
    pub async fn catch_up(&self, say: &dyn Fn(String)) -> Result<(), ServerError> {
        marker::caught_up(self.source, self.target, (self.moved, self.channel), say).await
    }

    /// Waits until both sides have the same columns.
    ///
    /// # Errors
    /// When a server is gone.
    pub async fn wait_for_columns(&self, say: &dyn Fn(String)) -> Result<(), ServerError> {
        let on = (self.moved, self.channel);
        Lookout::new(self.source, self.target, on, say).wait_for_columns().await
    }

    /// Compares one table. `progress` is told how far it is.
    ///
    /// # Errors
    /// When a server is gone, or the sides have other columns.
    pub async fn compare(
        &self,
        table: &MovedTable,
        shape: &Table,
        memory: &Memory<'_>,
        (say, progress): (&dyn Fn(String), &dyn Fn(String)),
    ) -> Result<Compared, VerifyError> {
        let hash = RowHash::of(shape).map_err(VerifyError::Hash)?;
        let mut found = Compared::default();
        let on = (table, &hash);
        match chunks::read(self.source, self.moved, table, shape).await? {
            Cut::Ranges(ranges) => {
                let (name, all) = (table.name.shown(), ranges.len());
                for (place, range) in ranges.into_iter().enumerate() {
                    if is_known(memory.of_table(table), &range) {
                        found.known += 1;
                        continue;
                    }
                    let rows = found.rows;
                    progress(format!("{name}: {place} of {all} chunks compared, {rows} rows"));
                    found.chunks += 1;
                    let until = range.until().map(ShardKey::to_string);
                    self.compare_range(on, KeyChunk::Range(range), &mut found, say).await?;
                    if let (Some(until), 0) = (until, found.different_count) {
                        memory.note(table, Known::Below(until)).await?;
                    }
                }
            }
            Cut::Buckets if memory.of_table(table).is_some() => found.known += 1,
            Cut::Buckets => self.compare_buckets(on, &mut found, say).await?,
        }
        if found.different_count == 0 {
            memory.note(table, Known::Whole).await?;
        }
        Ok(found)
    }

    async fn compare_range(
        &self,
        on: (&MovedTable, &RowHash),
        chunk: KeyChunk,
        found: &mut Compared,
        say: &dyn Fn(String),
    ) -> Result<(), ServerError> {
        let (mut rows, mut tries) = (self.same_rows(on, &chunk).await?, 1);
        while rows.is_none() && tries < TRIES {
            self.catch_up(say).await?;
            rows = self.same_rows(on, &chunk).await?;
            tries += 1;
        }
        found.again += usize::from(tries > 1);
        match rows {
            Some(rows) => found.rows += rows,
            None => self.compare_rows(on, &chunk, found, say).await?,
        }
        Ok(())
    }

    /// All chunks in one pass, then in one pass those that differed.
    async fn compare_buckets(
        &self,
        on: (&MovedTable, &RowHash),
        found: &mut Compared,
        say: &dyn Fn(String),
    ) -> Result<(), ServerError> {
        let mut left: Option<KeyChunk> = None;
        for tries in 1..=TRIES {
            let passed = self.same_buckets(on, left.as_ref()).await?;
            found.rows += passed.rows;
            if tries == 1 {
                found.chunks = passed.buckets;
                found.again = passed.different.len();
            }
            if passed.different.is_empty() {
                return Ok(());
            }
            left = Some(KeyChunk::Buckets(passed.different));
            if tries < TRIES {
                self.catch_up(say).await?;
            }
        }
        match left {
            Some(chunk) => self.compare_rows(on, &chunk, found, say).await,
            None => Ok(()),
        }
    }

    async fn compare_rows(
        &self,
        (table, hash): (&MovedTable, &RowHash),
        chunk: &KeyChunk,
        found: &mut Compared,
        say: &dyn Fn(String),
    ) -> Result<(), ServerError> {
        let own = rows::different(self, table, hash, chunk, say).await?;
        found.rows += own.rows;
        found.different_count += own.count;
        let room = NAMED_MAX.saturating_sub(found.different.len());
        found.different.extend(own.different.into_iter().take(room));
        Ok(())
    }

    /// Compares all buckets, or these.
    async fn same_buckets(
        &self,
        (table, hash): (&MovedTable, &RowHash),
        chunk: Option<&KeyChunk>,
    ) -> Result<Passed, ServerError> {
        let doing = format!("hash rows of {}", table.name.shown());
        let whole = KeyChunk::Range(self.moved.range.clone());
        let sql = format!(
            "SELECT {}, count(*), sum({})::text FROM {} t WHERE {} GROUP BY 1",
            bucket(table),
            hash.row,
            table.name,
            chunk.unwrap_or(&whole).condition(self.moved, table)
        );
        let own = self.source.rows(&doing, &sql, &[]);
        let its = self.target.rows(&doing, &sql, &[]);
        let (own, its) = futures_util::future::join(own, its).await;
        let read = |rows: Vec<Row>| -> BTreeMap<i32, (i64, String)> {
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
        };
        Ok(Passed::of(&read(own?), &read(its?)))
    }

    /// How many rows the chunk has, if both sides have the same.
    async fn same_rows(
        &self,
        (table, hash): (&MovedTable, &RowHash),
        chunk: &KeyChunk,
    ) -> Result<Option<u64>, ServerError> {
        let doing = format!("hash rows of {}", table.name.shown());
        let sql = format!(
            "SELECT count(*), coalesce(sum({}), 0)::text FROM {} t WHERE {}",
            hash.row,
            table.name,
            chunk.condition(self.moved, table)
        );
        let own = self.source.row(&doing, &sql, &[]);
        let its = self.target.row(&doing, &sql, &[]);
        let (own, its) = futures_util::future::join(own, its).await;
        let read = |row: Row| (row.get::<_, i64>(0), row.get::<_, String>(1));
        let (own, its) = (read(own?), read(its?));
        Ok((own == its).then(|| u64::try_from(own.0).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_known_when_all_of_its_keys_lie_below_what_was_compared() {
        let range = |text| KeyRange::parse(rules::document::KeyType::Int, text).expect("a range");
        let below = || Some(Known::Below("200".to_owned()));
        for (text, known, expected) in [
            ("100..200", below(), true),
            ("-5..150", below(), true),
            ("100..201", below(), false),
            ("100..", below(), false),
            ("100..", Some(Known::Whole), true),
            ("100..200", None, false),
            ("100..200", Some(Known::Below("no number".to_owned())), false),
        ] {
            assert_eq!(is_known(known.clone(), &range(text)), expected, "{text} {known:?}");
        }
    }

    #[test]
    fn a_bucket_differs_by_count_by_sum_and_by_being_there() {
        let side = |rows: &[(i32, i64, &str)]| -> BTreeMap<i32, (i64, String)> {
            rows.iter().map(|(at, count, sum)| (*at, (*count, (*sum).to_owned()))).collect()
        };
        let own = side(&[(1, 2, "7"), (2, 2, "7"), (3, 2, "7"), (4, 1, "1")]);
        let its = side(&[(1, 2, "7"), (2, 3, "7"), (3, 2, "8"), (9, 1, "1")]);
        let found = Passed { buckets: 4, rows: 2, different: vec![2, 3, 4, 9] };
        assert_eq!(Passed::of(&own, &its), found);
    }
}
