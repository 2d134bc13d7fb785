//! Why Spillway itself answers a request, in the place of the application.

use rules::Problem;

/// A refusal with what was wrong this time.
pub type Refused = (Problem, String);
