//! `webhook`: adds the sidecar to pods as they are created. The `inject` crate makes all decisions;
//! certificates, the port and reporting are here.

mod api;
mod certificates;
mod events;
mod review;
mod rotation;
mod serve;

use super::inject::Sidecar;
use super::run::{runtime, terminated};
use super::stop::Stop;
use crate::clock::{Clock, System};
use crate::message::reply;
use crate::operate::admin;
use crate::proxy::serve::listen;
use crate::telemetry::metrics::Injections;
use api::Api;
use certificates::Plan;
use clap::Args;
use events::EventSender;
use inject::{Mode, Options};
use net::tls::{Certificates, Validity};
use rotation::{SelfIssued, Source};
use serve::{Reviewer, WebhookDrain};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The first minor version of Kubernetes in which an init container may restart for ever. An older
/// API server refuses its probes, and with them every pod.
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
    /// Grace period in seconds after SIGTERM, in which reviews are still answered. Each answer closes its
    /// connection; an idle one is closed after five sixths of it, as API servers may use it at any moment
    #[arg(long, default_value_t = 30)]
    pub grace: u64,
    #[command(flatten)]
    pub sidecar: Sidecar,
}

/// Answers reviews until SIGTERM and the grace period after it.
///
/// # Errors
/// Code 78 when a setting is wrong, 1 when a port is taken.
pub fn run(settings: &Webhook) -> Result<(), Stop> {
    let options = Options { is_admission: true, ..settings.sidecar.options()? };
    let api = match (&settings.tls_dir, Api::open(settings.api.as_deref())) {
        (_, Ok(api)) => Some(Arc::new(api)),
        // Without our own CA only events would need the API.
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
        let (drain, draining) = watch::channel(false);
        let state = Arc::new(WebhookAdmin {
            certificates: Arc::clone(&certificates),
            draining: draining.clone(),
            metrics: metrics.clone(),
            // With certificates from files nobody issues any, and the replicas need not agree about
            // the time.
            api: api.clone().filter(|_| settings.tls_dir.is_none()),
        });
        let told = Arc::clone(&state);
        tokio::spawn(admin::serve(admin_listener, move |request, _| {
            let told = Arc::clone(&told);
            async move { told.answer(request.uri().path()) }
        }));
        let events = EventSender::start(api.clone());
        let source = source(settings, api, (&events, &metrics));
        tokio::spawn(source.keep(certificates));
        let grace = Duration::from_secs(settings.grace);
        let drain_of_idle = WebhookDrain { begun: draining, idle: grace / 6 * 5 };
        let opt_in = Options { is_opt_in: true, ..options.clone() };
        let reviewer = Reviewer { options, opt_in, metrics, events, drain: drain_of_idle };
        let reviewer = Arc::new(reviewer);
        tokio::spawn(serve::run(listener, Arc::new(server).into(), reviewer));
        tracing::info!(command = "webhook", %listen, %admin, "listening");
        terminated().await;
        // The endpoints are removed while reviews are still answered.
        drain.send_replace(true);
        tracing::info!("draining");
        tokio::time::sleep(grace).await;
        Ok(())
    })
}

/// Selects container mode where the API server is too old for native sidecars.
async fn fitting(options: Options, api: Option<&Api>) -> Options {
    let Some(api) = api else { return options };
    match api.minor_version().await {
        Ok(Some(minor)) if minor < NATIVE_SINCE => {
            tracing::warn!(
                minor,
                "Kubernetes before 1.29 has no native sidecars: injecting ordinary containers"
            );
            Options { mode: Mode::Container, ..options }
        }
        Ok(_) => options,
        Err(error) => {
            tracing::warn!(error, "unknown Kubernetes version; assuming 1.29 or later");
            options
        }
    }
}

fn source(
    settings: &Webhook,
    api: Option<Arc<Api>>,
    (events, metrics): (&EventSender, &Injections),
) -> Source {
    let (Some(api), None) = (api, &settings.tls_dir) else {
        return Source::Folder(settings.tls_dir.clone().unwrap_or_default());
    };
    let Webhook { service, namespace, secret, configuration, .. } = settings;
    let names = ["", ".cluster.local"].map(|end| format!("{service}.{namespace}.svc{end}"));
    Source::Own(SelfIssued {
        api,
        secret: format!("/api/v1/namespaces/{namespace}/secrets/{secret}"),
        configuration: format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{configuration}"
        ),
        plan: Plan {
            names: names.to_vec(),
            lifetime: Duration::from_secs(settings.certificate_lifetime),
        },
        events: events.clone(),
        metrics: metrics.clone(),
    })
}

/// The state that the admin port reports.
struct WebhookAdmin {
    certificates: Arc<Certificates>,
    draining: watch::Receiver<bool>,
    metrics: Injections,
    /// The API whose clock counts; none where it is our own.
    api: Option<Arc<Api>>,
}

impl WebhookAdmin {
    fn answer(&self, path: &str) -> http::Response<crate::message::body::Body> {
        let validity = self.certificates.validity();
        match path {
            "/startup" => admin::probe(validity.is_some(), "no certificate yet"),
            "/ready" => match self.not_ready(validity) {
                Some(why) => reply::text(503, format!("{why}\n")),
                None => admin::probe(true, ""),
            },
            "/live" => admin::probe(true, ""),
            "/metrics" => {
                let offset = self.api.as_ref().and_then(|api| api.offset());
                self.metrics.looked(validity.map(|validity| validity.until), offset);
                admin::metrics_page(self.metrics.render())
            }
            _ => reply::text(404, "/startup /ready /live /metrics\n"),
        }
    }

    /// Why no API server should call this replica now.
    fn not_ready(&self, validity: Option<Validity>) -> Option<String> {
        if *self.draining.borrow() {
            return Some("draining".to_owned());
        }
        let Some(validity) = validity else { return Some("no certificate yet".to_owned()) };
        let now = match &self.api {
            Some(api) => api.now().map_err(|disagreement| disagreement.to_string()),
            None => Ok(System.now().as_secs()),
        };
        match now {
            Ok(now) if validity.contains(now) => None,
            Ok(now) => {
                let Validity { from, until } = validity;
                Some(format!("the certificate is valid from {from} until {until}, and it is {now}"))
            }
            Err(why) => Some(why),
        }
    }
}
