//! Request fields that the answers of a route turned out to depend on (`rules::cache::sent`).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// The number of fields that one route can have learned, over all of its answers; a request has 100 header
/// lines at most.
const FIELDS_MAX: usize = 64;

/// The names of such fields, by route.
#[derive(Default)]
pub struct Varies {
    routes: Mutex<HashMap<String, Vec<String>>>,
    /// The routes of which fields are being tried now.
    tried: Mutex<HashSet<String>>,
}

/// Held while fields of a route are being tried.
pub struct Trial<'v> {
    varies: &'v Varies,
    route: String,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let mut tried = self.varies.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.remove(&self.route);
    }
}

impl Varies {
    /// The names of a route's fields, in the order in which they were learned.
    pub fn of(&self, route: &str) -> Vec<String> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.get(route).cloned().unwrap_or_default()
    }

    /// Begins a trial; none while another one of the route is under way, because trials cost the application
    /// requests.
    pub fn try_out(&self, route: &str) -> Option<Trial<'_>> {
        let route = route.to_owned();
        let is_first = {
            let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            tried.insert(route.clone())
        };
        // `then_some` would make a trial in any case, whose drop ends the other one.
        is_first.then(|| Trial { varies: self, route })
    }

    /// Adds names to those of a route, up to a limit that no request exceeds.
    pub fn learn(&self, route: &str, names: &[String]) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = routes.entry(route.to_owned()).or_default();
        for name in names {
            if known.len() < FIELDS_MAX && !known.contains(name) {
                known.push(name.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_tried_out_by_one_at_a_time() {
        let varies = Varies::default();
        let first = varies.try_out("a").expect("nobody else");
        assert!(varies.try_out("a").is_none());
        assert!(varies.try_out("a").is_none(), "the refused one did not end the first");
        assert!(varies.try_out("b").is_some());
        drop(first);
        assert!(varies.try_out("a").is_some());
    }
}
