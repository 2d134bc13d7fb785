//! Offload beside a plain boto3 producer and consumer and Celery, in one run on one machine.
//!
//! Run by `cargo xtask bench offload`, which builds and installs what it needs and says where it is
//! by the environment. Latencies at a fixed rate; costs in CPU time, which other load disturbs less.

mod app;
mod durable;
mod load;
mod processes;
mod report;
mod systems;

use report::Report;
use std::io::Write;
use std::path::PathBuf;
use systems::System;

/// Requests a second: half of what the slowest peer takes on one core.
const RATE: u32 = 150;
/// Of each system's enqueue phase.
const SECONDS: u32 = 10;
/// Before the measured phase: pools, imports, first connections.
const WARM_UP: u32 = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let out = std::env::args().nth(1).map_or_else(|| PathBuf::from("docs/img"), PathBuf::from);
    let mut report = Report::default();
    let app = app::start().await;
    for system in System::ALL {
        eprintln!("==> {}", system.name());
        let mut running = systems::start(system, &app).await;
        load::send(&running.address, RATE, WARM_UP).await;
        let before = running.producer.cpu();
        let latencies = load::send(&running.address, RATE, RATE * SECONDS).await;
        let cpu = running.producer.cpu() - before;
        report.enqueued(system, cpu, &latencies);
        let jobs = WARM_UP + RATE * SECONDS;
        let consumed = running.consume(&app, jobs).await;
        report.consumed(system, &consumed, jobs);
    }
    eprintln!("==> durable sends, 64 clients");
    report.durable = Some(durable::measure().await);
    writeln!(std::io::stdout(), "{}", report.table()).expect("the table is written");
    let picture = out.join("bench-offload.svg");
    std::fs::write(&picture, report.svg()).expect("the picture is written");
    eprintln!("==> {}", picture.display());
}
