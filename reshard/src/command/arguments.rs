//! What `reshard` is given.

use crate::map::Spillway;
use crate::moved::MoveId;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Move a range of keys from one PostgreSQL to another while clients write
#[derive(Debug, Parser)]
#[command(name = "reshard", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what would move: its owner, rows and bytes; nothing is changed. With --json it is what --plan reads
    Plan(MoveArguments),
    /// Look for everything that would stop a move, and say how to mend it; nothing is changed
    Preflight(MoveArguments),
    /// Bring the range to the target, let it follow, and switch: the target owns the range then, and the source follows
    /// it; go on where a run ended
    Run(RunArguments),
    /// Say how far the moves of a source are
    Status(OnMove),
    /// Let a copy stand still, after the chunks that are on their way
    Pause(OnMove),
    /// Let it go on
    Resume(OnMove),
    /// Compare both databases while the target follows
    Verify(OnMove),
    /// Undo a move that was not switched: the source as it was, and nothing left at the target
    Abort(AbortArguments),
    /// Give the range back to its first owner, with all that was written since the switch
    Rollback(EndArguments),
    /// End a move that was switched: the way back is closed, and the source's rows of the range are removed
    Finish(EndArguments),
}

/// What a run is given.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub moved: MoveArguments,
    #[command(flatten)]
    pub consent: Consent,
    /// Print every statement that would change something, and every call of `spillway shards`; none is sent
    #[arg(long)]
    pub dry_run: bool,
    /// Stop when both databases are the same: nothing is switched
    #[arg(long)]
    pub no_switch: bool,
    /// Sessions that copy, and then make indexes, side by side
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub jobs: u8,
    /// Begin the copy again, although its slot was lost more than once
    #[arg(long)]
    pub copy_again: bool,
    /// The copy takes no more than this in a second, such as 20MiB
    #[arg(long, value_name = "BYTES")]
    pub rate: Option<String>,
}

/// What a command on a move that has begun is given.
#[derive(Debug, Clone, Args)]
pub struct OnMove {
    /// The shard that the range moves from: its database has the journal
    #[arg(long, value_name = "SHARD")]
    pub source: String,
    /// The move's number; default: the one that has not ended
    #[arg(long = "move", value_name = "NUMBER")]
    pub number: Option<u32>,
    #[command(flatten)]
    pub connections: Connections,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// What ends a move is given.
#[derive(Debug, Clone, Args)]
pub struct EndArguments {
    #[command(flatten)]
    pub on: OnMove,
    #[command(flatten)]
    pub consent: Consent,
    #[command(flatten)]
    pub spillway: SpillwayArguments,
    #[command(flatten)]
    pub switch: SwitchArguments,
    /// `finish` compares nothing: the way back is broken for good, or was lost
    #[arg(long)]
    pub without_comparison: bool,
    /// `finish` leaves no CHECK that refuses rows of ranges that the map gives to other shards
    #[arg(long)]
    pub no_owner_check: bool,
}

impl EndArguments {
    /// The same for one move.
    pub fn of(&self, id: MoveId) -> Self {
        let mut own = self.clone();
        own.on.number = Some(id.0);
        own
    }
}

/// What an abort is given.
#[derive(Debug, Clone, Args)]
pub struct AbortArguments {
    #[command(flatten)]
    pub end: EndArguments,
    /// The target is away for good: undo the move at the source and in the map alone
    #[arg(long)]
    pub without_target: bool,
}

/// How a switch is done.
#[derive(Debug, Clone, Copy, Args)]
pub struct SwitchArguments {
    /// How long in seconds open transactions of the range may take to end while its writes wait
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    pub drain: u64,
    /// How long in seconds jobs and adopted requests of the range may take to end before its writes wait
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub wait_jobs: u64,
    /// Values that sequences leave out above the highest of both databases
    #[arg(long, default_value_t = 1000, value_name = "VALUES", value_parser = clap::value_parser!(i64).range(1..=1_000_000_000))]
    pub gap: i64,
}

/// How much is asked before something is changed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Consent {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// End the session of another reshard that works on this source
    #[arg(long)]
    pub take_over: bool,
}

