//! A database with its password: where sessions are opened from.

use super::address::Address;
use super::error::ServerError;
use super::passwords::Password;
use super::session::Session;
use super::walsender::Walsender;

/// A database with its password.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub address: Address,
    pub password: Option<Password>,
}

impl Endpoint {
    /// # Errors
    /// As [`Session::open`].
    pub async fn session(&self, name: &str) -> Result<Session, ServerError> {
        Session::open(&self.address, self.password.as_ref(), name).await
    }

    /// # Errors
    /// As [`Walsender::open`].
    pub async fn walsender(&self, name: &str) -> Result<Walsender, ServerError> {
        Walsender::open(&self.address, self.password.as_ref(), name).await
    }
}
