//! A real SQS and S3 emulator on loopback, and plain boto3 beside it.

use crate::PATIENCE;
use crate::aws::CREDENTIALS;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub struct Emulator {
    _child: Child,
    pub url: String,
    python: PathBuf,
}

impl Emulator {
    /// # Panics
    /// With what to do when the emulator is not installed.
    pub async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let default = root.join(".venv/bin/moto_server");
        let program = std::env::var_os("SPILLWAY_MOTO").map_or(default, PathBuf::from);
        assert!(
            program.exists(),
            "{} is not there: `cargo xtask test` installs it",
            program.display()
        );
        let mut child = Command::new(&program)
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
        let python = program.with_file_name("python");
        Self { _child: child, url, python }
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
        let output = Command::new(&self.python)
            .args(["-c", &script])
            .envs(self.environment())
            .output()
            .await;
        let output = output.expect("python starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}
