//! Requests that have no answer.

use super::Call;
use crate::Refusal;
use crate::conn::Error;
use std::fmt;

/// Why there is no answer.
#[derive(Debug)]
pub struct Unanswered<B> {
    pub error: Error,
    /// Not a byte of an answer came: the request may be sent again where doing it twice does no harm.
    pub is_silent: bool,
    /// The request itself, if not a byte of it was sent: see [`super::send_unsent`].
    pub unsent: Option<Unsent<B>>,
}

/// A request that met a connection which had ended before anything of it was written.
pub struct Unsent<B>(pub(super) Box<Call<B>>);

impl<B> fmt::Debug for Unsent<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Unsent")
    }
}

pub(super) fn refused<B>(refusal: Refusal) -> Unanswered<B> {
    Unanswered { error: refusal.into(), is_silent: false, unsent: None }
}
