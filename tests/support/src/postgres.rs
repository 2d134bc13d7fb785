//! A real PostgreSQL on loopback, as a server of its own that ends with the process that started it.

mod installed;

use crate::PATIENCE;
use installed::Installed;
use std::fmt::Write;
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use tokio_postgres::{Client, NoTls};

/// What runs the server where the tests run as root, which PostgreSQL refuses. Debian's package makes it.
const USER: &str = "postgres";
/// The password of every role that a test makes; `postgres` needs none.
pub const PASSWORD: &str = "it's a \\ \"päss\" word: 100%@#";
/// What tests need of a server unless they say otherwise: moves that nobody has ended stay in a shared one. It keeps nothing that a crash of the machine would
/// spare; a crash of the server loses nothing by that.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
max_wal_senders = 60
max_replication_slots = 60
max_prepared_transactions = 10
max_logical_replication_workers = 60
max_worker_processes = 70
shared_buffers = 32MB
fsync = off
log_min_messages = warning
wal_retrieve_retry_interval = 200ms
";
/// Only `postgres` is believed without a password.
const ACCESS: &str = "\
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
";
/// Waits until its input ends, which it does with the process that started it, however that ends; then ends the
/// server in the folder and removes it.
const KEEPER: &str = r#"
cat > /dev/null
pid_file="$0/data/postmaster.pid"
[ -s "$pid_file" ] && kill -QUIT "$(head -n 1 "$pid_file")"
tries=0
while [ -e "$pid_file" ] && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
rm -rf "$0"
"#;

/// A server.
pub struct Postgres {
    installed: Installed,
    keeper: Child,
    folder: PathBuf,
    port: u16,
}

/// A database of a server.
#[derive(Clone)]
pub struct Database {
    pub port: u16,
    pub name: String,
}

fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|own| own.uid() == 0)
}

/// A command that runs as somebody whom PostgreSQL accepts.
fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    // Root's own is no folder of that user, and libpq looks there for certificates.
    command.arg(program).env("HOME", "/");
    command
}

