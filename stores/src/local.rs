//! What both embedded stores need: a directory on a disk of this node and a SQLite file in it.

pub(crate) mod group;

use rules::{Millis, UnixMillis};
use rusqlite::{Connection, TransactionBehavior};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a write waits for another process's transaction. It is less than the 3 s that an enqueue may take
/// in all, and more than the slowest sync of a loaded disk that was measured (0.6 s).
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The size in bytes to which the write-ahead log is cut back after a burst; SQLite would keep it at its
/// largest.
const LOG_BYTES_KEPT: i64 = 64 << 20;

/// File systems on whose locks or shared memory SQLite's WAL can't rely.
const NETWORK_FILESYSTEMS: [&str; 10] =
    ["9p", "afs", "ceph", "cifs", "coda", "lustre", "ncpfs", "nfs", "smb3", "smbfs"];

/// The wall clock, because several processes, also after restarts, share the times it is compared with. A
/// clock that is set back makes messages reappear later by as much, but loses none.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixMillis(millis(since).0)
}

/// The duration in whole milliseconds, rounded up so that a wait never ends too early.
pub(crate) fn millis(duration: Duration) -> Millis {
    Millis::from(duration) + Millis(u64::from(!duration.subsec_nanos().is_multiple_of(1_000_000)))
}

/// Creates the directory where needed and returns its real path; refuses network file systems.
pub(crate) fn prepare(dir: &Path) -> Result<PathBuf, String> {
    let fault = |error: std::io::Error| format!("{}: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(fault)?;
    let dir = dir.canonicalize().map_err(fault)?;
    // Without mountinfo (not Linux) there is nothing to judge by.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match filesystem(&mounts, &dir) {
        Some(kind) if is_network(&kind) => Err(format!(
            "{}: on a network file system ({kind}), where SQLite's locks lose data; use a disk of \
             this node, or sqs: and s3:",
            dir.display()
        )),
        _ => Ok(dir),
    }
}

/// How the tables of a file are created, and how an older file is brought up to date.
pub(crate) struct Format {
    /// The format number, kept in `PRAGMA user_version`.
    pub(crate) version: i64,
    pub(crate) schema: &'static str,
    /// The migrations as `(from, statements)`: the statements turn format `from` into the next one.
    pub(crate) upgrades: &'static [(i64, &'static str)],
}

/// Opens `dir/name` for durable writes, in the current format.
pub(crate) fn open(dir: &Path, name: &str, format: &Format) -> Result<Connection, String> {
    let path = dir.join(name);
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    // Two processes that turn on the WAL at once would meet SQLITE_BUSY, which SQLite does not
    // retry there.
    let lock = File::create(dir.join("open.lock")).map_err(|error| fault(&error))?;
    lock.lock().map_err(|error| fault(&error))?;
    let mut connection = Connection::open(&path).map_err(|error| fault(&error))?;
    configure(&connection).map_err(|error| fault(&error))?;
    let found = migrate(&mut connection, format).map_err(|error| fault(&error))?;
    if found != format.version {
        return Err(fault(&format!(
            "has format {found}, this program knows format {}: start the version of \
             spillway that wrote it, or move the file away to begin empty",
            format.version
        )));
    }
    // The file's own name must survive a power cut too.
    sync_dir(dir).map_err(|error| fault(&error))?;
    Ok(connection)
}

/// A second connection to a file that [`open`] has prepared.
pub(crate) fn reopen(dir: &Path, name: &str) -> Result<Connection, String> {
    let path = dir.join(name);
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let connection = Connection::open(&path).map_err(|error| fault(&error))?;
    configure(&connection).map_err(|error| fault(&error))?;
    Ok(connection)
}

/// A file that is open and has to stay in its place, because what is written to a removed file is lost.
#[derive(Debug, Clone)]
pub(crate) struct Anchor {
    path: PathBuf,
    number: u64,
}

impl Anchor {
    pub(crate) fn of(dir: &Path, name: &str) -> Result<Self, String> {
        let path = dir.join(name);
        let meta = std::fs::metadata(&path);
        let number = meta.map_err(|error| format!("{}: {error}", path.display()))?.ino();
        Ok(Self { path, number })
    }

    pub(crate) fn stands(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|meta| meta.ino() == self.number)
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A stable name of an error, for a metric label.
pub(crate) fn error_name(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "busy",
        Some(ErrorCode::DiskFull) => "disk-full",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "corrupt",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => "denied",
        _ => "store-failed",
    }
}

