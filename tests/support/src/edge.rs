//! The edge worker in a real workerd.

use crate::{Client, PATIENCE, folder};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// A build of the worker from nothing takes minutes.
const BUILD_PATIENCE: std::time::Duration = PATIENCE.saturating_mul(10);

/// One edge worker, which ends with the process that started it, however that ends.
pub struct Edge {
    _child: Child,
    _input: ChildStdin,
    _rules: TempDir,
    url: String,
}

impl Edge {
    /// The worker of these rules in front of this origin. One at a time in all tests.
    ///
    /// # Panics
    /// When it is not built or does not start.
    pub async fn start(rules: &str, origin: &str) -> Self {
        let (root, own) = (Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), folder());
        let (programs, file) = (root.join("node_modules/.bin"), own.path().join("routes.toml"));
        std::fs::write(&file, rules).expect("a rules file");
        let others = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(programs.clone()).chain(std::env::split_paths(&others));
        let mut command = Command::new(programs.join("node"));
        command.arg(root.join("tests/support/edge.mjs")).arg(&file).arg(origin);
        command.env("PATH", std::env::join_paths(all).expect("names of folders"));
        command.current_dir(&root).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node of npm: `cargo xtask test` installs it");
        let input = child.stdin.take().expect("a pipe");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let first = tokio::time::timeout(BUILD_PATIENCE, lines.next_line()).await;
        let url = first.expect("in time").expect("text").expect("the worker listens");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { _child: child, _input: input, _rules: own, url }
    }

    pub fn client(&self) -> Client {
        Client::new(self.url.clone())
    }
}
