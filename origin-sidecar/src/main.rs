//! The `spillway` command: `proxy`, `consume`, `drain`, `jobs`, `purge`, `check`, `explain`,
//! `inject`, `uninject`, `webhook`.

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use spillway::command::settings::{
    Consume, DrainSettings, EXIT_CONFIG, EXIT_USAGE, JobsSettings, Proxy, Purge,
    without_empty_variables,
};
use spillway::command::shards::{self, ShardsSettings};
use spillway::command::{inject, run, stop, tools, webhook};
use spillway::logging;
use spillway::memory::Allocator;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Scale a monolith without a rewrite
#[derive(Debug, Parser)]
#[command(name = "spillway", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar: cache, shards and offload in front of the application
    Proxy(Proxy),
    /// Run queued jobs: replay each request to the application, store its answer, notify the user
    Consume(Consume),
    /// Drain the process on this admin port and wait until it is idle: for a preStop hook
    Drain(DrainSettings),
    /// Look at jobs, run failed ones again, bring dead letters back
    Jobs(JobsSettings),
    /// Remove cached answers by URL or tag: in the sidecars, then at the edge
    Purge(Purge),
    /// Look at live shard maps, and move ranges from one shard to another
    Shards(ShardsSettings),
    /// Report every fault of a rules file at once
    Check {
        file: PathBuf,
        /// Print the compiled rules as JSON instead
        #[arg(long)]
        json: bool,
    },
    /// Show what edge and sidecar would do with a request, and why
    Explain {
        method: String,
        url: String,
        /// A header as for curl (repeatable): 'Name: value'
        #[arg(short = 'H', long = "header")]
        header: Vec<String>,
        /// The request's body, for rules that look into it
        #[arg(long)]
        body: Option<String>,
        /// The app's answer as `curl -si` prints it, to learn whether it would be stored; `-` is stdin
        #[arg(long)]
        answer: Option<PathBuf>,
        /// A live shard map to explain by (repeatable): a file, or http://HOST:PORT/shards/map?map=NAME of a
        /// sidecar's admin port
        #[arg(long, value_name = "FILE|URL")]
        map: Vec<String>,
        #[arg(long, env = "SPILLWAY_ROUTES", default_value = "routes.toml")]
        routes: PathBuf,
    },
    /// Put the sidecar into Kubernetes manifests
    Inject(inject::Inject),
    /// Take the sidecar out of Kubernetes manifests
    Uninject {
        /// Manifests; `-` or nothing is stdin
        files: Vec<PathBuf>,
    },
    /// Put the sidecar into pods as they are created
    Webhook(webhook::Webhook),
}

fn main() -> ExitCode {
    let command = without_empty_variables(Arguments::command());
    let given = command.try_get_matches().and_then(|given| Arguments::from_arg_matches(&given));
    let arguments = match given {
        Ok(arguments) => arguments,
        Err(error) => {
            // The terminal may be closed; the exit code still reports the error.
            let _ = error.print();
            let is_help =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_help { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    logging::start();
    let done = match arguments.command {
        Command::Proxy(settings) => run::proxy(&settings),
        Command::Consume(settings) => run::consume(&settings),
        Command::Drain(settings) => tools::drain(&settings),
        Command::Jobs(settings) => tools::jobs(&settings),
        Command::Purge(settings) => tools::purge(&settings),
        Command::Shards(settings) => shards::shards(&settings),
        Command::Check { file, json } => tools::check(&file, json),
        Command::Explain { method, url, header, body, answer, map, routes } => {
            spillway::command::explain::Request::new(&method, &url, &header, body)
                .map_err(|fault| stop::Stop { code: EXIT_CONFIG, reason: fault })
                .and_then(|request| tools::explain(&routes, &request, answer.as_deref(), &map))
        }
        Command::Inject(command) => inject::inject(&command),
        Command::Uninject { files } => inject::uninject(&files),
        Command::Webhook(settings) => webhook::run(&settings),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => stop.exit(),
    }
}
