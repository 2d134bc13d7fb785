//! The databases of the shards: where they are, and sessions with them.

mod address;
mod endpoint;
mod error;
mod passwords;
mod session;
mod tls;
mod walsender;
mod wire;

pub use address::{Address, AddressError, Addresses, TlsMode};
pub use endpoint::Endpoint;
pub use error::{ServerError, ServerErrorKind, Spot};
pub use passwords::{Password, Passwords};
pub use session::Session;
pub use walsender::{CreatedSlot, Walsender};
