//! The measurement behind docs/decisions/0001-threads.md: the real proxy, served either by one
//! current-thread runtime per thread with a listener each, or by one work-stealing runtime.
//!
//! `threads per-core|stealing THREADS LISTEN APP ROUTES`

use clap::Parser;
use http1::head::HeadLimits;
use http1::server::Tolerance;
use spillway::clock::System;
use spillway::command::bindings::Bindings;
use spillway::command::settings::Common;
use spillway::jobs::spool::Spool;
use spillway::memory::Allocator;
use spillway::operate::bound::ProcessBindings;
use spillway::operate::process::{Process, ProcessParts};
use spillway::operate::reload;
use spillway::proxy::serve::{self, Options};
use spillway::telemetry::metrics::Metrics;
use spillway::telemetry::reporter::Telemetry;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[derive(Parser)]
struct Settings {
    model: String,
    threads: usize,
    listen: std::net::SocketAddr,
    #[command(flatten)]
    common: Common,
}

const CACHE_BYTES: usize = 64 * 1024 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings::parse();
    let rules = reload::load(&settings.common.routes)?;
    let start = Builder::new_current_thread().enable_all().build()?;
    let bindings = start.block_on(Bindings::open(&settings.common, Some(&rules)));
    let bindings = bindings.map_err(|faults| faults.join("\n"))?;
    let bound = ProcessBindings {
        servers: Arc::new(bindings.servers),
        backends: bindings.backends,
        signatures: None,
        shard: None,
        has_named_proxy: true,
        has_secret: false,
    };
    let process = Process::new(ProcessParts {
        rules: Arc::new(rules),
        bound,
        metrics: Arc::new(Metrics::new()?),
        clock: Arc::new(System),
        secrets: None,
        telemetry: Telemetry::default(),
        spool: Spool::new("/tmp".into(), None),
        admin_token: None,
        cache_bytes: CACHE_BYTES,
    })?;
    let (proxy, jobs) = (process.proxy, process.jobs);
    let options = Options {
        trusted: Arc::default(),
        grace: Duration::from_secs(1),
        head: HeadLimits::default(),
        tolerance: Arc::new(Tolerance::new(serve::CONNECTIONS_MAX)),
        tls: None,
    };
    let listener = serve::listen_shared(settings.listen)?;
    if settings.model == "stealing" {
        let runtime =
            Builder::new_multi_thread().worker_threads(settings.threads).enable_all().build()?;
        // Spawned, so that the accept loop runs on a worker too.
        let served = runtime.spawn(serve::run(proxy, jobs, listener, options));
        return Ok(runtime.block_on(served)??);
    }
    let mut threads = Vec::new();
    for _ in 0..settings.threads {
        let (proxy, jobs) = (Arc::clone(&proxy), Arc::clone(&jobs));
        let (options, listener) = (options.clone(), serve::listen_shared(settings.listen)?);
        threads.push(std::thread::spawn(move || -> std::io::Result<()> {
            Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(serve::run(proxy, jobs, listener, options))
        }));
    }
    drop(listener);
    for thread in threads {
        thread.join().map_err(|_| "a thread died")??;
    }
    Ok(())
}
