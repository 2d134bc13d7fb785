//! The results in a directory of this node: rows in SQLite decide, large bodies are files. A body's
//! file is synced before the row that names it commits, and is removed after the row that named it
//! is gone: a crash leaves at most a file that no row names, which the next open sweeps away.

mod rows;
mod work;

use super::file_body::file_body;
use super::{Condition, Listed, Object, PutError, Results, StoreError, key};
use crate::local::group::{Fault, Writer};
use crate::local::{self, Anchor, error_name};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use net::boxed::Boxed;
use rows::{Found, Place, Written};
use rusqlite::Connection;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use work::{ResultsCommand, ResultsReply, ResultsWork};

const FILE: &str = "results.db";

/// Bodies of up to so many bytes are kept in the row, which takes one sync instead of three. SQLite is faster
/// than files below about 100 KiB; a smaller limit keeps the log small.
const INLINE_BYTES_MAX: usize = 16 << 10;

/// How often a read looks again when the body that it was about to open has just been replaced. For each
/// round another write must fall between two system calls.
const READ_ATTEMPTS: usize = 8;

/// The results in a directory. The names of its errors are `key-illegal`, `range`, `busy`, `disk-full`,
/// `corrupt`, `denied`, `store-failed`, `queue-full`, `closed`.
pub struct DirResults {
    shared: Arc<Shared>,
}

struct Shared {
    objects: PathBuf,
    writer: Writer<ResultsWork>,
    /// Connections for reads, which must not wait for a sync.
    reader: Mutex<Connection>,
    /// A lock that is held as long as this process may write files that no row names yet.
    _in_use: File,
    anchor: Anchor,
}

impl DirResults {
    /// Opens or creates the store in `dir`.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let dir = local::prepare(dir)?;
        let writer = local::open(&dir, FILE, &rows::FORMAT)?;
        let reader = local::reopen(&dir, FILE)?;
        let objects = dir.join("objects");
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", objects.display());
        std::fs::create_dir_all(&objects).map_err(|error| fault(&error))?;
        local::sync_dir(&dir).map_err(|error| fault(&error))?;
        let in_use = File::create(dir.join("in-use.lock")).map_err(|error| fault(&error))?;
        match in_use.try_lock() {
            // No other process has the store open, so a file without a row belongs to nobody.
            Ok(()) => sweep(&objects, &reader).map_err(|error| fault(&error))?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(fault(&error)),
        }
        in_use.lock_shared().map_err(|error| fault(&error))?;
        let writer = Writer::start(writer, ResultsWork)?;
        let reader = Mutex::new(reader);
        let anchor = Anchor::of(&dir, FILE)?;
        Ok(Self { shared: Arc::new(Shared { objects, writer, reader, _in_use: in_use, anchor }) })
    }

    /// Runs blocking work outside the runtime, which has one thread per core.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shared.clone().run(work).await
    }

    /// A task of its own completes the write when its caller leaves, so that no file stays behind.
    async fn write(
        &self,
        key: &str,
        body: Source,
        condition: Condition,
    ) -> Result<String, PutError> {
        key::check(key).map_err(PutError::Failed)?;
        let (shared, key) = (self.shared.clone(), key.to_owned());
        let written = tokio::spawn(shared.put(key, body, condition)).await;
        let written = written.map_err(|error| PutError::Failed(closed(&error)))?;
        match written.map_err(PutError::Failed)? {
            Written::Yes { etag, .. } => Ok(etag),
            Written::Precondition => Err(PutError::Precondition),
        }
    }

    async fn erase(&self, key: &str) -> Result<(), StoreError> {
        key::check(key)?;
        let (shared, key) = (self.shared.clone(), key.to_owned());
        tokio::spawn(shared.delete(key)).await.map_err(|error| closed(&error))?
    }

    async fn read(
        &self,
        key: &str,
        range: Option<(u64, u64)>,
    ) -> Result<Option<Object>, StoreError> {
        key::check(key)?;
        let key = key.to_owned();
        let Some((found, file)) = self.run(move |shared| shared.open(&key)).await? else {
            return Ok(None);
        };
        let (first, count) = span(range, found.length)?;
        let body = match (found.place, file) {
            (Place::Inline(bytes), _) => {
                let bytes = Bytes::from(bytes).slice(offset(first)?..offset(first + count)?);
                Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
            }
            (Place::File(_), Some(mut file)) => {
                file.seek(SeekFrom::Start(first)).map_err(|error| io(&error))?;
                file_body(file.into(), count)
            }
            (Place::File(name), None) => return Err(failed(&format!("{name} was not opened"))),
        };
        Ok(Some(Object { etag: found.etag, length: found.length, body }))
    }
}

