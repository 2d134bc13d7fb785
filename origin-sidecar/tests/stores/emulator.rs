//! moto: a real process that speaks SQS and S3. It checks neither signatures nor rights.

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use spillway::queue::sqs::aws_loader;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub(super) struct Emulator {
    process: Child,
    endpoint: String,
}

impl Emulator {
    /// Starts it on a port of the system's choice and waits until it says which.
    pub(super) fn start() -> Self {
        let program = program();
        let mut process = Command::new(&program)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut log = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut lines = String::new();
        let endpoint = loop {
            let start = lines.len();
            if log.read_line(&mut lines).expect("the emulator's log") == 0 {
                panic!("{} ended: {lines}", program.display());
            }
            if let Some((_, address)) = lines[start..].split_once("Running on ") {
                break address.trim().to_owned();
            }
        };
        // It writes a line for every request and would stop when the pipe is full.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, endpoint }
    }

    pub(super) async fn config(&self) -> SdkConfig {
        config(&self.endpoint).await
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It has no state worth a clean end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program's own configuration, pointed at an endpoint of the test.
pub(super) async fn config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("key", "secret", None, None, "test");
    aws_loader()
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .load()
        .await
}

fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SPILLWAY_MOTO") {
        return path.into();
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join(".venv/bin/moto_server");
    assert!(
        path.exists(),
        "no SQS and S3 emulator: run `cargo xtask test`, or install it once with\n  \
         python3 -m venv .venv && .venv/bin/pip install 'moto[server]==5.2.5'\n\
         or set SPILLWAY_MOTO to the path of moto_server"
    );
    path
}
