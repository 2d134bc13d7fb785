//! Any text as a rules file: it is read the same way twice, and every fault of it says where it is,
//! what it is and what to do.

use arbitrary::Unstructured;
use rules::fault::Fault;
use rules::{Head, NoFields, Rules, edge, file, sidecar};

/// Lines to put files together from: of a file that has every key.
const LINES: &str = include_str!("../seeds/rules_file/every-key.toml");

/// Put together from good lines when the first byte is 0: bytes alone seldom get beyond the syntax.
pub fn run(data: &[u8]) {
    let text = match data.split_first() {
        Some((0, choices)) => lines(choices),
        _ => String::from_utf8_lossy(data).into_owned(),
    };
    match (file::check(&text), file::check(&text)) {
        (Ok(once), Ok(twice)) => {
            assert_eq!(once.document.to_json(), twice.document.to_json());
            assert_eq!(once.warnings, twice.warnings);
            assert!(once.warnings.iter().all(|fault| fault.is_warning));
            once.warnings.iter().for_each(|fault| is_told(fault, &text));
        }
        (Err(once), Err(twice)) => {
            assert_eq!(once, twice);
            assert!(once.iter().any(|fault| !fault.is_warning), "refused, and nothing is wrong");
            once.iter().for_each(|fault| is_told(fault, &text));
        }
        _ => panic!("good once and bad once"),
    }
    match Rules::from_toml(&text) {
        Ok(rules) => decides(&rules),
        Err(faults) => faults.iter().for_each(|fault| is_told(fault, &text)),
    }
}

/// Each byte chooses a line; `last` changes the value of the one before it.
fn lines(choices: &[u8]) -> String {
    let all: Vec<&str> = LINES.lines().filter(|line| !line.is_empty()).collect();
    let mut drawn = Unstructured::new(choices);
    let mut text = String::new();
    while !drawn.is_empty() {
        let Ok(line) = drawn.choose(&all) else { break };
        let is_cut = drawn.ratio(1_u8, 16_u8).unwrap_or_default();
        let end =
            if is_cut { drawn.choose_index(line.len()).unwrap_or_default() } else { line.len() };
        text.push_str(line.get(..end).unwrap_or(line));
        text.push('\n');
    }
    text
}

fn is_told(fault: &Fault, text: &str) {
    let lines = text.matches('\n').count() + 1;
    assert!((1..=lines).contains(&fault.line), "no such line: {fault}");
    assert!(fault.column >= 1, "no such column: {fault}");
    let is_said = |text: &str| !text.trim().is_empty();
    assert!(is_said(fault.name) && is_said(&fault.reason) && is_said(&fault.remedy), "{fault}");
}

/// The rules survive their own compiled form, and decide about a request of each route.
fn decides(rules: &Rules) {
    let compiled = Rules::from_compiled(&rules.document.to_json());
    assert_eq!(compiled.map(|rules| rules.hash).as_ref(), Ok(&rules.hash));
    for route in &rules.document.routes {
        let method = route.matches.methods.first().map_or("GET", String::as_str);
        let host = route.matches.hosts.first().map_or("h", String::as_str);
        let target = route.matches.path.replace(['{', '}', '*'], "1");
        let head = Head { method, scheme: "http", host, target: &target, fields: &NoFields };
        edge::decide(rules, &head);
        sidecar::decide(rules, &head);
    }
}
