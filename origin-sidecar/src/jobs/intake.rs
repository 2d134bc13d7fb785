//! Reads request bodies for jobs. Their total memory is bounded; larger and slower bodies go to the
//! spool.

use super::payload::Payload;
use super::spool::{Spool, Spooled, Spooling};
use crate::cgroup;
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::room::{ByteBudget, BytesPermit};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use rules::Problem;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The most memory of a process for bodies, in bytes.
const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The part of the process's memory limit that bodies may use: one in this many.
const MEMORY_PART: u64 = 4;
/// The part of that memory for building and sending messages, each of which is a copy: one in this
/// many.
const MESSAGES_PART: u64 = 4;
/// A body larger than this goes to the spool.
const BODY_BYTES_MAX: u64 = 256 * 1024;
/// Bytes reserved at first for a body of unknown length; the reservation doubles each time.
const UNKNOWN_BYTES_MIN: u64 = 16 * 1024;
/// A body that is incomplete this long after its first bytes goes to the spool: slow clients hold
/// no memory.
const UNHURRIED: Duration = Duration::from_secs(1);
/// How long a body waits for memory or spool.
pub(super) const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Memory and spool for bodies.
pub struct Intake {
    bodies: ByteBudget,
    /// Memory for building and sending messages.
    messages: ByteBudget,
}

impl Default for Intake {
    /// Sized by the memory limit of this process.
    fn default() -> Self {
        let part = cgroup::memory_max().map_or(u64::MAX, |max| max / MEMORY_PART);
        Self::new(part.min(MEMORY_BYTES_MAX))
    }
}

/// The reason when there is no memory for a body.
pub(super) const NO_MEMORY: &str = "no-memory";
/// The reason when the file of a body can't be written or read.
pub(super) const SPOOL_FAILED: &str = "spool-failed";

/// Why a body could not be read.
#[derive(Debug)]
pub enum NotRead {
    TooLarge,
    /// The client broke it off.
    Broken(io::Error),
    /// There is no room: `no-memory`, `spool-full` or `spool-failed`.
    NoRoom(&'static str),
}

impl NotRead {
    pub fn unreadable(error: &io::Error) -> Self {
        tracing::warn!(%error, "could not read the spool");
        Self::NoRoom(SPOOL_FAILED)
    }

    /// The refusal for the client. `limit` is the key of the rules file that limits the size to
    /// `bytes`.
    pub fn refused(self, limit: &str, bytes: u64) -> Refused {
        match self {
            Self::TooLarge => Refused::new(
                Problem::BodyTooLarge,
                format!("{bytes} bytes are taken here ({limit})"),
            ),
            Self::Broken(error) => Refused::new(Problem::BadRequest, error.to_string()),
            Self::NoRoom(name) => {
                Refused::new(Problem::NoRoom, format!("{name}; nothing is started"))
            }
        }
    }
}

impl Intake {
    /// An intake with this many bytes of memory.
    pub fn new(bytes: u64) -> Self {
        let messages = bytes / MESSAGES_PART;
        Self { bodies: ByteBudget::new(bytes - messages), messages: ByteBudget::new(messages) }
    }

    /// Reads a body of up to `max` bytes.
    ///
    /// # Errors
    /// It is larger, breaks off, or there is no room in time.
    pub async fn read(&self, spool: &Spool, body: Body, max: u64) -> Result<Payload, NotRead> {
        if body.size_hint().lower() > max {
            return Err(NotRead::TooLarge);
        }
        let mut body = match body.into_full() {
            // The body was read before to find the shard key; that reader accounts for its memory.
            Ok(bytes) => return Ok(Payload::Memory(bytes)),
            Err(body) => body,
        };
        let mut reading = Reading::of(self, spool, body.size_hint().exact());
        loop {
            let frame = match reading.until() {
                None => body.frame().await,
                Some(until) => match timeout_at(until, body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) => {
                        reading.spill().await.map_err(NotRead::NoRoom)?;
                        continue;
                    }
                },
            };
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(NotRead::Broken)?.into_data() else { continue };
            if reading.length() + data.len() as u64 > max {
                return Err(NotRead::TooLarge);
            }
            if body.is_end_stream() && reading.may_be_whole(&data) {
                // A body that arrived in one piece is not copied.
                return self.hold(data).await.ok_or(NotRead::NoRoom(NO_MEMORY));
            }
            reading.take(&data).await.map_err(NotRead::NoRoom)?;
        }
        reading.finish().await
    }

    /// Reserves memory for bytes that are optional.
    pub(super) fn try_hold(&self, bytes: u64) -> Option<BytesPermit> {
        self.bodies.try_take(bytes)
    }

    /// Reserves memory for copies of data that was already read. A request for more than there is
    /// gets all of it, one at a time.
    pub(super) async fn copying(&self, bytes: u64, within: Duration) -> Option<BytesPermit> {
        self.messages.take(bytes.min(self.messages.bytes()), within).await
    }

    /// The bytes of a body, and the permit for the memory that they use.
    ///
    /// # Errors
    /// There is no memory in time, or the file can't be read.
    pub async fn open(&self, body: &Payload) -> Result<(Bytes, Option<BytesPermit>), NotRead> {
        let held = match body {
            Payload::Memory(_) => None,
            Payload::Spooled(spooled) => {
                let held = self.copying(spooled.length, ROOM_WAIT).await;
                Some(held.ok_or(NotRead::NoRoom(NO_MEMORY))?)
            }
        };
        let bytes = body.bytes().await.map_err(|error| NotRead::unreadable(&error))?;
        Ok((bytes, held))
    }

