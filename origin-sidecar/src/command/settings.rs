//! Settings of one process: flags with environment twins. Rules are not here.

use crate::jobs::operator::{EndArguments, JobFilter};
use crate::secrets::Secrets;
use clap::builder::{PossibleValuesParser, Resettable, TypedValueParser};
use clap::{Args, Command, Subcommand};
use http1::head::HeadLimits;
use inject::resources::NANO;
use rules::fallback::Wish;
use rules::signature::Keys;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Exit codes (sysexits.h where there is one).
pub const EXIT_USAGE: u8 = 64;
pub const EXIT_CONFIG: u8 = 78;
pub const EXIT_RUNTIME: u8 = 1;

/// What `proxy` and `consume` have in common.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The rules file
    #[arg(long, env = "SPILLWAY_ROUTES", default_value = "routes.toml")]
    pub routes: PathBuf,
    /// Where /startup /ready /live /metrics are served
    #[arg(long, env = "SPILLWAY_ADMIN", default_value = "127.0.0.1:15081")]
    pub admin: SocketAddr,
    /// The application beside this process: http://host:port, https://host or h2c://host:port
    #[arg(long, env = "SPILLWAY_APP", default_value = "http://127.0.0.1:8080")]
    pub app: String,
    /// Size limit in KiB of request and response heads: 1 to 63
    #[arg(long, env = "SPILLWAY_HEAD_KIB", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=63), value_name = "KIB")]
    pub head_kib: u16,
    /// Limit of header lines in a request or response head: 1 to 1024
    #[arg(long, env = "SPILLWAY_HEAD_FIELDS", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1024), value_name = "LINES")]
    pub head_fields: u16,
    /// Binds a name of the rules file to an address (repeatable): NAME=http://host:port
    #[arg(long, env = "SPILLWAY_UPSTREAM", value_delimiter = ',', value_parser = trimmed, value_name = "NAME=URL")]
    pub upstream: Vec<String>,
    /// CA bundle (PEM) for https upstreams; default: Mozilla's roots
    #[arg(long, env = "SPILLWAY_UPSTREAM_CA")]
    pub upstream_ca: Option<PathBuf>,
    /// Connect timeout in seconds for the application and upstreams, TLS handshake included
    #[arg(
        long,
        env = "SPILLWAY_CONNECT_TIMEOUT",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=300)
    )]
    pub connect_timeout: u64,
    /// Binds a queue (repeatable): NAME=sqs:URL or NAME=file:DIR
    #[arg(long, env = "SPILLWAY_QUEUE", value_delimiter = ',', value_parser = trimmed, value_name = "NAME=QUEUE")]
    pub queue: Vec<String>,
    /// Where results go: s3://BUCKET[/PREFIX] or file:DIR
    #[arg(long, env = "SPILLWAY_RESULTS")]
    pub results: Option<String>,
    /// The shard whose data the application beside this sidecar holds
    #[arg(long, env = "SPILLWAY_SHARD")]
    pub shard: Option<String>,
    /// Folder for large request bodies and results on their way to the result store
    #[arg(long, env = "SPILLWAY_SPOOL", default_value = "/tmp")]
    pub spool: PathBuf,
    /// Size of the --spool volume if this process has it to itself: 1Gi. A tenth of it stays free
    #[arg(long, env = "SPILLWAY_SPOOL_SIZE", value_parser = bytes, value_name = "SIZE")]
    pub spool_size: Option<u64>,
    /// File with the root secret, one key per line: the first signs, all verify
    #[arg(long, env = "SPILLWAY_SECRET_FILE")]
    pub secret_file: Option<PathBuf>,
    /// Bearer token that the admin port requires of callers that are not on loopback
    #[arg(long, env = "SPILLWAY_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,
    /// Host name besides localhost that the admin port answers to (repeatable)
    #[arg(long, env = "SPILLWAY_ADMIN_HOST", value_delimiter = ',', value_parser = trimmed, value_name = "NAME")]
    pub admin_host: Vec<String>,
    /// Fraction of successful requests that are logged: 0 to 1
    #[arg(long, env = "SPILLWAY_LOG_SAMPLE", default_value_t = 0.01, value_name = "SHARE")]
    pub log_sample: f64,
    /// Fraction of the traces started here that are sampled: 0 to 1
    #[arg(long, env = "SPILLWAY_TRACE_SAMPLE", default_value_t = 1.0, value_name = "SHARE")]
    pub trace_sample: f64,
    /// Admin ports of siblings (repeatable), HOST:PORT: asked for live shard maps at the start while the result
    /// store is away; every address of the name is asked
    #[arg(long, env = "SPILLWAY_PEERS", value_delimiter = ',', value_parser = trimmed, value_name = "HOST:PORT")]
    pub peers: Vec<String>,
    /// How often in seconds the result store is asked whether a live shard map has changed: 1 to 3600. While a
    /// range moves it is asked twice a second
    #[arg(long, env = "SPILLWAY_MAP_POLL", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    pub map_poll: u64,
    /// Grace period in seconds for requests and jobs in flight after SIGTERM
    #[arg(long, env = "SPILLWAY_GRACE", default_value_t = 25)]
    pub grace: u64,
}

