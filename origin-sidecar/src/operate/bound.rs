//! What a process has that its rules may need.

use crate::command::bindings::Bindings;
use crate::request::signed::Signatures;
use rules::Rules;

pub struct Bound<'a> {
    pub bindings: &'a Bindings,
    pub signatures: Option<&'a Signatures>,
    /// The shard whose data the app beside us holds.
    pub shard: Option<&'a str>,
    /// Whether a proxy is named that is believed in who its clients are; true where nobody is listened to.
    pub has_named_proxy: bool,
}

impl Bound<'_> {
    /// The same rules, if everything that they name is there and a queue that is bound has some: what
    /// a process may start with.
    ///
    /// # Errors
    /// All that is missing, one a line.
    pub fn fit_start(&self, rules: Rules) -> Result<Rules, String> {
        let without: Vec<_> = self.bindings.without_rules(&rules).collect();
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

    /// The same rules, if everything that they name is there.
    ///
    /// # Errors
    /// All that is missing, one a line.
    pub fn fit(&self, rules: Rules) -> Result<Rules, String> {
        let mut faults = self.bindings.unbound(&rules, self.shard);
        faults.extend(self.signatures.and_then(|own| own.unbound(&rules)));
        let nobodys = rules.document.routes_with_callers_of_proxies();
        faults.extend(nobodys.filter(|_| !self.has_named_proxy).map(|route| {
            format!(
                "identity-from-client: route `{}` takes its callers from a field that only a proxy can say, and --trusted-proxy names none by its address",
                route.name
            )
        }));
        let is_known = |shard: &str| {
            rules.shard_maps.values().any(|map| map.shard_names().any(|name| name == shard))
        };
        if let Some(shard) = self.shard.filter(|shard| !is_known(shard)) {
            faults.push(format!("--shard {shard}: no shard map has a shard of that name"));
        }
        if faults.is_empty() { Ok(rules) } else { Err(faults.join("\n")) }
    }

    /// Whether something is bound that only rules need which protect or divide something.
    pub fn protects(&self) -> bool {
        self.shard.is_some()
            || !self.bindings.upstreams.is_empty()
            || !self.bindings.queues.is_empty()
            || self.signatures.is_some_and(Signatures::has_keys)
    }
}
