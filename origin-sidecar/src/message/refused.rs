//! The reason why Spillway answers a request itself, instead of the application.

use rules::Problem;

/// A problem, with its details in this case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub problem: Problem,
    /// A sentence for the reader of the answer or the log.
    pub detail: String,
}

impl Refused {
    pub fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into() }
    }
}

/// The detail is the problem's title, where there is no more to say.
impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::new(problem, problem.title())
    }
}
