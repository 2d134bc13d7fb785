//! Networks that are slow, or are cut while a range moves: who waits says why, and goes on when it is back.

use crate::clients::Strays;
use crate::crashes::copying;
use crate::world::{JOURNAL, Running, World};
use std::time::Duration;
use support::{Database, Relay, far};

/// An address that leads to the database until it is cut.
async fn way_to(database: &Database) -> (Relay, Database) {
    let relay = Relay::new().await;
    relay.lead_to(&[&format!("127.0.0.1:{}", database.port)]);
    let port = relay.address().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let through = Database { port: port.expect("a port"), name: database.name.clone() };
    (relay, through)
}

#[tokio::test]
async fn a_tool_that_is_cut_off_from_a_server_says_which_and_goes_on_when_it_is_back() {
    for side in ["source", "target"] {
        let mut world = World::start().await;
        let direct = [world.source.clone(), world.target.clone()];
        let own = if side == "source" { &mut world.source } else { &mut world.target };
        let (relay, through) = way_to(own).await;
        let (port, server) = (through.port.to_string(), own.port);
        *own = through;
        let mut run = world.runs(&["--rate", "400KiB"]);
        copying(&direct[1]).await;
        relay.cut();
        assert!(run.says(r#""event":"lost""#).await, "{side}");
        relay.lead_to(&[&format!("127.0.0.1:{server}")]);
        let ended = run.end().await;
        assert_eq!(ended.code, Some(0), "{side}: {}", ended.errors);
        assert!(ended.output.contains(&port), "{side}: {}", ended.output);
        [world.source, world.target] = direct;
        assert_eq!(world.owner().await, "d");
    }
}

#[tokio::test]
async fn a_target_that_is_cut_off_from_the_source_is_waited_for() {
    let world = World::start().await;
    let (relay, through) = way_to(&world.source).await;
    let by = format!("b={}", through.url("postgres"));
    let end = async |run: Running| {
        let ended = run.end().await;
        assert_eq!(ended.code, Some(0), "{}{}", ended.output, ended.errors);
    };
    let write = async |price: i32| {
        let sql = format!(
            "INSERT INTO prices (instrument_id, price, note) VALUES (150, {price}, 'cut off')"
        );
        world.source.sql(&sql).await;
    };
    end(world.runs(&["--no-switch", "--replicate-from", &by])).await;
    relay.cut();
    write(77).await;
    let mut waiting = world.starts(&["verify", "--source", "b"]);
    assert!(waiting.says("no worker is at work: does its server reach the other").await);
    relay.lead_to(&[&format!("127.0.0.1:{}", world.source.port)]);
    end(waiting).await;
    // Nothing is switched before the target has caught up: writes would have to wait for it.
    relay.cut();
    write(78).await;
    let mut run = world.runs(&[]);
    assert!(run.says("no worker is at work: does its server reach the other").await);
    write(79).await;
    relay.lead_to(&[&format!("127.0.0.1:{}", world.source.port)]);
    end(run).await;
    let written = "SELECT count(*) FROM prices WHERE note = 'cut off'";
    let row = world.target.client().await.query_one(written, &[]).await.expect("a row");
    assert_eq!(row.get::<_, i64>(0), 3);
}

#[tokio::test]
async fn a_range_moves_there_and_back_between_databases_that_are_far_from_each_other_and_the_tool()
{
    let mut world = World::start().await;
    let strays = Strays::begin(&world);
    let direct = [world.source.clone(), world.target.clone()];
    for own in [&mut world.source, &mut world.target] {
        own.port = far(own.port, Duration::from_millis(10)).await;
    }
    let said = world.switch().await;
    assert!(said.contains("writes waited for some"), "{said}");
    world.succeeds(&["rollback", "--yes", "--source", "b"]).await;
    [world.source, world.target] = direct;
    strays.end_at(&world.source).await;
    assert_eq!(world.leftovers(&world.source).await, JOURNAL);
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
}
