//! What the peer is shown of a case: the same messages, Cache-Control taken apart by a reader of our
//! own, which shares no code with the policy.

use super::Case;
use crate::message::{Lines, Request, Response};

/// Name and value of a directive as written, spaces trimmed.
pub type Directive = (Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Clone)]
pub struct View {
    pub first: Shown,
    pub answer: Shown,
    pub status: u16,
    pub second: Shown,
    pub method: &'static str,
    pub target: String,
    pub later: u64,
    /// By how much a Date must differ to say that the answer is old.
    pub clocks_ms: u64,
}

/// The fields of a message.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Of the lines of Cache-Control, one list each.
    pub control: Vec<Vec<Directive>>,
    pub others: Vec<(String, Vec<u8>)>,
}

impl View {
    pub fn of(case: &Case) -> Self {
        let Case { first, answer, second, later } = case;
        let Request { method, target, fields } = first;
        let Response { status, fields: answered } = answer;
        Self {
            first: Shown::of(fields),
            answer: Shown::of(answered),
            status: *status,
            second: Shown::of(&second.fields),
            method,
            target: target.clone(),
            later: *later,
            clocks_ms: 0,
        }
    }

    pub fn messages(&mut self) -> [&mut Shown; 3] {
        [&mut self.first, &mut self.answer, &mut self.second]
    }
}

impl Shown {
    fn of(fields: &Lines) -> Self {
        let (control, others): (Vec<_>, Vec<_>) =
            fields.0.iter().cloned().partition(|(name, _)| name == "cache-control");
        Self { control: control.iter().map(|(_, line)| directives(line)).collect(), others }
    }

    /// The value of the first line.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.others.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice())
    }

    pub fn directives(&mut self) -> impl Iterator<Item = &mut Directive> {
        self.control.iter_mut().flatten()
    }

    pub fn says(&self, name: &str) -> bool {
        self.control.iter().flatten().any(|(own, _)| own.as_slice() == name.as_bytes())
    }

    /// Adds a directive, if it is not there.
    pub fn say(&mut self, name: &str) -> bool {
        let is_new = !self.says(name);
        if is_new {
            self.control.push(vec![(name.into(), None)]);
        }
        is_new
    }

    /// Drops the directives for which this is true; whether there were any.
    pub fn drop(&mut self, is_dropped: impl Fn(&Directive) -> bool) -> bool {
        let before: usize = self.control.iter().map(Vec::len).sum();
        self.control.iter_mut().for_each(|line| line.retain(|own| !is_dropped(own)));
        self.control.iter().map(Vec::len).sum::<usize>() < before
    }

    /// All lines, Cache-Control written out again.
    pub fn lines(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        let written = self.control.iter().map(|line| ("cache-control", write(line)));
        let others = self.others.iter().map(|(name, value)| (name.as_str(), value.clone()));
        written.chain(others)
    }
}

fn write(line: &[Directive]) -> Vec<u8> {
    let one = |(name, value): &Directive| match value {
        Some(value) => [name.as_slice(), b"=", value].concat(),
        None => name.clone(),
    };
    line.iter().map(one).collect::<Vec<_>>().join(&b", "[..])
}

/// A list in the sense of RFC 9110 section 5.6.1: commas in quotes do not part.
fn directives(line: &[u8]) -> Vec<Directive> {
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    let mut bytes = line.iter().copied();
    let mut is_quoted = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b',' if !is_quoted => parts.push(std::mem::take(&mut part)),
            b'\\' if is_quoted => part.extend([byte].into_iter().chain(bytes.next())),
            _ => {
                is_quoted ^= byte == b'"';
                part.push(byte);
            }
        }
    }
    parts.push(part);
    let parts = parts.iter().map(|part| part.trim_ascii()).filter(|part| !part.is_empty());
    parts.map(directive).collect()
}

fn directive(part: &[u8]) -> Directive {
    match part.iter().position(|byte| *byte == b'=') {
        Some(at) => (part[..at].trim_ascii().into(), Some(part[at + 1..].trim_ascii().into())),
        None => (part.into(), None),
    }
}