/// What every command on a move that has not begun is given.
#[derive(Debug, Clone, Args)]
pub struct MoveArguments {
    #[command(flatten)]
    pub asked: AskedMove,
    /// Take map, range, shard and tables from a file that `reshard plan --json` has printed; of several moves, the first
    /// one that is not done
    #[arg(long, value_name = "FILE", conflicts_with = "AskedMove")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub connections: Connections,
    /// How the other database reaches that of a shard, where it has another name or role there (repeatable):
    /// SHARD=postgresql://user@host:port/database. The password is taken from RESHARD_REPLICATION_PASSWORD, else
    /// it is that of the shard
    #[arg(long, value_name = "SHARD=URL")]
    pub replicate_from: Vec<String>,
    #[command(flatten)]
    pub spillway: SpillwayArguments,
    #[command(flatten)]
    pub switch: SwitchArguments,
    /// How long in seconds the WAL is measured, and how long a transaction must be open to be a fault
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600), value_name = "SECONDS")]
    pub measure: u64,
    /// Go on with this fault (repeatable): its name as preflight prints it
    #[arg(long, value_name = "FAULT")]
    pub accept: Vec<String>,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// One move, as the command line asks for it.
#[derive(Debug, Clone, Args)]
pub struct AskedMove {
    /// The map's name in the rules file
    #[arg(long, required_unless_present = "plan")]
    pub map: Option<String>,
    /// The range: FROM..UNTIL, without UNTIL itself; an end that is left out is open
    #[arg(
        long,
        value_name = "FROM..UNTIL",
        allow_hyphen_values = true,
        required_unless_present = "plan"
    )]
    pub range: Option<String>,
    /// The shard that will own it
    #[arg(long, value_name = "SHARD", required_unless_present = "plan")]
    pub to: Option<String>,
    /// The tables that move, each with the column of its key: [SCHEMA.]TABLE[:COLUMN]
    #[arg(long, value_name = "TABLE[:COLUMN],…", required_unless_present = "plan")]
    pub tables: Vec<String>,
    /// The key's column of every table that names none
    #[arg(long, value_name = "COLUMN")]
    pub key: Option<String>,
}

/// Where the databases are.
#[derive(Debug, Clone, Args)]
pub struct Connections {
    /// The database of a shard (repeatable): SHARD=postgresql://user@host:port/database. Passwords are taken from
    /// RESHARD_PASSWORD_SHARD, PGPASSWORD or ~/.pgpass
    #[arg(long = "shard", value_name = "SHARD=URL")]
    pub shards: Vec<String>,
    /// A file with such lines
    #[arg(long, env = "RESHARD_SHARDS_FILE", value_name = "FILE")]
    pub shards_file: Option<PathBuf>,
}

/// How `spillway shards` is called, which reads and changes the map.
#[derive(Debug, Clone, Args)]
pub struct SpillwayArguments {
    /// The `spillway` program; default: the one beside this program, else that of PATH
    #[arg(long, env = "RESHARD_SPILLWAY", value_name = "FILE")]
    pub spillway: Option<PathBuf>,
    /// The rules file
    #[arg(long, env = "SPILLWAY_ROUTES", default_value = "routes.toml", value_name = "FILE")]
    pub rules: PathBuf,
    /// Where the maps lie: s3://BUCKET[/PREFIX] or file:DIR
    #[arg(long, env = "SPILLWAY_RESULTS", value_name = "URL")]
    pub results: Option<String>,
    /// File with the root secret
    #[arg(long, env = "SPILLWAY_SECRET_FILE", value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// File with the key that `spillway shards key` prints
    #[arg(long, env = "SPILLWAY_MAP_KEY_FILE", value_name = "FILE")]
    pub map_key_file: Option<PathBuf>,
    /// Admin ports of all sidecars and consumers (repeatable): HOST:PORT
    #[arg(long, env = "SPILLWAY_SIDECARS", value_delimiter = ',', value_name = "HOST:PORT")]
    pub sidecars: Vec<String>,
    /// File with the bearer token of the admin ports; else SPILLWAY_ADMIN_TOKEN
    #[arg(long, env = "SPILLWAY_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
}

impl SpillwayArguments {
    /// How to call it.
    pub fn spillway(&self) -> Spillway {
        let own = self.clone();
        Spillway {
            program: own.spillway.unwrap_or_else(Spillway::beside_us),
            rules: own.rules,
            results: own.results,
            secret_file: own.secret_file,
            map_key_file: own.map_key_file,
            sidecars: own.sidecars,
            admin_token_file: own.admin_token_file,
        }
    }
}
