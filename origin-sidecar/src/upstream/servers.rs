//! The servers to which this process may send requests, by their names in the rules file.

use super::server::{APP, ServerSlot, Upstream};
use http1::head::HeadLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone)]
pub struct Servers {
    /// The application beside this process.
    pub app: Arc<Upstream>,
    pub named: BTreeMap<String, Arc<Upstream>>,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// The size limits for heads of their answers.
    pub head: HeadLimits,
}

impl Servers {
    pub fn by_name(&self, name: &str) -> Option<&Arc<Upstream>> {
        if name == APP { Some(&self.app) } else { self.named.get(name) }
    }

    /// All servers by their slots: the application comes first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        std::iter::once(&self.app).chain(self.named.values())
    }

    /// The slots for these names, in alphabetical order after the application's.
    pub fn slots<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, ServerSlot> {
        let names: BTreeSet<&str> = names.collect();
        names.into_iter().zip((ServerSlot::APP.0 + 1..).map(ServerSlot)).collect()
    }

    /// Servers that consist of the application alone.
    #[cfg(test)]
    pub fn alone(authority: &str) -> Self {
        let app = Upstream {
            name: APP.into(),
            slot: ServerSlot::APP,
            protocol: super::server::Protocol::Http1,
            authority: authority.parse().expect("an authority"),
        };
        Self {
            app: app.into(),
            named: BTreeMap::new(),
            connect_timeout: Duration::ZERO,
            head: HeadLimits::default(),
        }
    }
}
