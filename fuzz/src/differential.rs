//! Our cache policy beside `http-cache-semantics`, an independent one: both are asked the same of the
//! same message and must say the same.
//!
//! They differ in two ways, both listed. A **defect** of the peer is mended in what the peer is shown,
//! by a change that means nothing to who follows the RFC; what is left is compared as strictly as
//! before. A **choice** is a difference that the RFC allows, and says when. Any other is a failure.

mod choices;
mod defects;
mod peer;
mod view;

use crate::message::{NOW, Request, Response};
use arbitrary::{Result, Unstructured};
use rules::cache::{Entry, Lookup, OriginFailure, fits, judge};
use rules::{Millis, Rules, sidecar};
use std::sync::LazyLock;
use view::View;

/// The app's own words, nothing else.
static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let text = "[[route]]\nname = \"r\"\nmatch = { path = \"/{*rest}\" }\n\
                cache = { sidecar = \"from-origin\", targeted = [] }\n";
    Rules::from_toml(text).unwrap_or_else(|faults| panic!("{faults:?}"))
});

/// A Date that is off by less than this is a clock that is off.
const CLOCKS: Millis = Millis(60_000);

/// An answer to `first`, and somebody who asks for the same `later` (seconds after [`NOW`]).
#[derive(Debug, Clone)]
struct Case {
    first: Request,
    answer: Response,
    second: Request,
    later: u64,
}

/// What a cache says of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    /// Or the name of the reason why not.
    stored: std::result::Result<Used, &'static str>,
}

/// Seconds, and what the stored answer is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Used {
    /// Of its lifetime, at receipt.
    left: u64,
    age: u64,
    /// For who asked first, `later`.
    is_fresh: bool,
    /// For the second, freshness aside.
    is_selected: bool,
    /// A second after its lifetime, where the cache is told that stale is good enough: by a dead app
    /// (ours), by the client (the peer).
    is_good_stale: bool,
}

/// What is asked, and answered differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Stored,
    Left,
    Age,
    Fresh,
    Selected,
    Stale,
}

pub fn run(data: &[u8]) {
    if let Ok(case) = case(&mut Unstructured::new(data)) {
        compare(&case);
    }
}

fn case(drawn: &mut Unstructured<'_>) -> Result<Case> {
    let later = drawn.int_in_range(0..=200_000)?;
    let target = (*drawn.choose(&["/", "/", "/", "/a.css"])?).to_owned();
    let first = Request::draw(drawn, target.clone())?;
    let answer = Response::draw(drawn)?;
    let mut second = Request::draw(drawn, target)?;
    second.method = first.method;
    // Often much like the first, and often at the very end of the lifetime.
    let (is_alike, is_loud) = (drawn.ratio(1, 2)?, drawn.ratio(1, 2)?);
    for (name, value) in first.fields.0.iter().filter(|_| is_alike) {
        let value = if is_loud { value.to_ascii_uppercase() } else { value.clone() };
        second.fields.0.push((name.clone(), value));
    }
    let mut case = Case { first, answer, second, later };
    if drawn.ratio(1, 4)?
        && let Ok(used) = ours(&case).stored
    {
        case.later = used.left;
    }
    Ok(case)
}

