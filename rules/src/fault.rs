//! What is wrong with a rules file: where, what, and how to mend it.

/// One fault. All faults of a file are reported together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From 1; 0 when the fault belongs to no line.
    pub line: usize,
    pub column: usize,
    /// Dotted path of the key, e.g. `route[2].cache.edge`.
    pub path: String,
    /// Stable name, e.g. `unknown-key`; listed in docs/rules.md.
    pub name: &'static str,
    pub reason: String,
    pub remedy: String,
    /// Warnings don't stop a program from starting.
    pub is_warning: bool,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_warning { "warning" } else { "fault" };
        write!(
            out,
            "{}:{}: {kind} {}: {}: {}\n    {}",
            self.line, self.column, self.name, self.path, self.reason, self.remedy
        )
    }
}

/// Where a span lies in the text: (line, column), both from 1.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
