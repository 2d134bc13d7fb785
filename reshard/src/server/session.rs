//! A session with one database, with settings that do not depend on what the application has set there.

use super::address::Address;
use super::error::{ServerError, ServerErrorKind, Spot};
use super::passwords::Password;
use super::tls::{CONNECT_TIMEOUT, dial};
use super::wire::Wire;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};

/// What every session sets, whatever the role or the database has set: `ALTER DATABASE … SET` must not decide
/// what a gate or a copy means. Names resolve to PostgreSQL's own; a policy that hides rows is an error and not
/// a smaller table; a commit is on disk when it is answered; nothing ends a session that waits.
const SETTINGS: [(&str, &str); 15] = [
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
    ("synchronous_commit", "on"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "read\\ committed"),
    ("standard_conforming_strings", "on"),
    ("client_min_messages", "warning"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO,MDY"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
];
/// The first major with `transaction_timeout`, which would end a session that holds a snapshot.
const TRANSACTION_TIMEOUT_SINCE: u32 = 170_000;

/// What is being done when a session is opened.
const CONNECT: &str = "connect";

/// A session with one database.
#[derive(Debug)]
pub struct Session {
    address: Address,
    password: Option<Password>,
    name: String,
    spot: Spot,
    client: Client,
    version: u32,
}

impl Session {
    /// Connects. The name is what `pg_stat_activity` shows, such as `reshard move 7`.
    ///
    /// # Errors
    /// When the server is not there, or does not take the user.
    pub async fn open(
        address: &Address,
        password: Option<&Password>,
        name: &str,
    ) -> Result<Self, ServerError> {
        let (spot, client) = connect(address, password, name, false).await?;
        let (address, password) = (address.clone(), password.cloned());
        let name = name.to_owned();
        let mut own = Self { address, password, name, spot, client, version: 0 };
        let row = own.row(
            "ask for the version",
            "SELECT current_setting('server_version_num')::int",
            &[],
        );
        own.version = u32::try_from(row.await?.get::<_, i32>(0)).unwrap_or_default();
        if own.version >= TRANSACTION_TIMEOUT_SINCE {
            own.batch("set the session up", "SET transaction_timeout = 0").await?;
        }
        Ok(own)
    }

    /// Opens another session with the same database.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn another(&self) -> Result<Self, ServerError> {
        Self::open(&self.address, self.password.as_ref(), &self.name).await
    }

    /// Which database this is.
    pub fn spot(&self) -> &Spot {
        &self.spot
    }

    /// The version as `server_version_num` has it: 150018.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// 15, 16, …
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// The driver's client, for what has no method here. [`Session::failed`] makes a whole error of its errors.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// As [`Session::client`], for transactions.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Says of an error which database it came from and what was being done.
    pub fn failed(&self, doing: &str, error: &tokio_postgres::Error) -> ServerError {
        ServerError::new(&self.spot, doing, error)
    }

    /// All rows of a query. Without parameters it takes one trip to the server, else two: the driver asks for their
    /// types first.
    ///
    /// # Errors
    /// When the server refuses it or is gone.
    pub async fn rows(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, ServerError> {
        let done = match parameters {
            [] => self.client.query_typed(sql, &[]).await,
            _ => self.client.query(sql, parameters).await,
        };
        done.map_err(|why| self.failed(doing, &why))
    }

    /// The one row of a query.
    ///
    /// # Errors
    /// When there is none or more than one; as [`Session::rows`].
    pub async fn row(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, ServerError> {
        let done = match parameters {
            [] => self.client.query_typed_one(sql, &[]).await,
            _ => self.client.query_one(sql, parameters).await,
        };
        done.map_err(|why| self.failed(doing, &why))
    }

    /// Executes a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn execute(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, ServerError> {
        let done = match parameters {
            [] => self.client.execute_typed(sql, &[]).await,
            _ => self.client.execute(sql, parameters).await,
        };
        done.map_err(|why| self.failed(doing, &why))
    }

    /// Executes statements without parameters, as one transaction unless they say otherwise.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn batch(&self, doing: &str, sql: &str) -> Result<(), ServerError> {
        self.client.batch_execute(sql).await.map_err(|why| self.failed(doing, &why))
    }
}

/// Connects and lets the connection run until its client is dropped.
pub(super) async fn connect(
    address: &Address,
    password: Option<&Password>,
    name: &str,
    is_replication: bool,
) -> Result<(Spot, Client), ServerError> {
    let spot = Spot { shard: address.shard.clone(), address: address.to_string() };
    let config = config(address, password, name);
    let connecting = async {
        let transport = dial(address).await;
        let transport = transport.map_err(|why| gone(&spot, &why))?;
        let connected = config.connect_raw(Wire::new(transport, is_replication), NoTls).await;
        connected.map_err(|why| ServerError::new(&spot, CONNECT, &why))
    };
    let slow = |_| gone(&spot, &format!("not within {CONNECT_TIMEOUT:?}"));
    let (client, connection) = timeout(CONNECT_TIMEOUT, connecting).await.map_err(slow)??;
    // Its errors reach whoever waits for an answer of the client.
    tokio::spawn(async move { drop(connection.await) });
    Ok((spot, client))
}

fn gone(spot: &Spot, why: &dyn std::fmt::Display) -> ServerError {
    ServerError::of(ServerErrorKind::Gone, spot, CONNECT, why)
}

fn config(address: &Address, password: Option<&Password>, name: &str) -> Config {
    let options: Vec<String> =
        SETTINGS.iter().map(|(name, value)| format!("-c {name}={value}")).collect();
    let mut config = Config::new();
    config
        .user(&address.user)
        .dbname(&address.database)
        .application_name(name)
        .options(options.join(" "))
        // TLS, where it is wanted, lies below: see `dial`.
        .ssl_mode(SslMode::Disable);
    if let Some(password) = password {
        config.password(password.reveal());
    }
    config
}
