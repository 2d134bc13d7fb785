//! The parts in which a table is copied: runs of its pages, so that all parts together read the table once.

use crate::catalog::Table;
use crate::moved::{Move, MovedTable};
use crate::server::{ServerError, Session};
use crate::sql::{Identifier, RowSide};
use std::collections::VecDeque;

/// Pages of one chunk: 16 MiB of pages of 8 KiB, which take a fraction of a second. Larger ones leave workers idle
/// while the last of them ends.
const CHUNK_PAGES: i64 = 2_000;

/// One part of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Which of the moved tables, from 0.
    pub table: usize,
    /// Its first page.
    pub from: i64,
    /// The first page that is no part of it; none: to the table's end, wherever that is.
    pub until: Option<i64>,
}

/// A table that is copied, with its columns.
#[derive(Debug, Clone)]
pub struct CopiedTable {
    pub moved: MovedTable,
    pub columns: Vec<Identifier>,
    pub pages: i64,
}

impl CopiedTable {
    /// Takes the columns that have a value of their own: one that is generated is generated at the target.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read(
        source: &Session,
        moved: &MovedTable,
        table: &Table,
    ) -> Result<Self, ServerError> {
        let doing = format!("read the columns of {}", moved.name.shown());
        let pages = pages(source, moved, table.oid).await?;
        let own = table.columns.iter().filter(|column| column.generated.is_none());
        let columns: Result<Vec<Identifier>, _> =
            own.map(|own| Identifier::new(&own.name)).collect();
        let columns = columns.map_err(|why| ServerError::other(source.spot(), &doing, why))?;
        Ok(Self { moved: moved.clone(), columns, pages })
    }

    fn column_list(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(Identifier::to_string).collect();
        names.join(", ")
    }

    /// The statement that reads a chunk at the source.
    pub fn reads(&self, moved: &Move, chunk: Chunk) -> String {
        let condition = moved.range.condition(&self.moved.key, RowSide::Row);
        let until = chunk.until.map(|page| format!(" AND ctid < '({page},0)'::tid"));
        format!(
            "COPY (SELECT {} FROM {} WHERE ctid >= '({},0)'::tid{} AND {condition}) TO STDOUT (FORMAT binary)",
            self.column_list(),
            self.moved.name,
            chunk.from,
            until.unwrap_or_default()
        )
    }

    /// The statement that writes a chunk at the target.
    pub fn writes(&self) -> String {
        format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.moved.name, self.column_list())
    }
}

/// How many pages a table has; none where there is no such table.
///
/// # Errors
/// When the server does not answer.
pub async fn pages(session: &Session, moved: &MovedTable, oid: u32) -> Result<i64, ServerError> {
    let doing = format!("read the size of {}", moved.name.shown());
    let sql = "SELECT coalesce(pg_relation_size($1::oid), 0) / current_setting('block_size')::int";
    Ok(session.row(&doing, sql, &[&oid]).await?.get(0))
}

/// The parts of all tables, in their order. The last one of a table has no end: pages that came since the snapshot
/// hold no row that it sees.
pub fn chunks(tables: &[CopiedTable]) -> VecDeque<Chunk> {
    let mut found = VecDeque::new();
    for (number, table) in tables.iter().enumerate() {
        let mut from = 0;
        while from + CHUNK_PAGES < table.pages {
            found.push_back(Chunk { table: number, from, until: Some(from + CHUNK_PAGES) });
            from += CHUNK_PAGES;
        }
        found.push_back(Chunk { table: number, from, until: None });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::TableName;

    fn table(pages: i64) -> CopiedTable {
        let (name, _) = TableName::read_with_column("t").expect("a table");
        let key = Identifier::new("k").expect("a name");
        CopiedTable { moved: MovedTable { name, key }, columns: Vec::new(), pages }
    }

    #[test]
    fn chunks_cover_each_page_once_and_the_last_one_is_open() {
        for pages in [0, 1, CHUNK_PAGES - 1, CHUNK_PAGES, CHUNK_PAGES + 1, 3 * CHUNK_PAGES] {
            let own = chunks(&[table(pages), table(0)]);
            let first: Vec<&Chunk> = own.iter().filter(|chunk| chunk.table == 0).collect();
            assert_eq!(first[0].from, 0);
            for pair in first.windows(2) {
                assert_eq!(pair[0].until, Some(pair[1].from), "{pages} pages");
            }
            assert_eq!(first.last().map(|chunk| chunk.until), Some(None));
            assert_eq!(own.back(), Some(&Chunk { table: 1, from: 0, until: None }));
        }
    }
}
