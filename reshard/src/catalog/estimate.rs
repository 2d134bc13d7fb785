//! How much of a table lies in a range, as far as the planner knows: no row is read.

use super::table::Table;
use crate::server::Session;
use tokio_postgres::SimpleQueryMessage;

/// What a range holds of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    pub rows: u64,
    /// Of the table's pages, without its indexes.
    pub bytes: u64,
}

impl Estimate {
    /// Asks the planner. Where it does not answer, as for a role that may not read the table, the range is taken for
    /// the whole table.
    pub async fn of(session: &Session, table: &Table, condition: &str) -> Self {
        let (name, all) = (&table.name, table.bytes.unsigned_abs());
        let of_all = planned(session, &format!("SELECT FROM {name}")).await;
        let of_range =
            planned(session, &format!("SELECT FROM {name} WHERE {condition}")).await.or(of_all);
        let rows = of_range.unwrap_or_default().max(0.0);
        let share = of_all.filter(|all| *all > 0.0).map_or(1.0, |all| (rows / all).min(1.0));
        Self { rows: rows as u64, bytes: (all as f64 * share) as u64 }
    }
}

async fn planned(session: &Session, query: &str) -> Option<f64> {
    let answer = session.client().simple_query(&format!("EXPLAIN (FORMAT JSON) {query}")).await;
    let answer = answer.ok()?;
    let json = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    })?;
    let plan: serde_json::Value = serde_json::from_str(json).ok()?;
    plan[0]["Plan"]["Plan Rows"].as_f64()
}
