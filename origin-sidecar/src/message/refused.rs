//! Why Spillway itself answers a request, in the place of the application.

use rules::Problem;

/// A problem, and what was wrong this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub problem: Problem,
    /// A sentence for whoever reads the answer or the log.
    pub detail: String,
}

impl Refused {
    pub fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into() }
    }
}

/// With the problem's title, where there is no more to say.
impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::new(problem, problem.title())
    }
}
