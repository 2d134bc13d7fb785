//! Binds names of the rules file to addresses. An unbound name is a fault.

use super::settings::{Common, pairs};
use crate::jobs::backends::Backends;
use crate::jobs::receives::receives;
use crate::soundness::Soundness;
use crate::soundness::watched::{WatchedQueue, WatchedResults};
use crate::upstream::server::{APP, ServerSlot, Upstream};
use crate::upstream::servers::Servers;
use net::tls::Authorities;
use rules::Rules;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stores::queue::Queue;
use stores::results::Results;

/// What the settings bind.
pub struct Bindings {
    pub servers: Servers,
    pub backends: Backends,
}

impl Bindings {
    /// Opens everything that is named. Without rules a queue has the default number of attempts.
    ///
    /// # Errors
    /// Everything that is wrong, one a line.
    pub async fn open(common: &Common, rules: Option<&Rules>) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut note = |fault: String| faults.push(fault);
        let roots = common
            .upstream_ca
            .as_deref()
            .map_or_else(|| Ok(Authorities::public()), Authorities::of);
        let roots = roots.map_err(&mut note).unwrap_or_else(|()| Authorities::none());
        let tls = roots.client().map(Arc::new).map_err(|fault| vec![fault])?;
        let app = Upstream::parse((APP, ServerSlot::APP), &common.app, &tls)
            .map(Arc::new)
            .map_err(&mut note)
            .ok();
        let named = pairs("upstream", &common.upstream).map_err(&mut note).unwrap_or_default();
        let mut upstreams = BTreeMap::new();
        for (name, slot) in Servers::slots(named.keys().map(String::as_str)) {
            let url = &named[name];
            if let Ok(upstream) = Upstream::parse((name, slot), url, &tls).map_err(&mut note) {
                upstreams.insert(name.to_owned(), Arc::new(upstream));
            }
        }
        let soundness = Arc::new(Soundness::default());
        let results = match &common.results {
            Some(results) => open_results(results).await.map_err(&mut note).ok(),
            None => None,
        };
        let results = results.map(|results| -> Arc<dyn Results> {
            Arc::new(WatchedResults::new(results, &soundness))
        });
        let mut queues: BTreeMap<String, Arc<dyn Queue>> = BTreeMap::new();
        for (name, queue) in pairs("queue", &common.queue).map_err(&mut note).unwrap_or_default() {
            let kinds = (queue.starts_with("sqs:"), common.results.as_deref());
            match kinds {
                (true, Some(to)) if to.starts_with("file:") => note(format!(
                    "--queue {name}=sqs:… with --results file:…: other pods could not read the results; use s3://"
                )),
                (false, Some(to)) if to.starts_with("s3:") => note(format!(
                    "--queue {name}=file:… with --results s3://…: jobs would be less durable than their results; use sqs: or file:"
                )),
                _ => {}
            }
            let rule = rules.and_then(|rules| rules.document.queues.get(&name));
            if let Ok(queue) = open_queue(&queue, receives(rule)).await.map_err(&mut note) {
                let queue = WatchedQueue::new(&name, queue, &soundness);
                queues.insert(name, Arc::new(queue));
            }
        }
        match app {
            Some(app) if faults.is_empty() => {
                let connect_timeout = Duration::from_secs(common.connect_timeout);
                let head = common.head_limits();
                let servers = Servers { app, named: upstreams, connect_timeout, head };
                Ok(Self { servers, backends: Backends { queues, results, soundness } })
            }
            _ => Err(faults),
        }
    }
}

/// Opens a queue: `file:DIR` or `sqs:URL`.
pub(crate) async fn open_queue(text: &str, max_receives: u64) -> Result<Arc<dyn Queue>, String> {
    if let Some(dir) = text.strip_prefix("file:") {
        let queue = stores::queue::file::FileQueue::open(Path::new(dir), max_receives)?;
        return Ok(Arc::new(queue));
    }
    let Some(url) = text.strip_prefix("sqs:") else {
        return Err(format!("--queue {text}: write file:DIR or sqs:URL"));
    };
    connect_sqs(url).await
}

/// Opens a result store: `file:DIR` or `s3://BUCKET[/PREFIX]`.
pub(crate) async fn open_results(text: &str) -> Result<Arc<dyn Results>, String> {
    if let Some(dir) = text.strip_prefix("file:") {
        return Ok(Arc::new(stores::results::dir::DirResults::open(Path::new(dir))?));
    }
    let Some(place) = text.strip_prefix("s3://") else {
        return Err(format!("--results {text}: write file:DIR or s3://BUCKET/PREFIX"));
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    connect_s3(bucket, prefix).await
}

#[cfg(feature = "aws")]
async fn connect_sqs(url: &str) -> Result<Arc<dyn Queue>, String> {
    let config = stores::queue::sqs::aws_config().await;
    Ok(Arc::new(stores::queue::sqs::SqsQueue::connect(&config, url.to_owned()).await?))
}

#[cfg(feature = "aws")]
async fn connect_s3(bucket: &str, prefix: &str) -> Result<Arc<dyn Results>, String> {
    let config = stores::queue::sqs::aws_config().await;
    let results =
        stores::results::s3::S3Results::connect(&config, bucket.to_owned(), prefix.to_owned());
    Ok(Arc::new(results.await?))
}

#[cfg(not(feature = "aws"))]
async fn connect_sqs(_: &str) -> Result<Arc<dyn Queue>, String> {
    Err("this program was built without the feature `aws`".to_owned())
}

#[cfg(not(feature = "aws"))]
async fn connect_s3(_: &str, _: &str) -> Result<Arc<dyn Results>, String> {
    Err("this program was built without the feature `aws`".to_owned())
}
