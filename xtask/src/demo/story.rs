//! The walk-through: what a user would try, what came back, and how long it took.

use super::moving;
use super::step::{ANSWER_TIMEOUT, Client, Table};
use super::world::World;
use crate::setup::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Clients and seconds of the load at the end.
const LOAD_CLIENTS: usize = 8;
const LOAD_TIME: Duration = Duration::from_secs(4);

/// Whether every step went as it should.
pub(super) fn tell(world: &mut World) -> Result<bool> {
    let edge = Client::new(world.edge_url());
    let mut table = Table::head();
    assets(&edge, &mut table)?;
    shards(world, &edge, &mut table)?;
    tick(world, &edge, &mut table)?;
    world.check_stop()?;
    report(world, &edge, &mut table)?;
    world.check_stop()?;
    stale(world, &edge, &mut table)?;
    world.check_stop()?;
    moving::tell(world, &edge, &mut table)?;
    world.check_stop()?;
    load(world, &edge, &mut table)?;
    Ok(table.all_good)
}

fn assets(edge: &Client, table: &mut Table) -> Result<()> {
    let page = edge.get("/")?;
    let link = page
        .body
        .split(['"', '\''])
        .find(|text| text.starts_with("/assets/uplot.") && text.ends_with(".js"));
    let link = link.ok_or("the dashboard names no /assets/uplot.*.js")?.to_owned();
    let first = edge.get(&link)?;
    let what = format!("edge: {}", first.cache("spillway-edge"));
    table.line(first.status == 200 && what.contains("miss"), "asset, first time", &first, &what);
    let again = edge.get(&link)?;
    let control = again.header("cache-control");
    let is_good = again.cache("spillway-edge").starts_with("hit") && control.contains("immutable");
    table.line(is_good, "asset, again", &again, &format!("edge: hit; {control}"));
    Ok(())
}

/// Requests each app has answered for single instruments.
fn served(world: &World) -> Result<[u64; 3]> {
    let mut counts = [0; 3];
    for (shard, count) in counts.iter_mut().enumerate() {
        let stats = Client::new(world.app_url(shard)).get("/api/stats")?.json();
        *count = stats["by_path"]["/api/prices/{instrument_id}"].as_u64().unwrap_or(0);
    }
    Ok(counts)
}

fn shards(world: &World, edge: &Client, table: &mut Table) -> Result<()> {
    for (shard, (name, id)) in [("a", 5), ("b", 15_000), ("c", 25_000)].into_iter().enumerate() {
        let before = served(world)?;
        let answer = edge.get(&format!("/api/prices/{id}"))?;
        let after = served(world)?;
        let by: Vec<&str> = (0..3)
            .filter(|index| after[*index] > before[*index])
            .map(|index| ["a", "b", "c"][index])
            .collect();
        let is_good = answer.status == 200 && after[shard] == before[shard] + 1 && by == [name];
        let symbol = answer.json()["symbol"].as_str().unwrap_or("?").to_owned();
        table.line(
            is_good,
            &format!("price of instrument {id}"),
            &answer,
            &format!("{symbol} from shard {}", by.join("+")),
        );
    }
    let refused = edge.get("/api/prices/40000")?;
    let problem = refused.json()["type"].as_str().unwrap_or("?").to_owned();
    let is_good = refused.status == 404 && problem.ends_with("key-unmapped");
    table.line(is_good, "price of instrument 40000", &refused, &format!("refused: {problem}"));
    Ok(())
}

fn tick(world: &World, edge: &Client, table: &mut Table) -> Result<()> {
    let body = r#"{"instrument_id": 15001, "price": 123.25}"#;
    let answer = edge.send("POST", "/api/ticks", &[("content-type", "application/json")], body)?;
    let has = |shard: usize| -> Result<bool> {
        let found = Client::new(world.app_url(shard)).get("/api/prices/15001")?;
        Ok(found.status == 200 && found.body.contains("123.25"))
    };
    let is_good = answer.status == 201 && has(1)? && !has(0)? && !has(2)?;
    table.line(is_good, "tick for instrument 15001", &answer, "stored on shard b, and only there");
    Ok(())
}

