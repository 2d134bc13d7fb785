//! What `spillway shards` is given.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Where the maps lie, and who follows them.
#[derive(Debug, Clone, Args)]
pub struct ShardsSettings {
    /// The rules file
    #[arg(long, env = "SPILLWAY_ROUTES", default_value = "routes.toml", global = true)]
    pub routes: PathBuf,
    /// Where the maps lie: s3://BUCKET[/PREFIX] or file:DIR
    #[arg(long, env = "SPILLWAY_RESULTS", global = true)]
    pub results: Option<String>,
    /// File with the root secret; else SPILLWAY_SECRET. It signs the maps
    #[arg(long, env = "SPILLWAY_SECRET_FILE", global = true)]
    pub secret_file: Option<PathBuf>,
    /// File with the key that `spillway shards key` prints, for a machine that must not have the root secret
    #[arg(long, env = "SPILLWAY_MAP_KEY_FILE", global = true)]
    pub map_key_file: Option<PathBuf>,
    /// Admin ports of all sidecars and consumers (repeatable): HOST:PORT; every address of the name is asked,
    /// so that the name of a headless Service means all its pods
    #[arg(
        long,
        env = "SPILLWAY_SIDECARS",
        value_delimiter = ',',
        value_name = "HOST:PORT",
        global = true
    )]
    pub sidecars: Vec<String>,
    /// Bearer token of the admin ports
    #[arg(long, env = "SPILLWAY_ADMIN_TOKEN", hide_env_values = true, global = true)]
    pub admin_token: Option<String>,
    /// How often in seconds the processes look for changes: their --map-poll. An announce waits that long for
    /// processes that no address leads to
    #[arg(long, env = "SPILLWAY_MAP_POLL", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS", global = true)]
    pub map_poll: u64,
    /// Print one JSON object per line and event
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: ShardsCommand,
}

/// What every change of a map is given.
#[derive(Debug, Clone, Args)]
pub struct Changing {
    /// The map's name in the rules file
    pub map: String,
    /// Do not ask on the terminal
    #[arg(long)]
    pub yes: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Who does this, for the log; default: user and host
    #[arg(long)]
    pub by: Option<String>,
    /// Why, for the log
    #[arg(long, default_value = "")]
    pub why: String,
}

impl Changing {
    /// Who changes the map, as its log has it.
    pub fn author(&self) -> String {
        if let Some(by) = &self.by {
            return by.clone();
        }
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
        let user = user.unwrap_or_else(|_| "unknown".to_owned());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{user}@{}", host.trim())
    }
}

/// A step of a move that is under way.
#[derive(Debug, Clone, Args)]
pub struct MoveStep {
    #[command(flatten)]
    pub changing: Changing,
    /// The tool that leads the move, as it was announced
    #[arg(long, default_value = "hand")]
    pub driver: String,
    /// Go on although another tool leads the move; says why, for the log
    #[arg(long, value_name = "WHY")]
    pub i_know: Option<String>,
}

/// A step that needs the members of the move.
#[derive(Debug, Clone, Args)]
pub struct GatedStep {
    #[command(flatten)]
    pub step: MoveStep,
    /// The owner refuses writes of the range by itself: go on without members that do not answer; says why, for
    /// the log
    #[arg(long, value_name = "WHY")]
    pub owner_is_fenced: Option<String>,
    /// Go on without this member (repeatable): its name or address as printed. Its writes may be lost
    #[arg(long, value_name = "POD")]
    pub without: Vec<String>,
    /// How long in seconds the members may take; default: the map's hold time less one second
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
}

/// The start of a move.
#[derive(Debug, Clone, Args)]
pub struct Announcing {
    #[command(flatten)]
    pub changing: Changing,
    /// The range: FROM..UNTIL, without UNTIL itself; an end that is left out is open
    #[arg(long, value_name = "FROM..UNTIL")]
    pub range: String,
    /// The new owner
    #[arg(long, value_name = "SHARD")]
    pub to: String,
    /// The tool that leads the move: only it may end it
    #[arg(long, default_value = "hand")]
    pub driver: String,
    /// How long in seconds jobs and adopted requests of the range may take to end
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub wait_jobs: u64,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ShardsCommand {
    /// Ranges, owners and the move that is under way
    Show { map: Option<String> },
    /// The processes that follow a map, and how far each is
    Members { map: String },
    /// Which shard owns a key
    Lookup { map: String, key: String },
    /// Every version of a map: when, by whom, why
    Log { map: String },
    /// Print the key that signs maps, for --map-key-file
    Key,
    /// Print the ranges as they would stand in the rules file
    Export { map: String },
    /// Make a live map from the ranges in the rules file
    Init(Changing),
    /// Put the newest known version of a map back that the store has lost
    Restore(Changing),
    /// Sign a map with the first root key: before an old key is removed
    Sign(Changing),
    /// End a live map: the rules file must say the same ranges
    Retire(Changing),
    /// Give keys beyond an end of the map, which nobody held, to a shard
    Extend {
        #[command(flatten)]
        changing: Changing,
        /// The new lowest key
        #[arg(long, conflicts_with = "until")]
        from: Option<String>,
        /// The new upper end: the first key that no range holds
        #[arg(long)]
        until: Option<String>,
        /// Leave the upper end open
        #[arg(long, conflicts_with_all = ["from", "until"])]
        open: bool,
        /// The owner of these keys
        #[arg(long)]
        shard: String,
    },
    /// Make one range two; the owner stays
    Split {
        #[command(flatten)]
        changing: Changing,
        /// The first key of the upper one
        #[arg(long)]
        at: String,
    },
    /// Make two ranges of one owner one
    Merge {
        #[command(flatten)]
        changing: Changing,
        /// The first key of the upper one
        #[arg(long)]
        at: String,
    },
    /// Begin a move: tell every process; only jobs wait
    Announce(Announcing),
    /// Let the writes of the range wait until the move ends
    Fence(GatedStep),
    /// Mark that the move can only be committed from here on
    NoReturn(GatedStep),
    /// Give the range to its new owner
    Commit(GatedStep),
    /// Leave the range with its owner
    Abort(MoveStep),
}
