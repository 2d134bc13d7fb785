//! Answers of which the head was read.

use super::incoming::ResponseBody;
use super::unanswered::{Unanswered, refused};
use crate::encode;
use crate::framing::Lengths;
use crate::head::Reason;
use crate::received::Received;
use http::{HeaderMap, Response, StatusCode, header};

/// An answer whose body is still to be read.
pub struct Answer<B> {
    /// The status; never an interim one (1xx) except 101.
    pub status: StatusCode,
    /// The reason phrase, where it is not the usual one of the status.
    pub reason: Option<Reason>,
    /// Header fields as they came.
    pub fields: Received,
    /// Which of its `Content-Length` lines may be passed on.
    pub lengths: Lengths,
    /// The body, which must be read to its end for the connection to be used again.
    pub body: ResponseBody<B>,
}

/// An extension of an answer whose lengths contradicted each other in a way that has one reading
/// ([`Lengths`]): it must not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mended;

impl<B> Answer<B> {
    /// The answer with its fields parsed into a map.
    ///
    /// # Errors
    /// When one of them is no field of HTTP.
    pub fn into_response(self) -> Result<Response<ResponseBody<B>>, Unanswered<B>> {
        let mut headers = self.fields.headers().map_err(refused)?;
        mend(&mut headers, self.lengths);
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        if let Some(reason) = self.reason {
            response.extensions_mut().insert(reason);
        }
        if self.lengths != Lengths::AsTheyCame {
            response.extensions_mut().insert(Mended);
        }
        Ok(response)
    }
}

/// Leaves one length or none. A list of equal ones is written anew when the answer is sent.
fn mend(headers: &mut HeaderMap, lengths: Lengths) {
    let first = match lengths {
        Lengths::AsTheyCame => return,
        Lengths::First => encode::stated(headers),
        Lengths::Dropped => None,
    };
    headers.remove(header::CONTENT_LENGTH);
    if let Some(first) = first {
        headers.insert(header::CONTENT_LENGTH, first.into());
    }
}
