//! Finds which templates can match the same paths as another one. All templates are in one tree of
//! segments, so that a search visits hardly more than what it finds, and a file of thousands of
//! routes is read in time proportional to its length.

use super::template::{Segment, Template};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Overlaps<'t> {
    root: Node<'t>,
    /// Counts the visited nodes.
    #[cfg(test)]
    pub visits: std::cell::Cell<usize>,
}

/// The templates that continue after the same segments. Numbers are indexes of templates.
#[derive(Default)]
struct Node<'t> {
    literals: BTreeMap<&'t str, Node<'t>>,
    /// The same texts, reversed, so that they are found by a suffix.
    reversed: BTreeMap<Vec<u8>, &'t str>,
    /// Nodes by their reversed suffix, so that equal endings are adjacent.
    suffixes: BTreeMap<Vec<u8>, Node<'t>>,
    parameter: Option<Box<Node<'t>>>,
    rest: Vec<usize>,
    end: Vec<usize>,
}

fn reversed(text: &str) -> Vec<u8> {
    text.bytes().rev().collect()
}

impl<'t> Overlaps<'t> {
    pub fn new(templates: &'t [Template]) -> Self {
        let mut all = Self::default();
        for (index, template) in templates.iter().enumerate() {
            all.root.insert(&template.segments, index);
        }
        all
    }

    /// The indexes of all templates that overlap with this one, itself included.
    pub fn of(&self, template: &Template) -> Vec<usize> {
        let mut found = Vec::new();
        self.collect(&self.root, &template.segments, &mut found);
        found
    }

    fn collect(&self, node: &Node<'_>, segments: &[Segment], found: &mut Vec<usize>) {
        #[cfg(test)]
        self.visits.set(self.visits.get() + 1);
        found.extend(&node.rest);
        let Some((segment, rest)) = segments.split_first() else {
            found.extend(&node.end);
            return;
        };
        match segment {
            Segment::Literal(text) => {
                if let Some(child) = node.literals.get(text.as_str()) {
                    self.collect(child, rest, found);
                }
                let text = reversed(text);
                for length in 1..text.len() {
                    let child = text.get(..length).and_then(|end| node.suffixes.get(end));
                    child.into_iter().for_each(|child| self.collect(child, rest, found));
                }
            }
            Segment::Suffix { suffix, .. } => {
                let suffix = reversed(suffix);
                for text in beginning(&node.reversed, &suffix) {
                    let child = node.literals.get(text).filter(|_| text.len() > suffix.len());
                    child.into_iter().for_each(|child| self.collect(child, rest, found));
                }
                for child in beginning(&node.suffixes, &suffix) {
                    self.collect(child, rest, found);
                }
                for length in 1..suffix.len() {
                    let child = suffix.get(..length).and_then(|end| node.suffixes.get(end));
                    child.into_iter().for_each(|child| self.collect(child, rest, found));
                }
            }
            Segment::Parameter(_) => {
                for child in node.literals.values().chain(node.suffixes.values()) {
                    self.collect(child, rest, found);
                }
            }
            Segment::Rest(_) => return self.everything(node, found),
        }
        if let Some(child) = &node.parameter {
            self.collect(child, rest, found);
        }
    }

    /// Adds everything below a node, except rest parameters at this level, which are already found.
    fn everything(&self, node: &Node<'_>, found: &mut Vec<usize>) {
        found.extend(&node.end);
        let children = node.literals.values().chain(node.suffixes.values());
        for child in children.chain(node.parameter.as_deref()) {
            #[cfg(test)]
            self.visits.set(self.visits.get() + 1);
            found.extend(&child.rest);
            self.everything(child, found);
        }
    }
}

/// The values whose keys have this prefix.
fn beginning<'m, V>(map: &'m BTreeMap<Vec<u8>, V>, start: &[u8]) -> impl Iterator<Item = &'m V> {
    let from = map.range(start.to_vec()..);
    from.take_while(move |(key, _)| key.starts_with(start)).map(|(_, value)| value)
}

