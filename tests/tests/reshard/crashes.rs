//! Servers that crash and networks that are cut while a range moves: the run says so, and whoever goes on ends the move.

use crate::clients::Strays;
use crate::world::{MOVED, World};
use support::{Database, Postgres, eventually};

/// A crash must lose all that nobody has waited for: until then it lies in the server's memory. What was waited for is
/// with the system, which does not crash: `fsync` would change nothing but the time that each start takes.
const FORGETFUL: &str = "wal_writer_delay = 10s";

struct Servers {
    source: Postgres,
    target: Postgres,
}

impl Servers {
    fn start(settings: &[&str]) -> Self {
        let settings = [&[FORGETFUL], settings].concat();
        Self { source: Postgres::start(&settings), target: Postgres::start_taker(&settings) }
    }

    async fn world(&self) -> World {
        World::between(&self.source, &self.target).await
    }

    fn of(&mut self, side: &str) -> &mut Postgres {
        if side == "source" { &mut self.source } else { &mut self.target }
    }

    fn crash(&mut self, side: &str) {
        let server = self.of(side);
        server.crash();
        server.restart();
    }
}

/// Waits until rows are on their way into the target.
pub async fn copying(target: &Database) {
    let client = target.client().await;
    let sql = "SELECT 1 FROM pg_stat_progress_copy WHERE datname = current_database() AND tuples_processed > 0 LIMIT 1";
    eventually("rows are copied", || async {
        client.query_opt(sql, &[]).await.expect("an answer")
    })
    .await;
}

#[tokio::test]
async fn a_server_that_crashes_in_the_copy_is_waited_for_and_the_copy_begins_again() {
    let mut servers = Servers::start(&[]);
    for side in ["source", "target"] {
        let world = servers.world().await;
        let strays = Strays::begin(&world);
        let mut run = world.runs(&["--rate", "400KiB"]);
        copying(&world.target).await;
        servers.crash(side);
        assert!(run.says(r#""event":"lost""#).await, "{side}");
        let ended = run.end().await;
        assert_eq!(ended.code, Some(0), "{side}: {}", ended.errors);
        let shard = if side == "source" { "shard `b`" } else { "shard `d`" };
        assert!(ended.output.contains(shard), "{side}: {}", ended.output);
        assert_eq!(world.owner().await, "d", "{side}");
        world.succeeds(&["finish", "--yes", "--source", "b"]).await;
        strays.end_at(&world.target).await;
        assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new(), "{side}");
    }
}

#[tokio::test]
async fn a_server_that_crashes_while_the_target_follows_goes_on_by_itself() {
    let mut servers = Servers::start(&[]);
    let world = servers.world().await;
    world.run().await;
    let strays = Strays::begin(&world);
    for side in ["target", "source", "target"] {
        servers.crash(side);
        world.succeeds(&["verify", "--source", "b"]).await;
    }
    world.switch().await;
    for side in ["source", "target"] {
        servers.crash(side);
        world.succeeds(&["verify", "--source", "b"]).await;
    }
    world.succeeds(&["rollback", "--yes", "--source", "b"]).await;
    strays.end_at(&world.source).await;
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_crashes_in_a_switch_loses_nothing() {
    let mut servers = Servers::start(&[]);
    for command in ["fence", "no-return", "commit"] {
        for side in ["source", "target"] {
            let mut world = servers.world().await;
            world.run().await;
            let strays = Strays::begin(&world);
            world.hold(command);
            let run = world.runs(&[]);
            world.is_held().await;
            servers.crash(side);
            world.let_go();
            let ended = run.end().await;
            assert_eq!(ended.code, Some(0), "{command}, {side}: {}{}", ended.output, ended.errors);
            assert_eq!(world.owner().await, "d", "{command}, {side}");
            // That compares both.
            world.succeeds(&["finish", "--yes", "--source", "b"]).await;
            strays.end_at(&world.target).await;
            assert_eq!(world.rows(&world.source).await, Vec::<String>::new(), "{command}, {side}");
        }
    }
}

#[tokio::test]
async fn a_move_can_be_undone_after_its_target_crashed() {
    let mut servers = Servers::start(&[]);
    let world = servers.world().await;
    let shape = world.shape(&world.target).await;
    for step in ["copying", "following", "prepared", "fencing"] {
        let strays = Strays::begin(&world);
        assert!(world.kill_at(step).await, "it did not come to {step}");
        servers.crash("target");
        world.succeeds(&["abort", "--yes", "--take-over", "--source", "b"]).await;
        strays.end_at(&world.source).await;
        assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new(), "{step}");
        assert_eq!(world.shape(&world.target).await, shape, "{step}");
        assert_eq!(world.rows(&world.target).await, Vec::<String>::new(), "{step}");
        assert_eq!(world.owner().await, "b");
    }
}

#[tokio::test]
async fn a_slot_that_the_source_has_given_up_lets_the_copy_begin_again_once() {
    let source = Postgres::start(&["max_slot_wal_keep_size = 1MB"]);
    let mut target = Postgres::start_taker(&[]);
    let world = World::between(&source, &target).await;
    let accept = ["--accept=slot-wal-limit"];
    let bring = [&["run", "--yes", "--no-switch"], &accept[..], &MOVED[..]].concat();
    world.succeeds(&bring).await;
    lose_the_slot(&world, &mut target).await;
    let ended = world.reshard(&["verify", "--source", "b"]).await;
    assert!(ended.errors.contains("slot-lost: "), "{}", ended.errors);
    let strays = Strays::begin(&world);
    let mut run = world.runs(&accept);
    assert!(run.says("slot-lost: the slot is lost").await);
    let ended = run.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(ended.output.contains("the copy begins again"), "{}", ended.output);
    world.succeeds(&["rollback", "--yes", "--source", "b"]).await;
    strays.end_at(&world.source).await;
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_slot_that_is_lost_twice_is_a_persons_matter() {
    let source = Postgres::start(&["max_slot_wal_keep_size = 1MB"]);
    let mut target = Postgres::start_taker(&[]);
    let world = World::between(&source, &target).await;
    let switch = [&["run", "--yes", "--accept=slot-wal-limit"], &MOVED[..]].concat();
    world.succeeds(&[&switch[..], &["--no-switch"]].concat()).await;
    lose_the_slot(&world, &mut target).await;
    let mut run = world.runs(&["--accept=slot-wal-limit"]);
    assert!(run.says(r#""step":"copying""#).await, "the copy begins again by itself");
    run.kill().await;
    world.succeeds(&[&switch[..], &["--no-switch"]].concat()).await;
    lose_the_slot(&world, &mut target).await;
    let ended = world.reshard(&switch).await;
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(ended.errors.contains("the copy has begun again once"), "{}", ended.errors);
    world.succeeds(&[&switch[..], &["--copy-again"]].concat()).await;
    world.succeeds(&["finish", "--yes", "--source", "b"]).await;
    assert_eq!(world.owner().await, "d");
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
}

/// The target is away for longer than the source keeps log for it.
async fn lose_the_slot(world: &World, target: &mut Postgres) {
    target.crash();
    for _ in 0..4 {
        world.source.sql("CREATE TABLE more (n int); DROP TABLE more").await;
        world.source.client().await.query("SELECT pg_switch_wal()", &[]).await.expect("a row");
        world.source.sql("CHECKPOINT").await;
    }
    target.restart();
}