fn configure(connection: &Connection) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    connection.busy_timeout(BUSY_TIMEOUT).map_err(text)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(text)?;
    // SQLite says so only in its answer where the file system cannot share memory.
    if mode != "wal" {
        return Err(format!("this file system allows no write-ahead log (mode {mode})"));
    }
    // With this a commit returns after the sync of the log, not before.
    connection.pragma_update(None, "synchronous", "full").map_err(text)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT).map_err(text)
}

/// Makes the tables in a new file, or brings an older file up to date. Returns the format that the
/// file has then.
fn migrate(connection: &mut Connection, format: &Format) -> rusqlite::Result<i64> {
    let version = |db: &Connection| db.query_row("PRAGMA user_version", [], |row| row.get(0));
    // Usually the format is the current one, and a process that starts must not wait for those that write.
    if version(connection)? == format.version {
        return Ok(format.version);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut found: i64 = version(&transaction)?;
    if found == 0 {
        transaction.execute_batch(format.schema)?;
        found = format.version;
    }
    while let Some((_, statements)) = format.upgrades.iter().find(|(from, _)| *from == found) {
        transaction.execute_batch(statements)?;
        found += 1;
    }
    if found == format.version {
        transaction.pragma_update(None, "user_version", found)?;
        transaction.commit()?;
    }
    Ok(found)
}

/// The type of the file system that holds the path. The longest mount point above it counts, and the last
/// mount where several share one.
fn filesystem(mountinfo: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mountinfo.lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let Some(point) = mount.split(' ').nth(4).map(unescape) else { continue };
        let Some(kind) = source.split(' ').next() else { continue };
        if path.starts_with(&point) && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// Decodes a path of mountinfo: the kernel writes space, tab, line feed and backslash as octal numbers.
fn unescape(point: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(point.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

fn is_network(kind: &str) -> bool {
    // `fuseblk` is a local disk; `fuse` and `fuse.…` are sshfs, s3fs, glusterfs and their like.
    let fuse = kind == "fuse" || kind.starts_with("fuse.");
    fuse || kind.starts_with("nfs") || NETWORK_FILESYSTEMS.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:21 / / rw,relatime - overlay overlay rw
23 22 8:1 / /data rw shared:7 master:1 - ext4 /dev/sda1 rw
24 23 0:30 / /data/share rw shared:8 - nfs4 server:/x rw
25 23 0:31 / /data/my\\040disk rw - fuse.sshfs host: rw
26 23 0:32 / /data/share2 rw - tmpfs tmpfs rw
27 23 0:33 / /data/share2 rw - cifs //host/x rw";

    #[test]
    fn the_longest_mount_point_names_the_file_system() {
        for (path, kind, network) in [
            ("/var/lib", "overlay", false),
            ("/data/queue", "ext4", false),
            ("/data/share", "nfs4", true),
            ("/data/share/a/b", "nfs4", true),
            ("/data/my disk/a", "fuse.sshfs", true),
            ("/data/share2/a", "cifs", true),
        ] {
            assert_eq!(filesystem(MOUNTS, Path::new(path)).as_deref(), Some(kind), "{path}");
            assert_eq!(is_network(kind), network, "{kind}");
        }
        assert!(!is_network("fuseblk"));
        assert_eq!(filesystem("", Path::new("/a")), None);
    }

    #[test]
    fn a_commit_waits_for_the_disk() {
        let dir = std::env::temp_dir().join(format!("spillway-local-{}", std::process::id()));
        let dir = prepare(&dir).expect("a directory");
        let format = Format { version: 1, schema: "", upgrades: &[] };
        for db in [open(&dir, "a.db", &format), reopen(&dir, "a.db"), open(&dir, "a.db", &format)] {
            let db = db.expect("a file");
            let pragma = |name: &str| -> String {
                let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
                db.query_row(&sql, [], |row| row.get(0)).expect(name)
            };
            assert_eq!(
                (pragma("journal_mode").as_str(), pragma("synchronous").as_str()),
                ("wal", "2")
            );
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn durations_round_up() {
        assert_eq!(millis(Duration::from_micros(1)), Millis(1));
        assert_eq!(millis(Duration::from_millis(7)), Millis(7));
        assert_eq!(millis(Duration::from_micros(7_001)), Millis(8));
        assert_eq!(millis(Duration::MAX), Millis::MAX);
    }
}
