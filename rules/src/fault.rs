//! What is wrong with a rules file: the place, the fault and its remedy.

/// One fault. All faults of a file are reported together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1; 0 when the fault belongs to no line.
    pub line: usize,
    /// The column in characters, from 1; 0 when the fault belongs to no line.
    pub column: usize,
    /// Dotted path of the key, e.g. `route[2].cache.edge`.
    pub path: String,
    /// Stable name, e.g. `unknown-key`; listed in docs/rules.md.
    pub name: &'static str,
    /// What is wrong, as a sentence without its full stop.
    pub reason: String,
    /// How to mend it.
    pub remedy: String,
    /// Whether it is a warning, which does not stop a program from starting.
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

/// A position that moves forward through a text.
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    at: usize,
}

impl Default for Place {
    fn default() -> Self {
        Self { line: 1, column: 1, at: 0 }
    }
}

impl Place {
    /// Moves on to byte `at` of the text, which must not lie before the current position.
    pub fn go_to(&mut self, text: &str, at: usize) {
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let passed = text.get(self.at..at).unwrap_or_default();
        self.line += passed.matches('\n').count();
        self.column = match passed.rsplit_once('\n') {
            Some((_, line)) => line.chars().count() + 1,
            None => self.column + passed.chars().count(),
        };
        self.at = self.at.max(at);
    }
}
