//! The body of a job's request: in memory, or in a file of the spool.

use super::spool::Spooled;
use crate::message::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use stores::results::file_body::file_body;

/// Bytes that are read from a file at once.
const CHUNK_BYTES: usize = 128 << 10;

/// A complete body.
#[derive(Debug, Clone)]
pub enum Payload {
    Memory(Bytes),
    Spooled(Arc<Spooled>),
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

impl Payload {
    /// The length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Spooled(spooled) => spooled.length,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.length() == 0
    }

    /// The bytes. The caller has reserved memory for them.
    ///
    /// # Errors
    /// The spool can't be read.
    pub async fn bytes(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::Spooled(spooled) => {
                let length = usize::try_from(spooled.length).map_err(io::Error::other)?;
                let whole = self.read(move |reader| {
                    let mut bytes = Vec::with_capacity(length);
                    reader.read_to_end(&mut bytes).map(|_| bytes)
                });
                Ok(whole.await??.into())
            }
        }
    }

    /// The SHA-256 of the body.
    ///
    /// # Errors
    /// The spool can't be read.
    pub async fn sha256(&self) -> io::Result<[u8; 32]> {
        let hashed = self.read(|body| {
            let mut hash = Sha256::new();
            io::copy(body, &mut Hashing(&mut hash)).map(|_| hash)
        });
        Ok(hashed.await??.finalize().into())
    }

    /// Runs a reader over the body from its beginning; on a blocking thread where it is on disk.
    ///
    /// # Errors
    /// Reading could not begin.
    pub async fn read<T: Send + 'static>(
        &self,
        with: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Memory(bytes) => Ok(with(&mut bytes.as_ref())),
            Self::Spooled(spooled) => {
                let reader = FromStart { spooled: Arc::clone(spooled), at: 0 };
                let mut reader = BufReader::with_capacity(CHUNK_BYTES, reader);
                let reading = tokio::task::spawn_blocking(move || with(&mut reader));
                reading.await.map_err(io::Error::other)
            }
        }
    }

    /// The payload as a body to send. A spooled one can be sent only once at a time.
    ///
    /// # Errors
    /// The spool can't be read.
    pub fn body(&self) -> io::Result<Body> {
        Ok(match self {
            Self::Memory(bytes) if bytes.is_empty() => Body::empty(),
            Self::Memory(bytes) => Body::full(bytes.clone()),
            Self::Spooled(spooled) => {
                let mut file = spooled.file.try_clone()?;
                file.seek(SeekFrom::Start(0))?;
                let body = file_body(file.into(), spooled.length);
                // The file and its space are needed until the last byte is sent.
                let spooled = Arc::clone(spooled);
                Body::boxed(
                    body.map_frame(move |frame| {
                        let _needed = &spooled;
                        frame
                    })
                    .boxed_unsync(),
                )
            }
        })
    }
}

/// A writer that hashes what is written.
struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is read from its beginning, independently of other readers.
struct FromStart {
    spooled: Arc<Spooled>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.spooled.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