/// The names of the defects and choices that account for the difference.
///
/// # Panics
/// When something does not.
fn compare(case: &Case) -> Vec<&'static str> {
    let entry = entry(case);
    let mut view = View::of(case);
    // A choice of ours (RFC 9111 section 4.2.3 can't tell an old answer from a clock that is off); whether
    // the lifetime itself is right is asked below.
    view.clocks_ms = entry.as_ref().map_or(CLOCKS, |entry| entry.windows.fresh.max(CLOCKS)).0;
    let ours = Verdict { stored: entry.map(|entry| used(case, &entry)) };
    let mut accounted = Vec::new();
    let mut theirs = defects::is_survived(&view).then(|| peer::ask(&view));
    // One after the other, so that a defect is only named where it makes a difference.
    for defect in &defects::ALL {
        if theirs.as_ref().is_some_and(|theirs| differences(&ours, theirs).is_empty()) {
            return accounted;
        }
        if (defect.mend)(&mut view) {
            let before = theirs.take();
            theirs = defects::is_survived(&view).then(|| peer::ask(&view));
            accounted.extend((before != theirs).then_some(defect.name));
        }
    }
    let theirs = theirs.unwrap_or_else(|| peer::ask(&view));
    for question in differences(&ours, &theirs) {
        let choice = choices::ALL
            .iter()
            .find(|choice| choice.question == question && (choice.is_made)(case, &ours, &theirs));
        let Some(choice) = choice else {
            panic!(
                "{question:?} is unlisted: {case:#?}\nours {ours:?}\npeer {theirs:?}, of {accounted:?}"
            )
        };
        accounted.push(choice.name);
    }
    accounted
}

fn differences(ours: &Verdict, theirs: &Verdict) -> Vec<Question> {
    let (ours, theirs) = match (&ours.stored, &theirs.stored) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(_), Err(_)) => return Vec::new(),
        _ => return vec![Question::Stored],
    };
    let asked = [
        (Question::Left, ours.left == theirs.left),
        (Question::Age, ours.age == theirs.age),
        // Follows when they differ.
        (Question::Fresh, ours.is_fresh == theirs.is_fresh || ours.left != theirs.left),
        (Question::Selected, ours.is_selected == theirs.is_selected),
        (Question::Stale, ours.is_good_stale == theirs.is_good_stale),
    ];
    asked.into_iter().filter(|(_, is_same)| !is_same).map(|(question, _)| question).collect()
}

fn ours(case: &Case) -> Verdict {
    Verdict { stored: entry(case).map(|entry| used(case, &entry)) }
}

fn entry(case: &Case) -> std::result::Result<Entry, &'static str> {
    let head = case.first.head();
    let sidecar::SidecarAction::Proceed(proceed) = sidecar::decide(&RULES, &head).action else {
        return Err("refused");
    };
    let mut plan = proceed.cache.map_err(|why| why.as_str())?;
    let answer = case.answer.head();
    plan.learned = plan.kept_back(&head, &answer);
    let judged = judge(&plan, &head, &answer, NOW).map_err(|why| why.as_str())?;
    Ok(judged.entry)
}

fn used(case: &Case, entry: &Entry) -> Used {
    let then = NOW + Millis::from_secs(case.later);
    let left = entry.windows.fresh - entry.age_at_receipt;
    let past = NOW + left + Millis(1000);
    Used {
        left: left.as_secs(),
        age: entry.age(then).as_secs(),
        is_fresh: matches!(entry.look_up(then), Lookup::Fresh { .. }),
        is_selected: fits(entry, &case.second.head()),
        is_good_stale: entry.serves_on_error(OriginFailure::Unreachable, past),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    const CASES: u32 = 16_000;

    /// The same cases every time: an entry of the lists that none of them needs is to go.
    #[test]
    fn the_peer_says_the_same_but_for_what_is_listed_and_all_of_that_is_needed() {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(
            Config { failure_persistence: None, ..Config::with_cases(CASES) },
            rng,
        );
        let needed = RefCell::new(BTreeSet::new());
        let bytes = proptest::collection::vec(any::<u64>(), 25..50);
        let ran = runner.run(&bytes, |data| {
            let data: Vec<u8> = data.iter().flat_map(|part| part.to_le_bytes()).collect();
            let case = case(&mut Unstructured::new(&data));
            needed.borrow_mut().extend(case.iter().flat_map(compare));
            Ok(())
        });
        ran.unwrap_or_else(|why| panic!("{why}"));
        let defects = defects::ALL.iter().map(|defect| defect.name);
        let listed: BTreeSet<_> = defects.chain(choices::ALL.iter().map(|one| one.name)).collect();
        let idle: Vec<_> = listed.difference(&needed.borrow()).copied().collect::<Vec<_>>();
        assert!(idle.is_empty(), "listed and never needed: {idle:?}");
    }
}
