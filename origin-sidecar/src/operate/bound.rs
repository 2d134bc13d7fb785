//! The bindings of a process that its rules may need.

use crate::jobs::backends::Backends;
use crate::request::signed::Signatures;
use crate::upstream::server::APP;
use crate::upstream::servers::Servers;
use rules::Rules;
use rules::document::Delivery;
use std::sync::Arc;

pub struct ProcessBindings {
    pub servers: Arc<Servers>,
    pub backends: Backends,
    pub signatures: Option<Arc<Signatures>>,
    /// The shard whose data the application beside us holds.
    pub shard: Option<Arc<str>>,
    /// Whether a proxy is named that is trusted about its clients; true where nobody listens.
    pub has_named_proxy: bool,
    /// Whether there is a root secret.
    pub has_secret: bool,
}

impl ProcessBindings {
    /// Accepts rules at start-up: everything that they name must be bound, and every bound queue
    /// must have rules.
    ///
    /// # Errors
    /// Everything that is missing, one a line.
    pub fn fit_start(&self, rules: Rules) -> Result<Rules, String> {
        let without: Vec<_> = self.without_rules(&rules).collect();
        let fault = |name| format!("--queue {name}: there is no [queue.{name}] in the rules file");
        let mut faults: Vec<String> = without.into_iter().map(fault).collect();
        match self.fit(rules) {
            Ok(rules) if faults.is_empty() => Ok(rules),
            fit => {
                faults.extend(fit.err());
                Err(faults.join("\n"))
            }
        }
    }

    /// Accepts rules if everything that they name is bound.
    ///
    /// # Errors
    /// Everything that is missing, one a line.
    pub fn fit(&self, rules: Rules) -> Result<Rules, String> {
        let mut faults = self.unbound(&rules);
        faults.extend(self.signatures.as_ref().and_then(|own| own.unbound(&rules)));
        let nobodys = rules.document.routes_with_callers_of_proxies();
        faults.extend(nobodys.filter(|_| !self.has_named_proxy).map(|route| {
            format!(
                "identity-from-client: route `{}` takes its callers from a field that only a proxy can say, and --trusted-proxy names none by its address",
                route.name
            )
        }));
        let is_known = |shard: &str| {
            rules.document.shard_maps.values().any(|map| map.shards.contains_key(shard))
        };
        if let Some(shard) = self.shard.as_deref().filter(|shard| !is_known(shard)) {
            faults.push(format!("--shard {shard}: no shard map has a shard of that name"));
        }
        faults.extend(self.without_authority(&rules));
        if faults.is_empty() { Ok(rules) } else { Err(faults.join("\n")) }
    }

    /// Live shard maps that lack what they need.
    fn without_authority(&self, rules: &Rules) -> Vec<String> {
        let live = rules.shard_maps.values().filter(|map| map.is_live());
        let mut faults = Vec::new();
        for map in live {
            let name = map.name();
            if self.backends.results.is_none() {
                faults.push(format!(
                    "shard map `{name}` is live: add --results, where its object lies (s3://BUCKET, or file:DIR on one node)"
                ));
            }
            if !self.has_secret {
                faults.push(format!(
                    "shard map `{name}` is live: add --secret-file FILE or SPILLWAY_SECRET, which signs its object"
                ));
            }
        }
        faults
    }

    /// Whether something is bound that is only needed by rules which protect or divide something.
    pub fn protects(&self) -> bool {
        self.shard.is_some()
            || !self.servers.named.is_empty()
            || !self.backends.queues.is_empty()
            || self.signatures.as_ref().is_some_and(|own| own.has_keys())
    }

    /// Names of the rules file that are not bound.
    fn unbound(&self, rules: &Rules) -> Vec<String> {
        let mut faults = Vec::new();
        let mut need = |name: &str, of: &str| {
            if !self.servers.named.contains_key(name) && name != APP {
                faults.push(format!(
                    "upstream `{name}` of {of} is not bound: add --upstream {name}=http://host:port"
                ));
            }
        };
        for (map, document) in &rules.document.shard_maps {
            for (shard, document) in &document.shards {
                if let Some(upstream) = &document.upstream
                    && self.shard.as_deref() != Some(shard)
                {
                    need(upstream, &format!("shard {map}.{shard}"));
                }
            }
        }
        for route in &rules.document.routes {
            if let Some(upstream) = &route.upstream {
                need(upstream, &format!("route {}", route.name));
            }
        }
        let offloads = rules.document.routes.iter().filter_map(|route| route.offload.as_ref());
        let mut queues: Vec<&str> = offloads.map(|offload| offload.queue.as_str()).collect();
        queues.sort_unstable();
        queues.dedup();
        for queue in &queues {
            if !self.backends.queues.contains_key(*queue) {
                faults.push(format!("queue `{queue}` is not bound: add --queue {queue}=file:DIR or --queue {queue}=sqs:URL"));
            }
        }
        let is_folder =
            self.backends.results.as_ref().is_some_and(|results| results.keeps_for_good());
        for name in self.backends.queues.keys() {
            let rule = rules.document.queues.get(name);
            if rule.is_some_and(|rule| rule.result == Delivery::Redirect) && is_folder {
                faults.push(format!(
                    "queue {name}: result = \"redirect\" with --results file:…, which has no addresses; use s3:// or result = \"proxy\""
                ));
            }
        }
        if !queues.is_empty() && self.backends.results.is_none() {
            faults.push(
                "results are not bound: add --results file:DIR or --results s3://BUCKET".to_owned(),
            );
        }
        faults
    }

    /// Bound queues that the rules do not contain.
    fn without_rules<'a>(&'a self, rules: &'a Rules) -> impl Iterator<Item = &'a str> {
        let names = self.backends.queues.keys().map(String::as_str);
        names.filter(|name| !rules.document.queues.contains_key(*name))
    }
}
