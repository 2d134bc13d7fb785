//! Collects the faults of a rules file.

use crate::fault::{Fault, Place};
use std::cell::RefCell;

/// The faults found so far, each with its position.
#[derive(Default)]
pub(super) struct Faults {
    found: RefCell<Vec<(usize, Fault)>>,
}

impl Faults {
    pub(super) fn add(
        &self,
        at: usize,
        path: &str,
        name: &'static str,
        reason: String,
        remedy: String,
    ) {
        let path = path.to_owned();
        let fault = Fault { line: 0, column: 0, path, name, reason, remedy, is_warning: false };
        self.found.borrow_mut().push((at, fault));
    }

    pub(super) fn warn(
        &self,
        at: usize,
        path: &str,
        name: &'static str,
        reason: String,
        remedy: String,
    ) {
        self.add(at, path, name, reason, remedy);
        if let Some((_, fault)) = self.found.borrow_mut().last_mut() {
            fault.is_warning = true;
        }
    }

    /// Whether there are only warnings so far.
    pub(super) fn is_good(&self) -> bool {
        self.found.borrow().iter().all(|(_, fault)| fault.is_warning)
    }

    /// All faults in the order of the text, with line and column.
    pub(super) fn placed(self, text: &str) -> Vec<Fault> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(at, _)| *at);
        let mut place = Place::default();
        let mut faults: Vec<Fault> = found
            .into_iter()
            .map(|(at, fault)| {
                place.go_to(text, at);
                Fault { line: place.line, column: place.column, ..fault }
            })
            .collect();
        faults.dedup();
        faults
    }
}
