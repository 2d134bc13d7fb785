//! The spool: large results wait on disk until they are stored, and so do request bodies for jobs.

use crate::message::body::Body;
use crate::room::{ByteBudget, BytesPermit};
use http_body_util::BodyExt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;

/// A larger result fails the job.
const RESULT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The names of our files begin so; the folder may be a shared `/tmp`.
const RESULT: &str = "spillway-result-";
const BODY: &str = "spillway-body-";
/// A file that was not written to for this long belongs to a killed process: a body takes
/// `job_timeout` at most (11 h), and storing it ten minutes.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);

/// The part of `--spool-size` that stays free, one in this many: a kubelet evicts the whole pod,
/// application included, when it finds a volume over its limit.
const FREE_PART: u64 = 10;

/// The folder of `--spool`.
pub struct Spool {
    folder: PathBuf,
    /// Whether the folder belongs to this process alone, because its size was given.
    is_own: bool,
    room: ByteBudget,
}

/// A complete body on disk. The file is removed when this is dropped, even when its job is
/// cancelled.
#[derive(Debug)]
pub struct Spooled {
    pub path: PathBuf,
    pub length: u64,
    /// An open file, which can be read even when a directory store has moved it away.
    pub file: File,
    _guard: Guard,
}

/// The file and its space, as long as somebody needs them.
#[derive(Debug)]
struct Guard {
    path: PathBuf,
    held: Option<BytesPermit>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A directory store may have moved it away.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A body that is being written to disk.
pub(super) struct Spooling {
    guard: Guard,
    file: tokio::fs::File,
    length: u64,
    room: ByteBudget,
}

impl Spool {
    /// `size` is the size of its volume in bytes, which nobody else uses then.
    pub fn new(folder: PathBuf, size: Option<u64>) -> Self {
        let bytes_max = size.map_or(u64::MAX, |size| size - size / FREE_PART);
        Self { folder, is_own: size.is_some(), room: ByteBudget::new(bytes_max) }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes files of killed processes.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn sweep(&self, now: SystemTime) -> io::Result<()> {
        let age = if self.is_own { Duration::ZERO } else { LEFT_BEHIND };
        sweep(&self.folder, now, age)
    }

    /// A new file for the body of a request.
    ///
    /// # Errors
    /// `spool-failed`
    pub(super) async fn body(&self) -> Result<Spooling, &'static str> {
        self.begin(BODY).await
    }

    /// Writes the body of an answer to a new file.
    ///
    /// # Errors
    /// `upstream-invalid` (the application broke off), `result-too-large`, `spool-full` (together
    /// with other files it would be), or `spool-failed`.
    pub(super) async fn write(&self, mut body: Body) -> Result<Spooled, &'static str> {
        let mut spooling = self.begin(RESULT).await?;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| "upstream-invalid")?.into_data() else { continue };
            if spooling.length + data.len() as u64 > RESULT_BYTES_MAX {
                return Err("result-too-large");
            }
            spooling.append(&data, Duration::ZERO).await?;
        }
        spooling.finish().await
    }

    /// A new file that nobody else may read.
    async fn begin(&self, prefix: &str) -> Result<Spooling, &'static str> {
        let name = crate::secrets::random_hex(16).map_err(failed)?;
        let path = self.folder.join(format!("{prefix}{name}"));
        let room = self.room.clone();
        // A file that was opened for a client that has disconnected meanwhile is removed as well.
        let opened = tokio::task::spawn_blocking(move || {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            let guard = Guard { path, held: None };
            Ok::<_, io::Error>(Spooling { guard, file: file.into(), length: 0, room })
        });
        opened.await.map_err(failed)?.map_err(failed)
    }
}

impl Spooling {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends data, if there is space within the time.
    ///
    /// # Errors
    /// `spool-full` (together with other files it would be) or `spool-failed`.
    pub(super) async fn append(
        &mut self,
        data: &[u8],
        within: Duration,
    ) -> Result<(), &'static str> {
        let length = data.len() as u64;
        let more = match self.room.try_take(length) {
            Some(more) => more,
            None => self.room.take(length, within).await.ok_or("spool-full")?,
        };
        match &mut self.guard.held {
            Some(held) => held.add(more),
            none => *none = Some(more),
        }
        self.length += length;
        self.file.write_all(data).await.map_err(failed)
    }

    /// Completes the file.
    ///
    /// # Errors
    /// `spool-failed`
    pub(super) async fn finish(mut self) -> Result<Spooled, &'static str> {
        self.file.flush().await.map_err(failed)?;
        let Self { guard, file, length, .. } = self;
        let file = file.into_std().await;
        Ok(Spooled { path: guard.path.clone(), length, file, _guard: guard })
    }
}

fn failed(error: impl std::fmt::Display) -> &'static str {
    tracing::warn!(%error, "could not write to the spool: is the disk of --spool full?");
    "spool-failed"
}

fn sweep(folder: &Path, now: SystemTime, left_behind: Duration) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if ![RESULT, BODY].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            continue;
        }
        let written = entry.metadata().and_then(|meta| meta.modified());
        let age = written.map(|written| now.duration_since(written).unwrap_or_default());
        // Of several processes that start at once, one removes it.
        if age.is_ok_and(|age| age >= left_behind) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("spillway-spool-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn count(folder: &Path) -> usize {
        std::fs::read_dir(folder).expect("a folder").count()
    }

    #[tokio::test]
    async fn a_spooled_result_is_private_and_gone_with_its_job() {
        let folder = folder("guard");
        let spool = Spool::new(folder.clone(), None);
        let spooled = spool.write(Body::full("a result")).await.expect("spooled");
        let meta = std::fs::metadata(&spooled.path).expect("a file");
        assert_eq!((spooled.length, meta.permissions().mode() & 0o777), (8, 0o600));
        drop(spooled);
        assert_eq!(count(&folder), 0);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[tokio::test]
    async fn a_tenth_of_the_volume_stays_free_whoever_fills_it() {
        let folder = folder("size");
        let spool = Spool::new(folder.clone(), Some(100));
        let first = spool.write(Body::full(vec![0; 60])).await.expect("room");
        let full = spool.write(Body::full(vec![0; 31])).await;
        assert_eq!(full.err(), Some("spool-full"));
        assert_eq!(count(&folder), 1, "what did not fit is gone");
        let second = spool.write(Body::full(vec![0; 30])).await.expect("the rest");
        drop((first, second));
        spool.write(Body::full(vec![0; 90])).await.expect("all of it");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_folder_of_our_own_is_empty_after_a_restart() {
        let folder = folder("own");
        for name in ["spillway-result-1", "spillway-body-1"] {
            std::fs::write(folder.join(name), "x").expect("written");
        }
        let later = SystemTime::now() + Duration::from_secs(1);
        Spool::new(folder.clone(), Some(100)).sweep(later).expect("swept");
        assert_eq!(count(&folder), 0);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_a_killed_process_left_behind_is_removed_and_nothing_else() {
        let folder = folder("sweep");
        for name in ["spillway-result-1", "somebody-elses"] {
            std::fs::write(folder.join(name), "x").expect("written");
        }
        let now = SystemTime::now();
        let spool = Spool::new(folder.clone(), None);
        spool.sweep(now).expect("swept");
        assert_eq!(count(&folder), 2);
        spool.sweep(now + LEFT_BEHIND + Duration::from_secs(60)).expect("swept");
        assert_eq!(count(&folder), 1);
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
