//! How far a request gets before something has to be waited for.

use super::handle::Refused;
use crate::body::Body;
use http::Response;
use std::pin::Pin;

/// What became of a request when nothing had to be waited for.
pub enum Step<'a> {
    Answered(Response<Body>),
    /// The rest of its way.
    Later(Later<'a>),
}

/// In a box: a future is as large as its largest branch, and what the cache answers needs none.
pub type Later<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, Refused>> + Send + 'a>>;

impl Step<'_> {
    pub async fn done(self) -> Result<Response<Body>, Refused> {
        match self {
            Self::Answered(response) => Ok(response),
            Self::Later(rest) => rest.await,
        }
    }
}