fn report(world: &World, edge: &Client, table: &mut Table) -> Result<()> {
    let json = ("content-type", "application/json");
    let login =
        edge.send("POST", "/login", &[json], r#"{"user": "alice", "password": "alice"}"#)?;
    let cookie = login.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
    table.line(login.status == 200, "log in as alice", &login, "the app's own session cookie");
    let started = Instant::now();
    let body = r#"{"report_params": {}}"#;
    let accepted = edge.send("POST", "/api/reports", &[json, ("cookie", &cookie)], body)?;
    let location = accepted.header("location");
    let message = accepted.json()["message"].as_str().unwrap_or("?").to_owned();
    table.line(accepted.status == 202, "report that takes 3 s", &accepted, &message);
    let asking = Instant::now();
    let mut status = loop {
        // Short waits, so that Ctrl-C is heard.
        world.check_stop()?;
        let status =
            edge.send("GET", &location, &[("cookie", &cookie), ("prefer", "wait=2")], "")?;
        let is_open = matches!(status.json()["status"].as_str(), Some("queued" | "running"));
        if !is_open || asking.elapsed() > ANSWER_TIMEOUT {
            break status;
        }
    };
    status.took = asking.elapsed();
    let state = status.json()["status"].as_str().unwrap_or("?").to_owned();
    let seconds = started.elapsed().as_secs_f64();
    table.line(
        state == "succeeded",
        "its status, waiting",
        &status,
        &format!("{state} after {seconds:.1} s"),
    );
    let result = edge.send("GET", &format!("{location}/result"), &[("cookie", &cookie)], "")?;
    let is_good = result.status == 200 && result.json()["user_id"] == "alice";
    table.line(
        is_good,
        "its result",
        &result,
        &format!("the app's own answer, {} bytes", result.body.len()),
    );
    let stranger = edge.get(&location)?;
    table.line(stranger.status == 404, "its status, for somebody else", &stranger, "job-unknown");
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let told = edge.send("GET", "/api/notifications", &[("cookie", &cookie)], "")?;
        let is_told = told.body.contains(location.rsplit('/').next().unwrap_or("?"));
        if is_told || Instant::now() > until {
            table.line(
                is_told,
                "alice's notifications",
                &told,
                "the app was told and tells its user",
            );
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn stale(world: &mut World, edge: &Client, table: &mut Table) -> Result<()> {
    edge.get("/api/prices/15002")?;
    world.kill_app(1);
    // Fresh for 1 s and stale-while-revalidate for 2 s at each tier; then only an error's window.
    let until = Instant::now() + Duration::from_secs(15);
    let answer = loop {
        let answer = edge.get("/api/prices/15002")?;
        let is_on_error = answer.header("cache-status").contains("stale-on-error");
        if is_on_error || answer.status != 200 || Instant::now() > until {
            break answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let is_good = answer.status == 200 && answer.header("cache-status").contains("stale-on-error");
    let what = format!("app of shard b killed: stale, {} s old", answer.header("age"));
    table.line(is_good, "price of instrument 15002", &answer, &what);
    let other = edge.get("/api/prices/25001")?;
    table.line(other.status == 200, "price of instrument 25001", &other, "shard c does not notice");
    world.restart_app(1)
}

fn load(world: &World, edge: &Client, table: &mut Table) -> Result<()> {
    let before: u64 = served(world)?.iter().sum();
    let (sent, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..LOAD_CLIENTS {
            let (sent, failed) = (&sent, &failed);
            scope.spawn(move || {
                let edge = Client::new(edge.base.clone());
                for round in 0_usize.. {
                    if started.elapsed() > LOAD_TIME {
                        break;
                    }
                    // Twelve instruments that everybody looks at, four on each shard.
                    let id = 100 + ((client + round) % 12) * 2_500;
                    let is_good = edge
                        .get(&format!("/api/prices/{id}"))
                        .is_ok_and(|answer| answer.status == 200);
                    sent.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(u64::from(!is_good), Ordering::Relaxed);
                }
            });
        }
    });
    let (sent, failed) = (sent.into_inner(), failed.into_inner());
    let reached = served(world)?.iter().sum::<u64>() - before;
    let off = 100.0 * (1.0 - reached as f64 / sent.max(1) as f64);
    let answer = edge.get("/api/prices/100")?;
    let what = format!(
        "{sent} requests at the edge, {failed} failed, {reached} reached the apps: {off:.0} % of the load taken off"
    );
    table.line(
        failed == 0 && off > 50.0,
        &format!("{LOAD_CLIENTS} dashboards for {} s", LOAD_TIME.as_secs()),
        &answer,
        &what,
    );
    Ok(())
}
