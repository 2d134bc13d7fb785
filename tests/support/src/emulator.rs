//! A real SQS and S3 emulator on loopback, and plain boto3 beside it.

use crate::aws::CREDENTIALS;
use crate::{Ended, PATIENCE};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub struct Emulator {
    _child: Child,
    pub url: String,
}

/// A program of the tests' Python environment.
///
/// # Panics
/// With what to do when it is not installed.
pub fn installed(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let server = std::env::var_os("SPILLWAY_MOTO");
    let server = server.map_or_else(|| root.join(".venv/bin/moto_server"), PathBuf::from);
    let program = server.with_file_name(name);
    assert!(program.exists(), "{} is not there: `cargo xtask test` installs it", program.display());
    program
}

/// Runs lines of Python in the tests' own environment of it; what they print.
///
/// # Panics
/// With what went wrong in there.
pub async fn python(lines: &str, environment: &[(String, String)]) -> String {
    let variables = environment.iter().map(|(name, value)| (name, value));
    let output = Command::new(installed("python")).args(["-c", lines]).envs(variables).output();
    let output = output.await.expect("python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A program in Python that goes on running, as an application does.
pub struct Script {
    _child: Child,
    /// The first line that it printed: where it listens.
    pub address: String,
}

impl Script {
    /// # Panics
    /// When it ends without a line.
    pub async fn start(lines: &str) -> Self {
        let mut child = Command::new(installed("python"))
            .args(["-u", "-c", lines])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time");
        Self { _child: child, address: first.expect("text").expect("a line") }
    }
}

/// Runs another program of that environment to its end.
///
/// # Panics
/// When it does not start.
pub async fn peer(name: &str, arguments: &[&str]) -> Ended {
    let output = Command::new(installed(name)).args(arguments).output().await;
    Ended::from(output.unwrap_or_else(|why| panic!("{name}: {why}")))
}

impl Emulator {
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        let mut child = Command::new(installed("moto_server"))
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the emulator starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let url = loop {
            let line =
                tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
            let line = line.expect("text").expect("the emulator listens");
            if let Some(at) = line.find("http://") {
                break line[at..].trim().to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { _child: child, url }
    }

    /// Environment of a process that uses it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let own = [("AWS_ENDPOINT_URL".to_owned(), self.url.clone())];
        own.into_iter()
            .chain(CREDENTIALS.map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect()
    }

    /// Runs a few lines of Python with boto3's `sqs` and `s3`; what they print.
    pub async fn boto3(&self, lines: &str) -> String {
        let script = format!(
            "import boto3, json\nsqs = boto3.client('sqs', 'eu-west-1')\ns3 = boto3.client('s3', 'eu-west-1')\n{lines}\n"
        );
        python(&script, &self.environment()).await
    }
}
