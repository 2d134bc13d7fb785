//! The sidecar in a cluster: manifests, chart and injection as an API server would see them, the image,
//! rollouts in network namespaces, and what Prometheus makes of the metrics.

mod chart;
mod dashboard;
mod image;
mod inject;
mod manifests;
mod rollout;
mod webhook;