/// A body that is to be written.
enum Source {
    Bytes(Bytes),
    File(PathBuf),
}

impl Shared {
    async fn run<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        tokio::task::spawn_blocking(move || work(&self)).await.map_err(|error| closed(&error))?
    }

    async fn put(
        self: Arc<Self>,
        key: String,
        body: Source,
        condition: Condition,
    ) -> Result<Written, StoreError> {
        let (length, place) = match body {
            Source::Bytes(bytes) if bytes.len() <= INLINE_BYTES_MAX => {
                (bytes.len() as u64, Place::Inline(bytes.into()))
            }
            body => self.clone().run(|shared| shared.store(body)).await?,
        };
        let own = match &place {
            Place::Inline(_) => None,
            Place::File(name) => Some(name.clone()),
        };
        // After an error the commit may have happened all the same; the sweep of the next start will find
        // out.
        let outcome =
            self.writer.run(ResultsCommand::Put { key, length, place, condition }).await?;
        let ResultsReply::Put(written) = outcome else { return Err(unexpected()) };
        let unused = match &written {
            Written::Yes { replaced, .. } => replaced.clone(),
            Written::Precondition => own,
        };
        self.discard(unused).await;
        Ok(written)
    }

    async fn delete(self: Arc<Self>, key: String) -> Result<(), StoreError> {
        let outcome = self.writer.run(ResultsCommand::Delete { key }).await?;
        let ResultsReply::Deleted(file) = outcome else { return Err(unexpected()) };
        self.discard(file).await;
        Ok(())
    }

    async fn discard(self: Arc<Self>, name: Option<String>) {
        let Some(name) = name else { return };
        let remove = move |shared: &Self| {
            shared.remove(&name);
            Ok(())
        };
        // The error does not matter: what is not removed now is swept later.
        let _ = self.run(remove).await;
    }

    /// Writes the body to a durable file, which no row names yet.
    fn store(&self, body: Source) -> Result<(u64, Place), StoreError> {
        let name = rows::unique(&lock(&self.reader)).map_err(|error| database(&error))?;
        let target = self.objects.join(&name);
        let length = match body {
            // No reader can see the file before its row, so it needs no temporary name.
            Source::Bytes(bytes) => File::create_new(&target)
                .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
                .map(|()| bytes.len() as u64),
            Source::File(path) => adopt(&path, &target),
        };
        let length = length.and_then(|length| local::sync_dir(&self.objects).map(|()| length));
        match length {
            Ok(length) => Ok((length, Place::File(name))),
            Err(error) => {
                self.remove(&name);
                Err(io(&error))
            }
        }
    }

    /// Reads the row and opens its file; from then on a replacement does not matter.
    fn open(&self, key: &str) -> Result<Option<(Found, Option<File>)>, StoreError> {
        for _ in 0..READ_ATTEMPTS {
            let found = rows::find(&lock(&self.reader), key).map_err(|error| database(&error))?;
            let Some(found) = found else { return Ok(None) };
            let Place::File(name) = &found.place else { return Ok(Some((found, None))) };
            match File::open(self.objects.join(name)) {
                Ok(file) => return Ok(Some((found, Some(file)))),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(io(&error)),
            }
        }
        Err(StoreError { name: "corrupt", detail: format!("the file of {key} is missing") })
    }

    fn remove(&self, name: &str) {
        if let Err(error) = std::fs::remove_file(self.objects.join(name)) {
            // A file that stays costs space until the next start sweeps, nothing else.
            tracing::debug!(%name, %error, "an unused body was not removed");
        }
    }
}

