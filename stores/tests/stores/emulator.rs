//! Real processes that speak SQS or S3. None checks signatures or rights.

use super::directory::Directory;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use stores::queue::sqs::aws_loader;

pub(super) struct Emulator {
    process: Child,
    endpoint: String,
    /// What it stores on disk goes when it does.
    _directory: Option<Directory>,
}

impl Emulator {
    /// Starts moto on a port of the system's choice and waits until it says which.
    pub(super) fn start() -> Self {
        let mut command = Command::new(program("moto_server"));
        command.args(["--host", "127.0.0.1", "--port", "0"]);
        Self::announced(command, "Running on ")
    }

    /// MiniStack, which says that it runs but takes no port 0.
    pub(super) fn ministack() -> Self {
        let [port] = free_ports();
        let mut command = Command::new(program("ministack"));
        command
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            // Its port would be a fixed one.
            .env("IOT_MTLS_ENABLED", "0");
        Self::announced(command, "] Running on ")
    }

    /// SeaweedFS: four servers in one process, on a disk. They are there when S3 answers.
    pub(super) async fn seaweedfs() -> Self {
        let directory = Directory::new();
        let ports: [u16; 8] = free_ports();
        let names = ["master.port", "volume.port", "filer.port", "s3.port"];
        let names = names.into_iter().flat_map(|name| [name.to_owned(), format!("{name}.grpc")]);
        let mut command = Command::new(program("weed"));
        command
            .args(["server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"])
            .args(["-master.volumeSizeLimitMB=64", "-volume.max=20"])
            .arg(format!("-dir={}", directory.path().display()))
            .args(names.zip(ports).map(|(name, port)| format!("-{name}={port}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().expect("SeaweedFS starts");
        let endpoint = format!("http://127.0.0.1:{}", ports[6]);
        let client = support::Client::new(endpoint.clone());
        support::eventually("SeaweedFS takes objects", || async {
            let made = client.try_send("PUT", "/ready", "").await.ok()?;
            let put = client.try_send("PUT", "/ready/object", "x").await.ok()?;
            ((made.status, put.status) == (200, 200)).then_some(())
        })
        .await;
        Self { process, endpoint, _directory: Some(directory) }
    }

    /// Starts what writes its address after a text on stderr.
    fn announced(mut command: Command, text: &str) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut log = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut lines = String::new();
        let endpoint = loop {
            let start = lines.len();
            if log.read_line(&mut lines).expect("the emulator's log") == 0 {
                panic!("{command:?} ended: {lines}");
            }
            if let Some((_, address)) = lines[start..].split_once(text) {
                break address.split_whitespace().next().unwrap_or_default().to_owned();
            }
        };
        // It writes a line for every request and would stop when the pipe is full.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, endpoint, _directory: None }
    }

    pub(super) async fn config(&self) -> SdkConfig {
        config(&self.endpoint).await
    }
}

/// Ports that nobody has at the moment, for programs that cannot ask for one themselves.
fn free_ports<const N: usize>() -> [u16; N] {
    let taken = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    taken.map(|listener| listener.local_addr().expect("a bound port").port())
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

/// A program of the tests' Python environment.
fn program(name: &str) -> PathBuf {
    let installed = std::env::var_os("SPILLWAY_MOTO").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/moto_server")
    });
    let path = installed.with_file_name(name);
    assert!(
        path.exists(),
        "{} is not there: `cargo xtask test` installs it; or set SPILLWAY_MOTO to the path of \
         moto_server in an environment that has what xtask/src/setup.rs lists",
        path.display()
    );
    path
}
