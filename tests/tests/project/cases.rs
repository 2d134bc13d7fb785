//! The corpus `tests/cases/*.toml`, natively. `tests/edge/cases.spec.mjs` runs it inside workerd.

use std::path::Path;

/// A corpus that has shrunk is a file that was not read.
const CASES_MIN: usize = 60;

#[test]
fn every_case_of_the_corpus_is_decided_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let cases = cases_wasm::load::cases(&folder).unwrap_or_else(|why| panic!("{why}"));
    let outcomes = cases_wasm::run_all(&cases).unwrap_or_else(|why| panic!("{why}"));
    assert!(outcomes.len() >= CASES_MIN, "only {} cases", outcomes.len());
    let failed: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.passed)
        .map(|outcome| format!("{}\n  {}", outcome.name, outcome.message.replace('\n', "\n  ")))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed:\n{}",
        failed.len(),
        outcomes.len(),
        failed.join("\n")
    );
}
