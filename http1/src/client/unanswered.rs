//! Requests that got no answer.

use super::call::Call;
use crate::conn::Error;
use crate::refusal::Refusal;
use std::fmt;

/// Why a request got no answer.
#[derive(Debug)]
pub struct Unanswered<B> {
    /// The error.
    pub error: Error,
    /// Whether no byte of an answer came, so that an idempotent request may be sent again.
    pub is_silent: bool,
    /// The request itself, if not a byte of it was sent: see [`send_unsent`](crate::client::send_unsent).
    pub unsent: Option<Unsent<B>>,
}

/// A request whose connection had ended before any byte of it was written.
pub struct Unsent<B>(pub(super) Box<Call<B>>);

impl<B> fmt::Debug for Unsent<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Unsent")
    }
}

impl<B> Call<B> {
    pub(super) fn unanswered(mut self: Box<Self>, error: Error) -> Unanswered<B> {
        // The error that ended the request explains why there is no answer.
        let error = match self.broken.take() {
            Some(broken) if matches!(error, Error::Closed | Error::Io(_)) => broken,
            _ => error,
        };
        // An upstream that is slow may still be working on the request.
        let is_silent = !self.has_heard && !matches!(error, Error::TooSlow);
        let is_lost = matches!(error, Error::Closed | Error::Io(_));
        let is_unsent = self.writer.as_ref().is_some_and(|writer| writer.written == 0);
        let unsent = (is_silent && is_lost && is_unsent).then_some(Unsent(self));
        Unanswered { error, is_silent, unsent }
    }
}

pub(super) fn refused<B>(refusal: Refusal) -> Unanswered<B> {
    Unanswered { error: refusal.into(), is_silent: false, unsent: None }
}