    async fn hold(&self, data: Bytes) -> Option<Payload> {
        let held = self.bodies.take(data.len() as u64, ROOM_WAIT).await?;
        Some(Payload::Memory(held.around(data)))
    }

    /// Moves a spooled body into memory, if it is small and there is room at once.
    async fn load(&self, spooled: Spooled) -> Result<Payload, NotRead> {
        let length = spooled.length;
        let payload = Payload::Spooled(Arc::new(spooled));
        let held = Some(length).filter(|length| *length <= BODY_BYTES_MAX);
        match held.and_then(|length| self.bodies.try_take(length)) {
            None => Ok(payload),
            Some(held) => {
                let bytes = payload.bytes().await.map_err(|error| NotRead::unreadable(&error))?;
                Ok(Payload::Memory(held.around(bytes)))
            }
        }
    }
}

/// A body that is being read.
struct Reading<'a> {
    intake: &'a Intake,
    spool: &'a Spool,
    /// Its length, where the client stated it.
    said: Option<u64>,
    kept: BufferedBody,
}

enum BufferedBody {
    Nothing,
    Memory {
        bytes: BytesMut,
        room: u64,
        held: BytesPermit,
        /// When it is moved to the spool.
        until: Instant,
    },
    Spooled(Spooling),
}

impl<'a> Reading<'a> {
    fn of(intake: &'a Intake, spool: &'a Spool, said: Option<u64>) -> Self {
        Self { intake, spool, said, kept: BufferedBody::Nothing }
    }

    fn length(&self) -> u64 {
        match &self.kept {
            BufferedBody::Nothing => 0,
            BufferedBody::Memory { bytes, .. } => bytes.len() as u64,
            BufferedBody::Spooled(spooling) => spooling.length(),
        }
    }

    fn until(&self) -> Option<Instant> {
        match &self.kept {
            BufferedBody::Memory { until, .. } => Some(*until),
            BufferedBody::Nothing | BufferedBody::Spooled(_) => None,
        }
    }

    fn may_be_whole(&self, data: &Bytes) -> bool {
        matches!(self.kept, BufferedBody::Nothing) && data.len() as u64 <= BODY_BYTES_MAX
    }

    async fn take(&mut self, data: &[u8]) -> Result<(), &'static str> {
        let needed = self.length() + data.len() as u64;
        if matches!(self.kept, BufferedBody::Nothing) {
            self.begin(needed).await?;
        }
        if !self.fits(needed) {
            self.spill().await?;
        }
        match &mut self.kept {
            BufferedBody::Nothing => {}
            BufferedBody::Memory { bytes, .. } => bytes.extend_from_slice(data),
            BufferedBody::Spooled(spooling) => spooling.append(data, ROOM_WAIT).await?,
        }
        Ok(())
    }

    /// Reserves memory for the first bytes, or for all where the length is known.
    async fn begin(&mut self, needed: u64) -> Result<(), &'static str> {
        let room = self.said.unwrap_or(UNKNOWN_BYTES_MIN).max(needed);
        if room > BODY_BYTES_MAX {
            return self.spill().await;
        }
        let held = self.intake.bodies.take(room, ROOM_WAIT).await.ok_or(NO_MEMORY)?;
        let bytes = BytesMut::with_capacity(usize::try_from(room).unwrap_or_default());
        self.kept = BufferedBody::Memory { bytes, room, held, until: Instant::now() + UNHURRIED };
        Ok(())
    }

    /// Whether this many bytes may be in memory. A body that holds memory does not wait for more,
    /// so that nobody who waits blocks others.
    fn fits(&mut self, needed: u64) -> bool {
        let BufferedBody::Memory { bytes, room, held, .. } = &mut self.kept else { return true };
        if needed <= *room {
            return true;
        }
        if needed > BODY_BYTES_MAX {
            return false;
        }
        let more = (*room * 2).max(needed).min(BODY_BYTES_MAX) - *room;
        let Some(taken) = self.intake.bodies.try_take(more) else { return false };
        held.add(taken);
        *room += more;
        bytes.reserve(usize::try_from(*room).unwrap_or_default().saturating_sub(bytes.len()));
        true
    }

    async fn spill(&mut self) -> Result<(), &'static str> {
        let mut spooling = self.spool.body().await?;
        if let BufferedBody::Memory { bytes, .. } = &self.kept {
            spooling.append(bytes, ROOM_WAIT).await?;
        }
        self.kept = BufferedBody::Spooled(spooling);
        Ok(())
    }

    async fn finish(self) -> Result<Payload, NotRead> {
        match self.kept {
            BufferedBody::Nothing => Ok(Payload::Memory(Bytes::new())),
            BufferedBody::Memory { bytes, held, .. } => {
                Ok(Payload::Memory(held.around(bytes.freeze())))
            }
            BufferedBody::Spooled(spooling) => {
                let spooled = spooling.finish().await.map_err(NotRead::NoRoom)?;
                self.intake.load(spooled).await
            }
        }
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
