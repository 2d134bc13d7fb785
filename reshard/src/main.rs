//! The `reshard` command: `plan`, `preflight`, `run`, `status`, `pause`, `resume`, `verify`, `abort`, `rollback`, `finish`.

use clap::Parser;
use clap::error::ErrorKind;
use reshard::command::arguments::{Arguments, Command};
use reshard::command::{EXIT_USAGE, Stop, abort, halt, plan, preflight, run, status, verify};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // The terminal may be closed; the exit code still reports the error.
            let _ = error.print();
            let is_help =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_help { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Stop::run).and_then(|runtime| {
        runtime.block_on(async {
            match &arguments.command {
                Command::Plan(own) => plan::plan(own).await,
                Command::Preflight(own) => preflight::preflight(own).await,
                Command::Run(own) => run::run(own).await,
                Command::Status(own) => status::status(own).await,
                Command::Pause(own) => halt::halt(own, true).await,
                Command::Resume(own) => halt::halt(own, false).await,
                Command::Verify(own) => verify::verify(own).await,
                Command::Abort(own) => abort::abort(own).await,
                Command::Rollback(own) => abort::rollback(own).await,
                Command::Finish(own) => abort::finish(own).await,
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => stop.exit(),
    }
}
