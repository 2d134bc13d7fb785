use super::*;
use crate::message::refused::Refused;
use http_body::Frame;
use http_body_util::StreamBody;
use std::path::PathBuf;
use tokio::time::sleep;

const MAX: u64 = 8 * 1024 * 1024;

/// A folder of one test, and the spool in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = format!("spillway-intake-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn spool(&self, size: Option<u64>) -> Spool {
        Spool::new(self.0.clone(), size)
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).expect("a folder").count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number % 251) as u8).collect()
}

/// A body without a length whose pieces come so long after each other.
fn pieces(whole: &[u8], size: usize, pause: Duration) -> Body {
    let pieces: Vec<Bytes> = whole.chunks(size).map(Bytes::copy_from_slice).collect();
    let frames = futures_util::stream::unfold(pieces.into_iter(), move |mut left| async move {
        let piece = left.next()?;
        sleep(pause).await;
        Some((Ok::<_, io::Error>(Frame::data(piece)), left))
    });
    Body::boxed(StreamBody::new(frames).boxed_unsync())
}

/// One that stops after its first piece.
fn stalled(first: Vec<u8>) -> Body {
    let frames =
        futures_util::stream::once(async { Ok::<_, io::Error>(Frame::data(first.into())) });
    let frames = futures_util::StreamExt::chain(frames, futures_util::stream::pending());
    Body::boxed(StreamBody::new(frames).boxed_unsync())
}

fn refusal(read: Result<Payload, NotRead>) -> Refused {
    read.expect_err("refused").refused("max", MAX)
}

#[tokio::test]
async fn a_body_is_the_same_byte_for_byte_however_it_comes_and_wherever_it_waits() {
    let folder = Folder::new("same");
    let (intake, spool) = (Intake::new(8 * 1024 * 1024), folder.spool(None));
    for size in [0, 1, 16 * 1024, 16 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, 3 * 1024 * 1024] {
        let whole = bytes(size);
        let body = pieces(&whole, 10_000, Duration::ZERO);
        let read = intake.read(&spool, body, MAX).await.expect("read");
        let is_large = size as u64 > BODY_BYTES_MAX;
        assert_eq!(
            (folder.files(), matches!(read, Payload::Spooled(_))),
            (usize::from(is_large), is_large)
        );
        for _ in 0..2 {
            let sent = read.body().expect("readable").collect().await.expect("sent").to_bytes();
            assert!(sent == whole && read.bytes().await.expect("readable") == whole, "{size}");
        }
        drop(read);
        assert_eq!(folder.files(), 0, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_holds_no_memory_and_its_small_body_comes_back_from_the_disk() {
    let folder = Folder::new("slow");
    let (intake, spool) = (Arc::new(Intake::new(256 * 1024)), Arc::new(folder.spool(None)));
    let all = intake.bodies.bytes();
    let reading = {
        let (intake, spool) = (Arc::clone(&intake), Arc::clone(&spool));
        tokio::spawn(async move {
            let body = pieces(&bytes(1000), 100, Duration::from_millis(300));
            intake.read(&spool, body, MAX).await
        })
    };
    sleep(Duration::from_millis(350)).await;
    assert!(intake.bodies.try_take(all).is_none(), "its first bytes are in memory");
    // Held until it has come to its end: it waits on the disk then.
    let others = intake.bodies.take(all, ROOM_WAIT).await.expect("it left");
    let read = reading.await.expect("no panic").expect("read");
    assert!(matches!(read, Payload::Spooled(_)), "there was no room to come back to");
    drop(others);
    let body = pieces(&bytes(1000), 100, Duration::from_millis(300));
    let again = intake.read(&spool, body, MAX).await.expect("read");
    assert!(matches!(&again, Payload::Memory(body) if *body == bytes(1000)));
    drop(read);
    assert_eq!(folder.files(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_finds_no_room_for_five_seconds_is_refused_by_name() {
    let folder = Folder::new("room");
    let (intake, spool) = (Intake::new(64 * 1024), folder.spool(Some(400_000)));
    let taken = intake.bodies.try_take(40 * 1024);
    let began = Instant::now();
    let first = intake.read(&spool, pieces(&bytes(3000), 3000, Duration::ZERO), MAX).await;
    assert_eq!(refusal(first), Refused::new(Problem::NoRoom, "no-memory; nothing is started"));
    assert_eq!(began.elapsed().as_secs(), 5);
    drop(taken);
    let began = Instant::now();
    let large = intake.read(&spool, pieces(&bytes(400_000), 300_000, Duration::ZERO), MAX).await;
    assert_eq!(refusal(large), Refused::new(Problem::NoRoom, "spool-full; nothing is started"));
    assert_eq!((began.elapsed().as_secs(), folder.files()), (5, 0));
    intake.read(&spool, pieces(&bytes(300_000), 300_000, Duration::ZERO), MAX).await.expect("room");
}

#[tokio::test]
async fn a_body_that_is_too_large_or_whose_client_leaves_keeps_nothing() {
    let folder = Folder::new("left");
    let (intake, spool) = (Intake::new(1024 * 1024), folder.spool(Some(1024 * 1024)));
    let large = intake.read(&spool, pieces(&bytes(600_000), 60_000, Duration::ZERO), 500_000).await;
    assert_eq!(refusal(large).problem, Problem::BodyTooLarge);
    for first in [bytes(1000), bytes(300_000)] {
        let mut reading = Box::pin(intake.read(&spool, stalled(first), MAX));
        let left = tokio::time::timeout(Duration::from_millis(50), &mut reading).await;
        assert!(left.is_err());
    }
    assert_eq!(folder.files(), 0);
    assert!(intake.bodies.try_take(intake.bodies.bytes()).is_some(), "all of the memory is free");
    let all = pieces(&bytes(900_000), 300_000, Duration::ZERO);
    intake.read(&spool, all, MAX).await.expect("all of the spool is free");
}
