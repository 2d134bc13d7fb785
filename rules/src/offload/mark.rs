//! The reserved query parameter under which a job's page and result have the path of the original
//! request, so that relative links and forms without `action` still work.

use crate::document::Jobs;

/// The job that a target names; the first parameter counts. Compares bytes, because every request
/// comes through here.
pub fn job<'t>(jobs: &Jobs, target: &'t str) -> Option<&'t str> {
    let end = |text: &str, is_end: fn(u8) -> bool| text.bytes().position(is_end);
    let mut rest = target.get(end(target, |byte| byte == b'?')? + 1..)?;
    loop {
        let next = end(rest, |byte| matches!(byte, b'&' | b'#')).unwrap_or(rest.len());
        let (pair, after) = rest.split_at_checked(next)?;
        if let Some(id) = value(jobs, pair) {
            return Some(id).filter(|id| !id.is_empty());
        }
        rest = after.strip_prefix('&')?;
    }
}

/// The target with that parameter instead of its own query.
pub fn with(jobs: &Jobs, target: &str, id: &str) -> String {
    let bare = without(jobs, target);
    let before = if bare.contains('?') { '&' } else { '?' };
    format!("{bare}{before}{}={id}", jobs.parameter)
}

/// The target without that parameter, as the application knows it.
pub fn without(jobs: &Jobs, target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let others: Vec<&str> = query.split('&').filter(|pair| value(jobs, pair).is_none()).collect();
    // `/?` and `/` are different targets: the `?` stays, unless the parameter was all of the query.
    if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) }
}

/// The value of the parameter in its exact spelling; any other spelling belongs to the application.
fn value<'p>(jobs: &Jobs, pair: &'p str) -> Option<&'p str> {
    pair.strip_prefix(jobs.parameter.as_str())?.strip_prefix('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_is_found_put_in_and_taken_off_and_nothing_else_changes() {
        let jobs = Jobs::default();
        for (target, marked) in [
            ("/orders", "/orders?spillway-job=v1.a"),
            ("/orders?", "/orders?&spillway-job=v1.a"),
            ("/orders?x=%20&y", "/orders?x=%20&y&spillway-job=v1.a"),
        ] {
            assert_eq!(with(&jobs, target, "v1.a"), marked);
            assert_eq!(job(&jobs, marked), Some("v1.a"));
            assert_eq!(without(&jobs, marked), target);
            assert_eq!(with(&jobs, marked, "v1.b"), marked.replace("v1.a", "v1.b"));
        }
        assert_eq!(without(&jobs, "/o?spillway-job=1&x&spillway-job=2"), "/o?x");
        assert_eq!(job(&jobs, "/o?spillway-job=1&spillway-job=2"), Some("1"));
        for other in [
            "/o",
            "/o?x=spillway-job=1",
            "/o?spillway-job",
            "/o?spillway-job=",
            "/o?Spillway-Job=1",
        ] {
            assert_eq!(job(&jobs, other), None, "{other}");
        }
    }
}
