//! docs/resharding.md against the faults that `reshard preflight` knows.

use reshard::preflight::FaultKind;
use std::path::Path;

#[test]
fn every_fault_of_a_move_is_in_its_page_with_its_meaning_and_no_other() {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository");
    let page = std::fs::read_to_string(root.join("docs/resharding.md")).expect("the page");
    let faults = page.split_once("## Faults").expect("the section").1;
    let rows: Vec<&str> = faults.lines().filter(|line| line.starts_with("| `")).collect();
    for kind in FaultKind::ALL {
        let begin = format!("| `{}` | {} | ", kind.name(), kind.meaning());
        let end = if kind.is_acceptable() { " | yes |" } else { " |  |" };
        let fits = |row: &&&str| row.starts_with(&begin) && row.ends_with(end);
        assert_eq!(rows.iter().filter(fits).count(), 1, "docs/resharding.md: {begin}…{end}");
    }
    assert_eq!(rows.len(), FaultKind::ALL.len(), "docs/resharding.md has a fault that is none");
}

#[test]
fn a_fault_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> =
        FaultKind::ALL.iter().map(|own| own.name()).collect();
    assert_eq!(names.len(), FaultKind::ALL.len());
    assert!(names.len() >= 25, "only {} faults", names.len());
}