/// Moves or copies a spooled file to its place, synced. Returns its length.
fn adopt(source: &Path, target: &Path) -> std::io::Result<u64> {
    match std::fs::rename(source, target) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            std::fs::copy(source, target)?;
        }
        moved => moved?,
    }
    let file = File::open(target)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Removes the files that no row names.
fn sweep(objects: &Path, db: &Connection) -> Result<(), Box<dyn std::error::Error>> {
    let named = rows::files(db)?;
    for entry in std::fs::read_dir(objects)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| named.contains(name)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The first byte and the number of bytes of a range.
fn span(range: Option<(u64, u64)>, length: u64) -> Result<(u64, u64), StoreError> {
    match range {
        None => Ok((0, length)),
        Some((first, last)) if first <= last && last < length => Ok((first, last - first + 1)),
        Some((first, last)) => {
            Err(StoreError { name: "range", detail: format!("bytes {first}-{last} of {length}") })
        }
    }
}

fn offset(bytes: u64) -> Result<usize, StoreError> {
    usize::try_from(bytes).map_err(|error| failed(&error))
}

fn lock(connection: &Mutex<Connection>) -> std::sync::MutexGuard<'_, Connection> {
    // A panic has rolled its transaction back; the connection itself is sound.
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<Fault> for StoreError {
    fn from(Fault { name, detail }: Fault) -> Self {
        Self { name, detail }
    }
}

fn unexpected() -> StoreError {
    failed(&"the writer answered another order")
}

fn closed(error: &tokio::task::JoinError) -> StoreError {
    StoreError { name: "closed", detail: error.to_string() }
}

fn database(error: &rusqlite::Error) -> StoreError {
    StoreError { name: error_name(error), detail: error.to_string() }
}

fn io(error: &std::io::Error) -> StoreError {
    let name = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "disk-full",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "denied",
        _ => "store-failed",
    };
    StoreError { name, detail: error.to_string() }
}

fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError { name: "store-failed", detail: error.to_string() }
}

impl Results for DirResults {
    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>> {
        Box::pin(self.write(key, Source::Bytes(body), condition))
    }

    fn put_file<'a>(
        &'a self,
        key: &'a str,
        path: &'a Path,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>> {
        Box::pin(self.write(key, Source::File(path.to_owned()), condition))
    }

    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<(u64, u64)>,
    ) -> Boxed<'a, Result<Option<Object>, StoreError>> {
        Box::pin(self.read(key, range))
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(String, u64)>, StoreError>> {
        Box::pin(async move {
            key::check(key)?;
            let key = key.to_owned();
            self.run(move |shared| {
                rows::head(&lock(&shared.reader), &key).map_err(|error| database(&error))
            })
            .await
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), StoreError>> {
        Box::pin(self.erase(key))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        max: usize,
    ) -> Boxed<'a, Result<Vec<Listed>, StoreError>> {
        Box::pin(async move {
            key::check_prefix(prefix)?;
            let (prefix, after) = (prefix.to_owned(), after.to_owned());
            self.run(move |shared| {
                let listed = rows::list(&lock(&shared.reader), &prefix, &after, max);
                listed.map_err(|error| database(&error))
            })
            .await
        })
    }

    fn signed_url<'a>(
        &'a self,
        _: &'a str,
        _: Duration,
        _: &'a [(String, String)],
    ) -> Boxed<'a, Result<Option<String>, StoreError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn keeps_for_good(&self) -> bool {
        true
    }

    fn stands(&self) -> bool {
        self.shared.anchor.stands()
    }

    fn bucket(&self) -> &str {
        "local"
    }
}