impl Common {
    /// The size limits for heads of requests and answers.
    pub fn head_limits(&self) -> HeadLimits {
        HeadLimits { bytes: self.head_kib * 1024, fields: self.head_fields }
    }
}

/// What only `proxy` needs.
#[derive(Debug, Clone, Args)]
pub struct Proxy {
    #[command(flatten)]
    pub common: Common,
    /// What to do while the rules can't be read: `pass` every request to the application, `refuse` every
    /// request, `auto`: refuse if rules or bindings protect something, else pass; `none`: exit with code 78
    #[arg(
        long,
        env = "SPILLWAY_FALLBACK",
        default_value = "none",
        // An injected pod says auto; its own arguments come later and say otherwise.
        overrides_with = "fallback",
        value_parser = PossibleValuesParser::new(Wish::NAMES).map(|name| Wish::from_name(&name))
    )]
    pub fallback: Wish,
    /// Address to listen on for requests
    #[arg(long, env = "SPILLWAY_LISTEN", default_value = "127.0.0.1:15080")]
    pub listen: SocketAddr,
    /// Folder with tls.crt and tls.key (a mounted Secret of type kubernetes.io/tls) for TLS on --listen;
    /// changed files are loaded without a restart
    #[arg(long, env = "SPILLWAY_TLS_DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Memory for cached answers, in MiB
    #[arg(long, env = "SPILLWAY_CACHE_MIB", default_value_t = 64)]
    pub cache_mib: u64,
    /// Threads, each with its own listener and connections to the app; 0 = one per core
    #[arg(long, env = "SPILLWAY_THREADS", default_value_t = 0)]
    pub threads: usize,
    /// Seconds to keep accepting connections after a drain began, while endpoint removal propagates
    #[arg(long, env = "SPILLWAY_DRAIN_DELAY", default_value_t = 5)]
    pub drain_delay: u64,
    /// Peers whose X-Forwarded-* fields are trusted (repeatable): an address block such as 10.0.0.0/8;
    /// `private`: every peer without a public address, for scheme, client address, host and port; `none`
    #[arg(long, env = "SPILLWAY_TRUSTED_PROXY", value_delimiter = ',', value_parser = trimmed, value_name = "CIDR")]
    pub trusted_proxy: Vec<String>,
    /// Trust the Forwarded field (RFC 7239) of named proxies, too: only if they write it themselves, as most
    /// proxies pass on what the client sent
    #[arg(long, env = "SPILLWAY_FORWARDED_FIELD")]
    pub forwarded_field: bool,
    /// File with the keys of the edge, NAME=SECRET, one per line: a request signed with any of these keys is
    /// accepted as the edge's
    #[arg(long, env = "SPILLWAY_EDGE_KEYS_FILE")]
    pub edge_keys_file: Option<PathBuf>,
    /// Peers that need no signature where the rules require one (repeatable): 10.0.0.0/8
    #[arg(long, env = "SPILLWAY_UNSIGNED_FROM", value_delimiter = ',', value_parser = trimmed, value_name = "CIDR")]
    pub unsigned_from: Vec<String>,
}

/// What `purge` needs.
#[derive(Debug, Clone, Args)]
pub struct Purge {
    /// An answer's URL (repeatable): https://shop.example/p/1
    #[arg(long)]
    pub url: Vec<String>,
    /// A tag: of the route, Cache-Tag or Surrogate-Key (repeatable)
    #[arg(long)]
    pub tag: Vec<String>,
    /// Everything
    #[arg(long)]
    pub all: bool,
    /// Mark answers stale instead of removing them: the stale windows of the rules count from now
    #[arg(long)]
    pub soft: bool,
    /// Admin ports (repeatable): HOST:PORT; every address of the name is asked, so that the name of
    /// a headless Service means all its pods
    #[arg(
        long,
        env = "SPILLWAY_SIDECARS",
        value_delimiter = ',',
        value_parser = trimmed,
        default_value = "127.0.0.1:15081"
    )]
    pub sidecars: Vec<String>,
    /// Bearer token of the admin ports
    #[arg(long, env = "SPILLWAY_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,
    /// Cloudflare zone whose edge is purged after the sidecars
    #[arg(long, env = "SPILLWAY_ZONE")]
    pub zone: Option<String>,
    /// API token with the permission Cache Purge
    #[arg(long, env = "SPILLWAY_EDGE_TOKEN", hide_env_values = true)]
    pub edge_token: Option<String>,
    /// Where Cloudflare's API is
    #[arg(long, default_value = "https://api.cloudflare.com/client/v4")]
    pub edge_api: String,
    /// The rules file: it says under which URLs the edge keeps answers
    #[arg(long, env = "SPILLWAY_ROUTES", default_value = "routes.toml")]
    pub routes: PathBuf,
}

