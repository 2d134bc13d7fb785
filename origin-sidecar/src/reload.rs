//! The rules file and the certificate are watched; good changes take effect without dropping a
//! connection.

use crate::app::App;
use crate::metrics::Metrics;
use crate::tls::Certificates;
use rules::Rules;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the file is read. A ConfigMap mount swaps a symlink, which file watchers miss; the
/// file is small, and reading it once a second costs nothing.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads a rules file.
///
/// # Errors
/// All its faults as text, ready to print.
pub fn load(path: &Path) -> Result<(Rules, String), String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let rules = Rules::from_toml(&text).map_err(|faults| {
        let faults = faults.iter().map(|fault| format!("{}:{fault}", path.display()));
        faults.collect::<Vec<_>>().join("\n")
    })?;
    Ok((rules, text))
}

/// Watches until the process ends. A bad file is refused and the old rules go on.
pub async fn watch(app: Arc<App>, path: PathBuf, mut text: String) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Ok(new) = std::fs::read_to_string(&path) else { continue };
        if new == text {
            continue;
        }
        text = new;
        let result = match take(&app, &path).await {
            Ok(()) => "taken",
            Err(faults) => {
                tracing::error!(path = %path.display(), faults, "changed rules refused; the old ones go on");
                "refused"
            }
        };
        app.metrics.reloads.with_label_values(&[result]).inc();
    }
}

/// Watches until the process ends. Files that do not belong together, as in the middle of a change,
/// are refused and the certificate served before goes on.
pub async fn watch_certificate(
    metrics: Arc<Metrics>,
    certificates: Arc<Certificates>,
    folder: PathBuf,
) {
    let mut refused = String::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let result = match certificates.serve_folder(&folder) {
            Ok(false) => continue,
            Ok(true) => {
                refused.clear();
                "taken"
            }
            // Told once, not every second.
            Err(error) if error == refused => continue,
            Err(error) => {
                tracing::error!(error, "changed certificate refused; the old one goes on");
                refused = error;
                "refused"
            }
        };
        metrics.certificate_reloads.with_label_values(&[result]).inc();
    }
}

async fn take(app: &App, path: &Path) -> Result<(), String> {
    let file = path.to_owned();
    // On a thread of its own: probes are answered meanwhile, however large the file is.
    let loaded = tokio::task::spawn_blocking(move || load(&file)).await;
    let (new, _) = loaded.map_err(|error| error.to_string())??;
    let unbound = app.bindings.unbound(&new, app.shard.as_deref());
    if !unbound.is_empty() {
        return Err(unbound.join("\n"));
    }
    if let Some(fault) = app.signatures.as_ref().and_then(|own| own.unbound(&new)) {
        return Err(fault);
    }
    // Two sidecars with different maps would each be right for themselves.
    if new.document.shard_maps != app.rules().document.shard_maps {
        return Err("ranges of a live shard map are not changed by this file: restart all pods with the new map".to_owned());
    }
    tracing::info!(config_hash = new.hash, "rules changed");
    app.set_rules(Arc::new(new));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::fmt::Write;

    #[tokio::test]
    async fn a_large_file_is_read_beside_the_thread_that_answers_probes() {
        let mut text = String::new();
        for number in 0..2000 {
            let _ = writeln!(
                text,
                "[[route]]\nname = \"r{number}\"\nmatch = {{ path = \"/r{number}\" }}"
            );
        }
        let path = std::env::temp_dir().join(format!("spillway-reload-{}", std::process::id()));
        std::fs::write(&path, text).expect("written");
        let app = Arc::new(App::alone("", Arc::new(clock::System)));
        let (taking, file) = (Arc::clone(&app), path.clone());
        let taking = tokio::spawn(async move { take(&taking, &file).await });
        let mut turns = 0;
        while !taking.is_finished() {
            turns += 1;
            tokio::task::yield_now().await;
        }
        assert_eq!(taking.await.expect("no panic"), Ok(()));
        assert_eq!(app.rules().document.routes.len(), 2000);
        // One on this thread would have let nobody else have a turn.
        assert!(turns > 2, "only {turns} turns");
        std::fs::remove_file(&path).expect("removed");
    }
}
