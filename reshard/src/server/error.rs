//! What a server refused, or that it could not be asked: which shard, where, what it said, and what to do.

use std::fmt;
use tokio_postgres::error::SqlState;

/// Codes of a server that ends or starts: 57P01 to 57P03, and 57P05 of a session that was idle for too long.
const GONE: [&str; 4] = ["57P01", "57P02", "57P03", "57P05"];

/// Which database was asked: the shard and the address without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub shard: String,
    pub address: String,
}

impl fmt::Display for Spot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "shard `{}` ({})", self.shard, self.address)
    }
}

/// What an error means to whoever goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerErrorKind {
    /// The server has answered, or what it answered is not what this tool expects.
    Refused,
    /// The server can't be reached, has ended the session, or is starting: it may be back soon.
    Gone,
    /// A replication slot is gone or useless: the copy must begin again.
    SlotLost,
}

/// Why a database did not do what it was asked.
#[derive(Debug, Clone)]
pub struct ServerError {
    pub kind: ServerErrorKind,
    /// In a box, as results carry errors around.
    pub spot: Box<Spot>,
    /// What was being done, as `read the columns`.
    pub doing: String,
    /// PostgreSQL's code; none when it never answered.
    pub state: Option<SqlState>,
    pub message: String,
}

impl ServerError {
    /// An error of the driver. What the server said is its message without the statement.
    pub fn new(spot: &Spot, doing: &str, error: &tokio_postgres::Error) -> Self {
        let told = error.as_db_error();
        let message = match told {
            Some(own) => {
                let more = [own.detail(), own.hint()].into_iter().flatten();
                more.fold(own.message().to_owned(), |text, more| format!("{text}; {more}"))
            }
            None => with_causes(error),
        };
        let state = told.map(|own| own.code().clone());
        let is_gone = match &state {
            Some(state) => state.code().starts_with("08") || GONE.contains(&state.code()),
            None => error.is_closed() || has_io_cause(error),
        };
        let kind = if is_gone { ServerErrorKind::Gone } else { ServerErrorKind::Refused };
        let (spot, doing) = (Box::new(spot.clone()), doing.to_owned());
        Self { kind, spot, doing, state, message }
    }

    /// One that the driver does not know of.
    pub fn other(spot: &Spot, doing: &str, why: impl fmt::Display) -> Self {
        Self::of(ServerErrorKind::Refused, spot, doing, why)
    }

    /// The same of a kind.
    pub fn of(kind: ServerErrorKind, spot: &Spot, doing: &str, why: impl fmt::Display) -> Self {
        let (spot, doing) = (Box::new(spot.clone()), doing.to_owned());
        Self { kind, spot, doing, state: None, message: why.to_string() }
    }

    pub fn is(&self, state: &SqlState) -> bool {
        self.state.as_ref() == Some(state)
    }

    /// What to do, where the code tells.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self.state.as_ref()?.code() {
            "28P01" | "28000" => {
                "give the password by RESHARD_PASSWORD_SHARD, PGPASSWORD or ~/.pgpass, and let pg_hba.conf take the user from here"
            }
            "3D000" => "create the database, or correct its name in --shard",
            "42501" => "grant the role what the message names",
            "53300" => "end other connections, or raise max_connections",
            "57P03" => "wait until the server has started or recovered, then try again",
            "55P03" => "look who holds the lock: `SELECT * FROM pg_locks WHERE granted`",
            _ => return None,
        })
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: could not {}: {}", self.spot, self.doing, self.message)?;
        if let Some(state) = &self.state {
            write!(out, " (SQLSTATE {})", state.code())?;
        }
        match self.remedy() {
            Some(remedy) => write!(out, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServerError {}

fn has_io_cause(error: &dyn std::error::Error) -> bool {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.into_iter().any(|cause| cause.is::<std::io::Error>())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(own) = cause {
        text.push_str(&format!(": {own}"));
        cause = own.source();
    }
    text
}
