//! What was asked of the rows of a table.

/// What was asked of the rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowFacts {
    pub target_has_rows: bool,
    pub target_has_range: bool,
    /// A primary key, in words, that a row of the range has at the source and another row at the target.
    pub collision: Option<String>,
    /// Names of foreign keys that tie rows of the range to rows that stay.
    pub strays: Vec<String>,
    /// What the source will send, in bytes, as far as its planner knows.
    pub bytes: u64,
    /// Questions that were not answered, with the reason.
    pub unanswered: Vec<String>,
}
