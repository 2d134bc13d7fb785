//! `webhook`: puts the sidecar into pods as they are created. What is decided, the `inject` crate
//! decides; here are certificates, the port, and what is told about it.

mod api;
mod certificates;
mod events;
mod review;
mod rotation;
mod serve;

use crate::commands::{Stop, runtime, terminated};
use crate::inject::Sidecar;
use crate::metrics::Injections;
use crate::proxy::serve::listen;
use crate::tls::Certificates;
use crate::{admin, reply};
use api::Api;
use certificates::Plan;
use clap::Args;
use events::Events;
use inject::{Mode, Options};
use rotation::Source;
use serve::Reviewer;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

/// Since when an init container may be restarted for ever: 1.29. An older API server refuses its
/// probes, and with them every pod.
const NATIVE_SINCE: u32 = 29;

#[derive(Debug, Clone, Args)]
pub struct Webhook {
    /// Where reviews come in, over HTTPS: POST /inject
    #[arg(long, default_value = "0.0.0.0:10250")]
    pub listen: SocketAddr,
    /// Where /startup /ready /live /metrics are served
    #[arg(long, default_value = "0.0.0.0:15081")]
    pub admin: SocketAddr,
    /// The `MutatingWebhookConfiguration` that gets the caBundle
    #[arg(long, default_value = "spillway")]
    pub configuration: String,
    /// The Secret that holds CA and certificate for all replicas; made if it is not there
    #[arg(long, default_value = "spillway-webhook-tls")]
    pub secret: String,
    /// The Service through which API servers call
    #[arg(long, default_value = "spillway-webhook")]
    pub service: String,
    /// The namespace of Secret and Service
    #[arg(long, default_value = "spillway")]
    pub namespace: String,
    /// A folder with tls.crt and tls.key (cert-manager's) instead of our own CA
    #[arg(long, value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Seconds that our own certificates are valid; they are renewed at two thirds
    #[arg(long, default_value_t = 90 * 24 * 3600, value_parser = clap::value_parser!(u64).range(30..))]
    pub certificate_lifetime: u64,
    /// The Kubernetes API; without it, that of the cluster this runs in
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// Seconds for which reviews are still answered after SIGTERM, until no API server calls
    #[arg(long, default_value_t = 5)]
    pub grace: u64,
    #[command(flatten)]
    pub sidecar: Sidecar,
}

/// Answers reviews until SIGTERM and the grace after it.
///
/// # Errors
/// Code 78 when a setting is wrong, 1 when a port is taken.
pub fn run(settings: &Webhook) -> Result<(), Stop> {
    let options = settings.sidecar.options()?;
    let api = match (&settings.tls_dir, Api::open(settings.api.as_deref())) {
        (_, Ok(api)) => Some(Arc::new(api)),
        // Without our own CA there is nothing but events that would need it.
        (Some(_), Err(_)) => None,
        (None, Err(error)) => return Err(Stop::config(error)),
    };
    let metrics = Injections::new().map_err(Stop::run)?;
    runtime()?.block_on(async {
        let bind = |flag: &str, address: SocketAddr| {
            let bound = listen(address).and_then(|listener| {
                let address = listener.local_addr()?;
                Ok((TcpListener::from_std(listener)?, address))
            });
            bound.map_err(|error| Stop::run(format!("--{flag} {address}: {error}")))
        };
        let (listener, listen) = bind("listen", settings.listen)?;
        let (admin_listener, admin) = bind("admin", settings.admin)?;
        let options = fitting(options, api.as_deref()).await;
        let certificates = Arc::new(Certificates::default());
        let server = Arc::clone(&certificates).server(&["http/1.1"]).map_err(Stop::run)?;
        let state = Arc::new(State {
            certificates: Arc::clone(&certificates),
            is_draining: AtomicBool::new(false),
            metrics: metrics.clone(),
        });
        let told = Arc::clone(&state);
        tokio::spawn(admin::serve(admin_listener, move |request, _| {
            let told = Arc::clone(&told);
            async move { told.answer(request.uri().path()) }
        }));
        tokio::spawn(source(settings, api.clone()).keep(certificates));
        let reviewer = Arc::new(Reviewer { options, metrics, events: Events::start(api) });
        tokio::spawn(serve::run(listener, Arc::new(server).into(), reviewer));
        tracing::info!(command = "webhook", %listen, %admin, "listening");
        terminated().await;
        // Endpoints are taken away while we go on answering.
        state.is_draining.store(true, Ordering::Relaxed);
        tracing::info!("draining");
        tokio::time::sleep(Duration::from_secs(settings.grace)).await;
        Ok(())
    })
}

/// With container mode where the API server is too old for native sidecars.
async fn fitting(options: Options, api: Option<&Api>) -> Options {
    let Some(api) = api else { return options };
    match api.minor_version().await {
        Ok(Some(minor)) if minor < NATIVE_SINCE => {
            tracing::warn!(minor, "no native sidecars before 1.29: container mode");
            Options { mode: Mode::Container, ..options }
        }
        Ok(_) => options,
        Err(error) => {
            tracing::warn!(
                error,
                "the version of Kubernetes is not known, taken for 1.29 or later"
            );
            options
        }
    }
}

fn source(settings: &Webhook, api: Option<Arc<Api>>) -> Source {
    let (Some(api), None) = (api, &settings.tls_dir) else {
        return Source::Folder(settings.tls_dir.clone().unwrap_or_default());
    };
    let Webhook { service, namespace, secret, configuration, .. } = settings;
    let names = ["", ".cluster.local"].map(|end| format!("{service}.{namespace}.svc{end}"));
    Source::Own {
        api,
        secret: format!("/api/v1/namespaces/{namespace}/secrets/{secret}"),
        configuration: format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{configuration}"
        ),
        plan: Plan {
            names: names.to_vec(),
            lifetime: Duration::from_secs(settings.certificate_lifetime),
        },
    }
}

/// What the admin port tells.
struct State {
    certificates: Arc<Certificates>,
    is_draining: AtomicBool,
    metrics: Injections,
}

impl State {
    fn answer(&self, path: &str) -> http::Response<crate::body::Body> {
        let has_certificate = self.certificates.is_ready();
        let is_ready = has_certificate && !self.is_draining.load(Ordering::Relaxed);
        match path {
            "/startup" => admin::probe(has_certificate, "no certificate yet"),
            "/ready" => admin::probe(is_ready, "draining, or no certificate yet"),
            "/live" => admin::probe(true, ""),
            "/metrics" => admin::metrics_page(self.metrics.render()),
            _ => reply::text(404, "/startup /ready /live /metrics\n"),
        }
    }
}