impl<'t> Node<'t> {
    fn insert(&mut self, segments: &'t [Segment], index: usize) {
        let Some((segment, rest)) = segments.split_first() else { return self.end.push(index) };
        let child = match segment {
            Segment::Literal(text) => {
                self.reversed.insert(reversed(text), text);
                self.literals.entry(text).or_default()
            }
            Segment::Suffix { suffix, .. } => self.suffixes.entry(reversed(suffix)).or_default(),
            Segment::Parameter(_) => &mut **self.parameter.get_or_insert_default(),
            Segment::Rest(_) => return self.rest.push(index),
        };
        child.insert(rest, index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert_eq, proptest};
    use proptest::sample::select;

    fn templates(paths: &[String]) -> Vec<Template> {
        paths.iter().map(|path| Template::parse(path).expect("a template")).collect()
    }

    fn may_both_match(one: &Template, other: &Template) -> bool {
        let (mut left, mut right) = (one.segments.iter(), other.segments.iter());
        loop {
            match (left.next(), right.next()) {
                (None, None) | (Some(Segment::Rest(_)), _) | (_, Some(Segment::Rest(_))) => {
                    return true;
                }
                (Some(own), Some(theirs)) if may_both_be(own, theirs) => {}
                _ => return false,
            }
        }
    }

    fn may_both_be(one: &Segment, other: &Segment) -> bool {
        match (one, other) {
            (Segment::Literal(left), Segment::Literal(right)) => left == right,
            (Segment::Literal(text), Segment::Suffix { suffix, .. })
            | (Segment::Suffix { suffix, .. }, Segment::Literal(text)) => {
                text.len() > suffix.len() && text.ends_with(suffix.as_str())
            }
            (Segment::Suffix { suffix: left, .. }, Segment::Suffix { suffix: right, .. }) => {
                left.ends_with(right.as_str()) || right.ends_with(left.as_str())
            }
            _ => true,
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_comparison_of_each_with_each_finds(
            paths in vec(vec(select(vec![
                "a", "b", "x.css", "y.min.css", "css", ".css", "{p}", "{q}", "{n}.css", "{n}.min.css", "{n}s",
            ]), 0..4), 1..20),
            rests in vec(select(vec!["", "/{*r}"]), 20),
        ) {
            let paths: Vec<String> = paths.iter().zip(&rests)
                .map(|(segments, rest)| format!("/{}", segments.join("/")) + rest)
                .map(|path| path.replace("//", "/"))
                .collect();
            let all = templates(&paths);
            let overlaps = Overlaps::new(&all);
            for one in &all {
                let mut found = overlaps.of(one);
                found.sort_unstable();
                let wanted: Vec<usize> =
                    (0..all.len()).filter(|index| may_both_match(one, &all[*index])).collect();
                prop_assert_eq!(found, wanted, "{:?}", one);
            }
        }
    }

    /// Nodes visited to find the overlaps of `count` templates.
    fn work(count: usize, path: impl Fn(usize) -> String) -> usize {
        let mut paths: Vec<String> = (0..count).map(path).collect();
        paths.push("/{*rest}".to_owned());
        paths.push("/api/{id}".to_owned());
        let all = templates(&paths);
        let overlaps = Overlaps::new(&all);
        for template in &all {
            overlaps.of(template);
        }
        overlaps.visits.get()
    }

    #[test]
    fn twice_as_many_routes_are_twice_the_work() {
        let forms: [fn(usize) -> String; 6] = [
            |number| format!("/api/v1/resource-{number}"),
            |number| format!("/r{number}/{{id}}/items/{{item}}"),
            |number| format!("/r{number}/{{*rest}}"),
            |number| format!("/{{tenant}}/r{number}"),
            |number| format!("/files/{{name}}.e{number}"),
            |number| format!("/a/{{name}}.e{number}x/b{number}"),
        ];
        for (form, path) in forms.iter().enumerate() {
            let (once, twice) = (work(500, path), work(1000, path));
            assert!(twice < once * 5 / 2, "form {form}: {once} and {twice}");
        }
    }
}
