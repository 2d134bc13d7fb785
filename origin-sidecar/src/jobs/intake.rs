//! Bodies of requests on their way into a job. What they may hold of memory is bounded in sum; what is
//! larger, or slow to come, waits in the spool.

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

/// Memory of a process for bodies, in bytes, however much there is.
const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// And never more than one part in so many of what the process may have.
const MEMORY_PART: u64 = 4;
/// Of that, one part in so many is for messages while they are made and sent: each is a copy.
const MESSAGES_PART: u64 = 4;
/// A body larger than this goes to the spool.
const BODY_BYTES_MAX: u64 = 256 * 1024;
/// Room that is made at first for a body without a length; then twice as much each time.
const UNKNOWN_BYTES_MIN: u64 = 16 * 1024;
/// A body that is not all there so long after its first bytes goes to the spool: slow clients hold no
/// memory.
const UNHURRIED: Duration = Duration::from_secs(1);
/// How long a body waits for room.
pub(super) const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Where bodies find room.
pub struct Intake {
    bodies: ByteBudget,
    /// For messages while they are made and sent.
    messages: ByteBudget,
}

impl Default for Intake {
    /// Of what this process may have.
    fn default() -> Self {
        let part = cgroup::memory_max().map_or(u64::MAX, |max| max / MEMORY_PART);
        Self::new(part.min(MEMORY_BYTES_MAX))
    }
}

/// What a body that finds no room in memory is refused for.
pub(super) const NO_MEMORY: &str = "no-memory";
/// … and one whose file can't be written or read.
pub(super) const SPOOL_FAILED: &str = "spool-failed";

/// Why there is no body.
#[derive(Debug)]
pub enum NotRead {
    TooLarge,
    /// The client broke it off.
    Broken(io::Error),
    /// `no-memory`, `spool-full` or `spool-failed`.
    NoRoom(&'static str),
}

impl NotRead {
    pub fn unreadable(error: &io::Error) -> Self {
        tracing::warn!(%error, "could not read the spool");
        Self::NoRoom(SPOOL_FAILED)
    }

    /// `limit` is the key of the rules file that says how large the body may be.
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
    /// With so many bytes of memory in all.
    pub fn new(bytes: u64) -> Self {
        let messages = bytes / MESSAGES_PART;
        Self { bodies: ByteBudget::new(bytes - messages), messages: ByteBudget::new(messages) }
    }

    /// Reads a body of up to `max` bytes.
    ///
    /// # Errors
    /// When it is larger, breaks off, or finds no room in time.
    pub async fn read(&self, spool: &Spool, mut body: Body, max: u64) -> Result<Payload, NotRead> {
        if body.size_hint().lower() > max {
            return Err(NotRead::TooLarge);
        }
        if let Body::Full(Some(bytes)) = body {
            // Read before, to find a shard's key in it: whoever has it has room for it.
            return Ok(Payload::Memory(bytes));
        }
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
                // A body that came in one piece is not copied.
                return self.hold(data).await.ok_or(NotRead::NoRoom(NO_MEMORY));
            }
            reading.take(&data).await.map_err(NotRead::NoRoom)?;
        }
        reading.finish().await
    }

    /// Room for bytes that could be done without.
    pub(super) fn try_hold(&self, bytes: u64) -> Option<BytesPermit> {
        self.bodies.try_take(bytes)
    }

    /// Room for copies of what is read already. Those that need more than there is take all of it, one
    /// after the other.
    pub(super) async fn copying(&self, bytes: u64, within: Duration) -> Option<BytesPermit> {
        self.messages.take(bytes.min(self.messages.bytes()), within).await
    }

    /// The bytes of a body, wherever they are, and the room that they take for so long.
    ///
    /// # Errors
    /// When they find none in time, or can't be read.
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

    /// The same body in memory, if it is small and there is room at once.
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
    /// Its length, if it was said.
    said: Option<u64>,
    kept: BufferedBody,
}

enum BufferedBody {
    Nothing,
    Memory {
        bytes: BytesMut,
        room: u64,
        held: BytesPermit,
        /// When it goes to the spool.
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

    /// Makes room for the first bytes, and for all if it was said how many there are.
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

    /// Whether so many bytes may be in memory. One that has room does not wait for more of it: nobody
    /// who waits keeps others waiting.
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
