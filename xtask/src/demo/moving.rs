//! A line of the story: a range of instruments moves to another shard, and back, while ticks are written.

use super::step::{Answer, Client, Table};
use super::world::World;
use crate::setup::Result;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The instruments that move: what both applications could serve, from the first up to the second.
pub(super) const MOVING: (u32, u32) = (9_001, 10_001);
/// Clients that write ticks meanwhile, and the pause between two ticks of one.
const WRITERS: u32 = 4;
const PACE: Duration = Duration::from_millis(20);

/// Ticks that were written while the range moved.
#[derive(Default)]
struct Ticks {
    is_over: AtomicBool,
    kept: AtomicU64,
    failed: AtomicU64,
}

impl Ticks {
    /// Writes ticks for one instrument until it is over.
    fn write(&self, edge: &str, instrument: u32) {
        let edge = Client::new(edge.to_owned());
        let body = format!(r#"{{"instrument_id": {instrument}, "price": 123.5}}"#);
        let json = [("content-type", "application/json")];
        while !self.is_over.load(Ordering::Relaxed) {
            let answer = edge.send("POST", "/api/ticks", &json, &body);
            let count =
                if answer.is_ok_and(|it| it.status == 201) { &self.kept } else { &self.failed };
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PACE);
        }
    }
}

/// Moves the range there and back.
pub(super) fn tell(world: &World, edge: &Client, table: &mut Table) -> Result<()> {
    let ticks = Ticks::default();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (ticks, edge) = (&ticks, &edge.base);
            scope.spawn(move || ticks.write(edge, MOVING.0 + writer));
        }
        let turn = |(source, target)| -> Result<()> {
            let pause = moved(world, source, target)?;
            let answer = served_by(world, edge, target)?;
            let what = format!(
                "instruments {} to {} from shard {source} to {target}: their writes waited {:.1} s at most",
                MOVING.0,
                MOVING.1 - 1,
                pause.as_secs_f64()
            );
            table.line(answer.status == 200, "a range moves under load", &answer, &what);
            Ok(())
        };
        let told = [("a", "b"), ("b", "a")].into_iter().try_for_each(turn);
        ticks.is_over.store(true, Ordering::Relaxed);
        told
    })?;
    let (kept, failed) = (ticks.kept.into_inner(), ticks.failed.into_inner());
    let found =
        (0..WRITERS).map(|writer| world.ticks("a", MOVING.0 + writer)).sum::<Result<u64>>()?;
    let answer = edge.get(&format!("/api/prices/{}", MOVING.0))?;
    let what =
        format!("{kept} written, {failed} refused; {found} lie on shard a again, none was lost");
    table.line(failed == 0 && found == kept, "the ticks of these instruments", &answer, &what);
    Ok(())
}

/// One move, with the data copied while writes wait; how long they may have waited.
fn moved(world: &World, source: &str, target: &str) -> Result<Duration> {
    let range = format!("{}..{}", MOVING.0, MOVING.1);
    world.shards(&["announce", "market_data", "--range", &range, "--to", target, "--yes"])?;
    let began = Instant::now();
    world.shards(&["fence", "market_data", "--yes"])?;
    world.move_ticks(source, target, MOVING)?;
    world.shards(&["commit", "market_data", "--yes"])?;
    Ok(began.elapsed())
}

/// A price of the range, once its new owner has answered: a stored answer may be a second old.
fn served_by(world: &World, edge: &Client, target: &str) -> Result<Answer> {
    let owner = world.shards(&["--json", "lookup", "market_data", &MOVING.0.to_string()])?;
    if !owner.contains(&format!("\"shard\":\"{target}\"")) {
        return Err(format!("the map does not say that {target} owns the range: {owner}"));
    }
    edge.get(&format!("/api/prices/{}", MOVING.0))
}