/// What `drain` needs: a preStop hook sees no arguments of its container, so the port stands in it.
#[derive(Debug, Clone, Args)]
pub struct DrainSettings {
    /// The admin port of the process beside this one
    #[arg(long, env = "SPILLWAY_ADMIN", default_value = "127.0.0.1:15081")]
    pub admin: SocketAddr,
}

/// What only `consume` needs.
#[derive(Debug, Clone, Args)]
pub struct Consume {
    #[command(flatten)]
    pub common: Common,
    /// End when a receive finds nothing and no job runs: for a Kubernetes Job
    #[arg(long, env = "SPILLWAY_UNTIL_EMPTY")]
    pub until_empty: bool,
}

/// What `jobs` needs: queue and store, no process.
#[derive(Debug, Clone, Args)]
pub struct JobsSettings {
    /// The rules file
    #[arg(long, env = "SPILLWAY_ROUTES", default_value = "routes.toml", global = true)]
    pub routes: PathBuf,
    /// Binds a queue (repeatable): NAME=sqs:URL or NAME=file:DIR
    #[arg(
        long,
        env = "SPILLWAY_QUEUE",
        value_delimiter = ',',
        value_parser = trimmed,
        value_name = "NAME=QUEUE",
        global = true
    )]
    pub queue: Vec<String>,
    /// Where results are: s3://BUCKET[/PREFIX] or file:DIR
    #[arg(long, env = "SPILLWAY_RESULTS", global = true)]
    pub results: Option<String>,
    /// File with the root secret; else SPILLWAY_SECRET. Tells job ids of this system from foreign ones
    #[arg(long, env = "SPILLWAY_SECRET_FILE", global = true)]
    pub secret_file: Option<PathBuf>,
    #[command(subcommand)]
    pub command: JobsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum JobsCommand {
    /// Queue depths and the newest jobs
    List {
        #[arg(long, value_enum, default_value = "all")]
        status: JobFilter,
        /// How many jobs
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Everything stored about a job, as JSON
    Show { id: String },
    /// Run a failed job again
    Retry { id: String },
    /// End a job that has not ended; a running one's connection is closed
    Cancel { id: String },
    /// End a job that another consumer has executed
    Done(EndArguments),
    /// Bring dead letters back into their queue
    Redrive {
        queue_name: String,
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Print the key with which receivers verify notifications
    Key,
}

/// Parses a size as Kubernetes writes it, to bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let size = inject::resources::quantity(text).and_then(|nano| u64::try_from(nano / NANO).ok());
    size.filter(|size| *size > 0).ok_or_else(|| format!("\"{text}\" is no size: write 1Gi"))
}

/// Trims an item of a list: people write a space after the comma, and folded YAML makes one.
fn trimmed(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.trim().to_owned())
}

/// The command line with empty environment variables treated as unset: charts and manifests write
/// them for values that nobody has set.
pub fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| {
        std::env::var_os(name).is_some_and(|value| value.to_string_lossy().trim().is_empty())
    };
    command
        .mut_args(|own| {
            if own.get_env().is_some_and(is_empty) { own.env(Resettable::Reset) } else { own }
        })
        .mut_subcommands(without_empty_variables)
}

/// Parses `NAME=VALUE` pairs.
///
/// # Errors
/// Names the pair that has no `=` or is repeated.
pub fn pairs(flag: &str, pairs: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for pair in pairs.iter().filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(format!("--{flag} {pair}: write NAME=VALUE"));
        };
        let (name, value) = (name.trim(), value.trim());
        if found.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("--{flag} {name} is given twice"));
        }
    }
    Ok(found)
}

/// Reads the root secret from the file, or from `SPILLWAY_SECRET`.
///
/// # Errors
/// The file can't be read, or the secret is too weak.
pub fn secrets(file: Option<&Path>) -> Result<Option<Secrets>, String> {
    let text = secret_text("secret-file", file, "SPILLWAY_SECRET")?;
    text.map(|text| Secrets::parse(&text)).transpose()
}

/// Reads the edge's keys from the file, or from `SPILLWAY_EDGE_KEYS`.
///
/// # Errors
/// The file can't be read, or a key is too weak.
pub fn edge_keys(file: Option<&Path>) -> Result<Option<Keys>, String> {
    let text = secret_text("edge-keys-file", file, "SPILLWAY_EDGE_KEYS")?;
    let keys = text.map(|text| Keys::parse(&text)).transpose();
    keys.map_err(|fault| format!("keys of the edge: {fault}"))
}

fn secret_text(flag: &str, file: Option<&Path>, variable: &str) -> Result<Option<String>, String> {
    match file {
        Some(path) => std::fs::read_to_string(path)
            .map(Some)
            .map_err(|error| format!("--{flag} {}: {error}", path.display())),
        None => Ok(std::env::var(variable).ok().filter(|text| !text.trim().is_empty())),
    }
}