fn done(what: &str, command: &mut Command) {
    let output = command.output().unwrap_or_else(|why| panic!("{what}: {why}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{what}: {said}{}", String::from_utf8_lossy(&output.stdout));
}

/// A new folder that the server's user owns.
fn own_folder() -> PathBuf {
    let folder = crate::folder().keep();
    if is_root() {
        let mut id = Command::new("id");
        let output = id.args(["-u", USER]).output().expect("id");
        let number = String::from_utf8_lossy(&output.stdout).trim().parse();
        let number = number.expect("the user postgres: apt install postgresql");
        chown(&folder, Some(number), None).expect("root may");
    }
    folder
}

impl Postgres {
    /// Starts a server with these settings beside those that all have: `max_replication_slots = 0`.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub fn start(settings: &[&str]) -> Self {
        Self::of(Installed::first(), settings)
    }

    /// The same of the version that takes what moves, where that is another one.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn start_taker(settings: &[&str]) -> Self {
        Self::of(Installed::taker(), settings)
    }

    fn of(installed: Installed, settings: &[&str]) -> Self {
        let folder = own_folder();
        let data = folder.join("data");
        done("a copy", Command::new("cp").arg("-r").arg(installed.template()).arg(&data));
        let mut text = SETTINGS.to_owned();
        if installed.major() >= 18 {
            // Before, the slots counted.
            text.push_str("max_active_replication_origins = 60\n");
        }
        for setting in settings {
            writeln!(text, "{setting}").expect("a text");
        }
        std::fs::write(data.join("postgresql.auto.conf"), text).expect("its settings");
        std::fs::write(data.join("pg_hba.conf"), ACCESS).expect("who may connect");
        if is_root() {
            done("chown", Command::new("chown").args(["-R", USER]).arg(&data));
        }
        done("chmod", Command::new("chmod").arg("0700").arg(&data));
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER]).arg(&folder).stdin(Stdio::piped());
        let keeper = keeper.spawn().expect("a shell");
        let mut own = Self { installed, keeper, folder, port: 0 };
        own.restart();
        own
    }

    /// One of the servers that all tests of the process share, for what needs no settings of its own: 0 gives, 1 takes.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn shared(number: usize) -> &'static Self {
        static SHARED: [OnceLock<Postgres>; 2] = [OnceLock::new(), OnceLock::new()];
        let start = if number == 0 { Self::start } else { Self::start_taker };
        SHARED[number].get_or_init(|| start(&[]))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Writes a file into the data folder that is the server's own: a key, who may connect.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn put(&self, name: &str, text: &str) {
        let (file, data) = (self.data().join(name), self.data());
        std::fs::write(&file, text).expect("a file");
        let owner = data.metadata().expect("the data folder");
        chown(&file, Some(owner.uid()), Some(owner.gid())).expect("root may");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("its owner may");
    }

    /// What the server has said.
    ///
    /// # Panics
    /// When it never started.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).expect("a log")
    }

    /// Starts the server again after [`Postgres::crash`], on the same port.
    ///
    /// # Panics
    /// When it does not start in time.
    pub fn restart(&mut self) {
        let until = Instant::now() + PATIENCE;
        let is_first = self.port == 0;
        loop {
            if is_first {
                self.port = free_port();
            }
            let mut start = as_user(&self.installed.programs.join("pg_ctl"));
            start.arg("-D").arg(self.data()).arg("-l").arg(self.folder.join("log"));
            start.args(["-s", "-w", "-o", &format!("-p {}", self.port), "start"]);
            // What it starts would keep a pipe open.
            start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if start.status().expect("pg_ctl").success() {
                return;
            }
            // The port may be taken meanwhile, or processes of the one that crashed still end.
            assert!(Instant::now() < until, "PostgreSQL does not start: {}", self.log());
        }
    }

    /// Ends the server with SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn crash(&self) {
        let pids = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("it runs");
        let pid = pids.lines().next().expect("its number");
        done("kill", Command::new("kill").args(["-KILL", pid]));
    }

    /// A new database of the server, with the template's encoding and locale.
    ///
    /// # Panics
    /// When the server does not make it.
    pub async fn database(&self) -> Database {
        self.database_with("").await
    }

    /// The same with more behind `CREATE DATABASE name`.
    ///
    /// # Panics
    /// When the server does not make it.
    pub async fn database_with(&self, how: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // Two at once would be refused: each copies the template.
        static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _one = ONE.lock().await;
        let first = Database { port: self.port, name: "postgres".to_owned() };
        first.sql(&format!("CREATE DATABASE {name} {how}")).await;
        Database { port: self.port, name }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It ends whatever it finds.
        let _ = self.keeper.wait();
    }
}

impl Database {
    /// The address that `--shard` takes, for this user.
    pub fn url(&self, user: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// A session as `postgres`.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn client(&self) -> Client {
        self.client_as("postgres").await
    }

    /// A session as another role, whose password is [`PASSWORD`].
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn client_as(&self, user: &str) -> Client {
        self.connected(user).await.expect("a session")
    }

    /// A session as soon as the server takes one, which may be starting again.
    ///
    /// # Panics
    /// When it never does.
    pub async fn client_in_time(&self) -> Client {
        crate::eventually("the server takes a session", || async {
            self.connected("postgres").await.ok()
        })
        .await
    }

    async fn connected(&self, user: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(PASSWORD).dbname(&self.name);
        // A test may set the server to the contrary.
        config.options("-c default_transaction_read_only=off");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// Executes statements as `postgres`.
    ///
    /// # Panics
    /// When the server refuses one.
    pub async fn sql(&self, statements: &str) {
        let done = self.client().await.batch_execute(statements).await;
        done.unwrap_or_else(|why| panic!("{statements}: {why:?}"));
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}
