//! Types that stores and clients share: futures of object-safe traits, and bodies of unknown origin.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use std::pin::Pin;

/// A future behind a trait object.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The body of a stored object.
pub type ObjectBody = UnsyncBoxBody<Bytes, std::io::Error>;
