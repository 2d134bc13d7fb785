//! How the databases reach each other, where that is another way than this tool's.

use super::arguments::MoveArguments;
use super::stop::Stop;
use crate::preflight::Reachable;
use crate::replication::subscription;
use crate::server::{Address, Addresses, Endpoint, Password};

/// The variable with the password by which one database reaches the other.
const REPLICATION_PASSWORD: &str = "RESHARD_REPLICATION_PASSWORD";

/// Addresses for subscriptions; where a shard has none, it is that of the tool.
pub struct GivenConnections {
    addresses: Vec<Address>,
    password: Option<Password>,
}

impl GivenConnections {
    /// Reads `--replicate-from`, and the password from the environment.
    ///
    /// # Errors
    /// Code 78 when one is no address, or is that of a shard whose database is not given.
    pub fn read(own: &MoveArguments, addresses: &Addresses) -> Result<Self, Stop> {
        let mut given = Vec::new();
        for text in &own.replicate_from {
            let address = Address::read(text);
            let address =
                address.map_err(|why| Stop::config(format!("--replicate-from: {why}")))?;
            if addresses.of(&address.shard).is_none() {
                return Err(Stop::config(format!(
                    "--replicate-from names shard `{}`, whose database is not given",
                    address.shard
                )));
            }
            given.push(address);
        }
        let password = std::env::var(REPLICATION_PASSWORD).ok().map(Password::new);
        Ok(Self { addresses: given, password })
    }

    /// The connection string by which the other database reaches that of an endpoint.
    pub fn of(&self, endpoint: &Endpoint) -> String {
        let own = self.addresses.iter().find(|own| own.shard == endpoint.address.shard);
        let password = own.and(self.password.as_ref()).or(endpoint.password.as_ref());
        subscription::connection(own.unwrap_or(&endpoint.address), password)
    }

    /// An endpoint, for the preflight.
    pub fn reachable<'e>(&self, endpoint: &'e Endpoint) -> Reachable<'e> {
        Reachable { endpoint, connection: self.of(endpoint) }
    }
}
