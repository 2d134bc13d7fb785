//! The one normalisation of paths, and what is kept of a query.

use arbitrary::Unstructured;
use rules::path::{filter_query, normalize};

const NAMES: [&str; 4] = ["a", "b", "é", ""];

pub fn run(data: &[u8]) {
    let mut drawn = Unstructured::new(data);
    let mask = drawn.arbitrary::<u8>().unwrap_or_default();
    let text = String::from_utf8_lossy(drawn.take_rest());
    let Ok(target) = normalize(&text) else { return };
    let joined = target.join();
    let again = normalize(&joined);
    assert_eq!(again.as_ref(), Ok(&target), "{text:?} changes when it is normalised again");
    let path = &target.path;
    assert!(path == "*" || path.starts_with('/'), "{path:?}");
    assert!(path.is_ascii() && !path.contains(['\\', '?', '#', ' ', '\0']), "{path:?}");
    let mut names = path.split('/').skip(1).peekable();
    while let Some(name) = names.next() {
        let is_last = names.peek().is_none();
        assert!(is_last || !name.is_empty(), "an empty segment in {path:?}");
        let bare = name.split(';').next().unwrap_or_default();
        assert!(bare != "." && bare != "..", "a dot segment in {path:?}");
    }
    let keep = NAMES.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0);
    let keep: Vec<String> = keep.map(|(_, name)| (*name).to_owned()).collect();
    if let Some(query) = &target.query {
        kept(query, &keep);
    }
}

/// What is kept is kept again as it is, and nothing but what is listed.
fn kept(query: &str, keep: &[String]) {
    let (Some(once), _) = filter_query(query, keep) else { return };
    assert_eq!(filter_query(&once, keep), (Some(once.clone()), false), "{query:?}");
    let is_listed = |(name, _): (String, String)| keep.contains(&name);
    assert!(rules::path::pairs(&once).all(is_listed), "{query:?} gave {once:?}");
}
