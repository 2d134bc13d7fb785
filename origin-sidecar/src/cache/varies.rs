//! Request fields that the answers of a route turned out to depend on (`rules::cache::sent`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Fields of one route, over all of its answers; a request has 100 header lines at most.
const FIELDS_MAX: usize = 64;

#[derive(Default)]
pub struct Varies {
    routes: Mutex<HashMap<String, Vec<String>>>,
}

impl Varies {
    pub fn of(&self, route: &str) -> Vec<String> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.get(route).cloned().unwrap_or_default()
    }

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
