//! Builds a runnable process from settings and rules: everything that can be wrong is found before
//! a port is opened.

use super::bindings::Bindings;
use super::settings::{self, Common};
use super::stop::Stop;
use crate::clock;
use crate::jobs::spool::Spool;
use crate::operate::bound::ProcessBindings;
use crate::operate::process::{Process, ProcessParts};
use crate::operate::reload::RulesFile;
use crate::request::signed::Signatures;
use crate::shards::keys;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reporter::Telemetry;
use rules::Rules;
use rules::fallback::Wish;
use std::sync::Arc;
use std::time::Duration;
use stores::results::Results;
use tokio::time::timeout;

/// How long the result store may take to say whether a map is live.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// The parts that only `proxy` has.
pub(crate) struct OfProxy {
    pub signatures: Signatures,
    pub cache_bytes: usize,
    /// Whether `--trusted-proxy` names a proxy by its address.
    pub has_named_proxy: bool,
    /// What the operator wants while there are no valid rules.
    pub wish: Wish,
}

/// Opens everything.
///
/// # Errors
/// Code 78 with everything that is wrong with the settings, and with the rules unless something
/// replaces them.
pub(crate) async fn open(
    common: &Common,
    own: Option<OfProxy>,
) -> Result<(Process, RulesFile), Stop> {
    let wish = own.as_ref().map_or(Wish::None, |own| own.wish);
    let has_named_proxy = own.as_ref().is_none_or(|own| own.has_named_proxy);
    let (signatures, cache_bytes) =
        own.map_or((None, 0), |own| (Some(Arc::new(own.signatures)), own.cache_bytes));
    let mut file = RulesFile::new(&common.routes, wish);
    let read = match (file.read(), wish) {
        (Err(why), Wish::None) => return Err(Stop::config(why)),
        (read, _) => read,
    };
    let secrets = settings::secrets(common.secret_file.as_deref()).map_err(Stop::config)?;
    let bindings = Bindings::open(common, read.as_ref().ok()).await;
    let bindings = bindings.map_err(|faults| Stop::config(faults.join("\n")))?;
    let mut faults = Vec::new();
    let needs_secret = !bindings.backends.queues.is_empty() || !bindings.servers.named.is_empty();
    if needs_secret && secrets.is_none() {
        faults.push("no secret: set --secret-file FILE or SPILLWAY_SECRET (32 characters or more, the same for all pods; `openssl rand -hex 32`)".to_owned());
    }
    if let Err(error) = std::fs::create_dir_all(&common.spool) {
        faults.push(format!("--spool {}: {error}", common.spool.display()));
    }
    let telemetry = telemetry(common).map_err(|fault| faults.push(fault));
    let mut telemetry = telemetry.unwrap_or_default();
    let bound = ProcessBindings {
        servers: Arc::new(bindings.servers),
        backends: bindings.backends,
        signatures,
        shard: common.shard.as_deref().map(Into::into),
        has_named_proxy,
        has_secret: secrets.is_some(),
    };
    let rules = match read.and_then(|rules| bound.fit_start(rules)) {
        Ok(rules) => Some(rules),
        Err(why) => file.stand_in(&bound, &why).or_else(|| {
            faults.insert(0, why);
            None
        }),
    };
    if let (Some(rules), Some(results)) = (&rules, &bound.backends.results) {
        faults.extend(live_after_all(rules, results.as_ref()).await);
    }
    let Some(rules) = rules.filter(|_| faults.is_empty()) else {
        return Err(Stop::config(faults.join("\n")));
    };
    let spool = Spool::new(common.spool.clone(), common.spool_size);
    if let Err(error) = spool.sweep(std::time::SystemTime::now()) {
        tracing::warn!(%error, folder = %common.spool.display(), "could not search the spool for leftover files");
    }
    let metrics = Metrics::new().map_err(|error| Stop::run(error.to_string()))?;
    export(&mut telemetry, &metrics)?;
    let process = Process::new(ProcessParts {
        rules: Arc::new(rules),
        bound,
        metrics: Arc::new(metrics),
        clock: Arc::new(clock::System),
        secrets,
        telemetry,
        spool,
        admin_token: common.admin_token.clone(),
        cache_bytes,
    });
    Ok((process.map_err(Stop::run)?, file))
}

/// Maps that the file takes for its own while the store has a live one of that name: an old file that was
/// rolled back would route by ranges that others have long moved.
async fn live_after_all(rules: &Rules, results: &dyn Results) -> Vec<String> {
    let mut faults = Vec::new();
    let of_file = rules.document.shard_maps.iter().filter(|(_, map)| !map.live);
    for (name, _) in of_file {
        match timeout(LOOK_TIMEOUT, results.head(&keys::map(name))).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(_))) => faults.push(format!(
                "map-is-live: [shard_map.{name}]: the result store has a live map of this name: write `live = true`, or end it with `spillway shards retire {name}`"
            )),
            Ok(Err(error)) => tracing::warn!(map = name, %error, "not known whether the map is live"),
            Err(_) => tracing::warn!(map = name, "not known whether the map is live: no answer"),
        }
    }
    faults
}

/// Reads the fractions for logs and traces.
///
/// # Errors
/// Names the setting that is not between 0 and 1.
fn telemetry(common: &Common) -> Result<Telemetry, String> {
    let share = |flag: &str, share: f64| {
        let is_share = (0.0..=1.0).contains(&share);
        is_share.then_some(share).ok_or_else(|| format!("--{flag} {share}: write 0 to 1"))
    };
    let log_share = share("log-sample", common.log_sample)?;
    Ok(Telemetry::new(log_share, share("trace-sample", common.trace_sample)?))
}

/// Exports spans to the collector that the environment names.
#[cfg(feature = "otlp")]
fn export(telemetry: &mut Telemetry, metrics: &Metrics) -> Result<(), Stop> {
    let exporter = crate::telemetry::otlp::Exporter::from_environment(&metrics.http.spans);
    if let Some(exporter) = exporter.map_err(Stop::config)? {
        telemetry.export(exporter);
    }
    Ok(())
}

/// Logs that nothing is exported: the variable may be set for all pods of a cluster.
#[cfg(not(feature = "otlp"))]
fn export(_: &mut Telemetry, _: &Metrics) -> Result<(), Stop> {
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
        tracing::warn!(
            "OTEL_EXPORTER_OTLP_ENDPOINT: this program was built without the feature `otlp`"
        );
    }
    Ok(())
}
