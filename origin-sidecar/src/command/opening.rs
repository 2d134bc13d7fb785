//! From settings and rules to a process that can run: everything that can be wrong is found before a
//! port is opened.

use super::app::{App, Parts};
use super::bindings::Bindings;
use super::run::Stop;
use super::settings::{self, Common};
use crate::clock;
use crate::jobs::spool::Spool;
use crate::operate::bound::Bound;
use crate::operate::reload::RulesFile;
use crate::request::signed::Signatures;
use crate::telemetry::spans::Telemetry;
use rules::fallback::Wish;
use std::sync::Arc;

/// What only `proxy` has.
pub(crate) struct OfProxy {
    pub signatures: Signatures,
    pub cache_bytes: usize,
    /// Whether `--trusted-proxy` names one by its address.
    pub has_named_proxy: bool,
    /// What is to happen while the rules can't be read.
    pub wish: Wish,
}

/// # Errors
/// Code 78 with all that is wrong with the settings, and with the rules unless something stands in for
/// them.
pub(crate) async fn open(
    common: &Common,
    own: Option<OfProxy>,
) -> Result<(Arc<App>, RulesFile), Stop> {
    let wish = own.as_ref().map_or(Wish::None, |own| own.wish);
    let has_named_proxy = own.as_ref().is_none_or(|own| own.has_named_proxy);
    let (signatures, cache_bytes) =
        own.map_or((None, 0), |own| (Some(own.signatures), own.cache_bytes));
    let mut file = RulesFile::new(&common.routes, wish);
    let read = match (file.read(), wish) {
        (Err(why), Wish::None) => return Err(Stop::config(why)),
        (read, _) => read,
    };
    let secrets = settings::secrets(common.secret_file.as_deref()).map_err(Stop::config)?;
    let bindings = Bindings::open(common, read.as_ref().ok()).await;
    let bindings = bindings.map_err(|faults| Stop::config(faults.join("\n")))?;
    let mut faults = Vec::new();
    let needs_secret = !bindings.queues.is_empty() || !bindings.upstreams.is_empty();
    if needs_secret && secrets.is_none() {
        faults.push("no secret: set --secret-file FILE or SPILLWAY_SECRET (32 characters or more, the same for all pods; `openssl rand -hex 32`)".to_owned());
    }
    if let Err(error) = std::fs::create_dir_all(&common.spool) {
        faults.push(format!("--spool {}: {error}", common.spool.display()));
    }
    let telemetry = Telemetry::new(common).map_err(|fault| faults.push(fault)).unwrap_or_default();
    let (of_signatures, of_shard) = (signatures.as_ref(), common.shard.as_deref());
    let bound =
        Bound { bindings: &bindings, signatures: of_signatures, shard: of_shard, has_named_proxy };
    let rules = match read.and_then(|rules| bound.fit_start(rules)) {
        Ok(rules) => Some(rules),
        Err(why) => file.stand_in(&bound, &why).or_else(|| {
            faults.insert(0, why);
            None
        }),
    };
    let Some(rules) = rules.filter(|_| faults.is_empty()) else {
        return Err(Stop::config(faults.join("\n")));
    };
    let spool = Spool::new(common.spool.clone(), common.spool_size);
    if let Err(error) = spool.sweep(std::time::SystemTime::now()) {
        tracing::warn!(%error, folder = %common.spool.display(), "not looked through for old files");
    }
    let parts = Parts {
        rules: Arc::new(rules),
        bindings,
        clock: Arc::new(clock::System),
        secrets,
        signatures,
        telemetry,
        shard: common.shard.clone(),
        has_named_proxy,
        spool,
        admin_token: common.admin_token.clone(),
        cache_bytes,
    };
    let mut app = App::new(parts).map_err(Stop::run)?;
    export(&mut app)?;
    Ok((Arc::new(app), file))
}

/// Sends spans to the collector that the environment names.
#[cfg(feature = "otlp")]
fn export(app: &mut App) -> Result<(), Stop> {
    let exporter = crate::telemetry::otlp::Exporter::from_environment(&app.metrics.http.spans);
    if let Some(exporter) = exporter.map_err(Stop::config)? {
        app.telemetry.export(exporter);
    }
    Ok(())
}

/// Says that nothing is sent: the variable may be there for all pods of a cluster.
#[cfg(not(feature = "otlp"))]
fn export(_: &mut App) -> Result<(), Stop> {
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
        tracing::warn!(
            "OTEL_EXPORTER_OTLP_ENDPOINT: this program was built without the feature `otlp`"
        );
    }
    Ok(())
}
