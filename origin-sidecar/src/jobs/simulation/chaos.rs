//! What befalls processes, queue and store while a schedule runs.

use super::log::{NOBODY, What};
use super::schedule::Stage;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The kinds of events; a schedule knows some of them only.
const KINDS: u64 = 7;

/// Lasts until the time given; then every process runs again.
pub(super) async fn run(stage: Arc<Stage>, until: u64) {
    let world = &stage.world;
    let (count, known) = world.draw(|rng| (rng.below(7), rng.next()));
    let mut ends = JoinSet::new();
    for _ in 0..count {
        let (pause, kind, seat) = world
            .draw(|rng| (rng.below(until / 3 + 1), rng.below(KINDS), rng.below(stage.seats_len())));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if world.now() >= until {
            break;
        }
        if known >> kind & 1 == 1 {
            happen(&stage, kind, usize::try_from(seat).unwrap_or(0), &mut ends);
        }
    }
    let rest = until.saturating_sub(world.now());
    tokio::time::sleep(Duration::from_millis(rest)).await;
    while ends.join_next().await.is_some() {}
}

fn happen(stage: &Arc<Stage>, kind: u64, seat: usize, ends: &mut JoinSet<()>) {
    let world = &stage.world;
    let process = stage.at(seat);
    let now = world.now();
    let ms = world.draw(|rng| rng.between(500, 40_000));
    match kind {
        0 => {
            let stage = Arc::clone(stage);
            let is_aimed = process.is_producer && stage.world.draw(|rng| rng.chance(700));
            ends.spawn(async move {
                if is_aimed {
                    in_the_middle(&stage).await;
                }
                process.crash();
                restart(stage, seat, ms / 2).await;
            });
        }
        1 => {
            let stage = Arc::clone(stage);
            ends.spawn(async move {
                process.drain(stage.grace).await;
                restart(stage, seat, 500).await;
            });
        }
        2 => {
            let by = world.draw(|rng| rng.between(1_000, 900_000)).cast_signed();
            let by = if world.draw(|rng| rng.chance(500)) { by } else { -by };
            world.note(process.link.process, What::Jumped { ms: by });
            let vitals = &mut world.state().processes[process.link.process];
            (vitals.offset, vitals.has_jumped) = (vitals.offset + by, true);
        }
        3 => {
            world.note(process.link.process, What::CutOff { ms });
            world.state().processes[process.link.process].cut_off_until = now + ms;
        }
        4 => {
            world.note(NOBODY, What::Outage { of: "queue", ms });
            world.state().queue_out_until = now + ms;
        }
        5 => {
            world.note(NOBODY, What::Outage { of: "app", ms });
            world.state().app_out_until = now + ms;
        }
        _ => {
            world.note(NOBODY, What::Outage { of: "store", ms });
            world.state().store_out_until = now + ms;
        }
    }
}

/// A moment when somebody is being answered, if one comes soon.
async fn in_the_middle(stage: &Stage) {
    const SOON: Duration = Duration::from_secs(20);
    let _ = tokio::time::timeout(SOON, stage.world.asked.notified()).await;
    let after = stage.world.draw(|rng| rng.below(40));
    tokio::time::sleep(Duration::from_millis(after)).await;
}

async fn restart(stage: Arc<Stage>, seat: usize, after: u64) {
    tokio::time::sleep(Duration::from_millis(after)).await;
    if !stage.at(seat).is_alive() {
        stage.restart(seat);
    }
}
