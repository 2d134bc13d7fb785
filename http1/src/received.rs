//! Header fields as they came: checked and found, but not taken apart.

use crate::encode::{self, LINE_END};
use crate::refusal::Refusal;
use crate::syntax::{FIELDS_MAX, Field, Span};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The number of fields that a proxy adds, for which the map has room from the start.
const FIELDS_ADDED: usize = 6;

/// The fields of one head, which holds their bytes.
#[derive(Debug, Clone, Default)]
pub struct Received {
    head: Bytes,
    fields: Vec<Field>,
}

impl Received {
    /// No fields.
    pub const fn none() -> Self {
        Self { head: Bytes::new(), fields: Vec::new() }
    }

    /// The fields of a head, which must have been read from it.
    pub(crate) fn new(head: Bytes, fields: Vec<Field>) -> Self {
        Self { head, fields }
    }

    /// The names, in whatever case they came, and the values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter().map(|field| (self.part(field.name), self.part(field.value)))
    }

    /// The list alone, so that its memory can be used again.
    pub(crate) fn into_fields(self) -> Vec<Field> {
        self.fields
    }

    /// Frees the head, but not the list's memory.
    pub(crate) fn let_go(&mut self) {
        self.head = Bytes::new();
        self.fields.clear();
    }

    /// Writes the fields of a map that was filled from here and changed since: those that are still in
    /// it as the lines that came, in their order, and then what was added to it.
    pub fn write(&self, headers: &HeaderMap, out: &mut Vec<u8>) {
        let mut kept = Kept::default();
        let mut has_own = false;
        for (name, value) in headers {
            match self.place(name, value) {
                Some(place) if value.is_empty() => self.keep_empty(place, &mut kept),
                Some(place) => kept.insert(place),
                None => has_own = true,
            }
        }
        let end = self.head.len().saturating_sub(LINE_END.len());
        let start = |at: usize| self.fields.get(at).map_or(end, |field| usize::from(field.name.0));
        let mut at = 0;
        while at < self.fields.len() {
            let run = (at..self.fields.len()).take_while(|place| kept.contains(*place)).count();
            out.extend_from_slice(self.head.get(start(at)..start(at + run)).unwrap_or_default());
            at += run.max(1);
        }
        if has_own {
            for (name, value) in headers {
                if self.place(name, value).is_none() {
                    encode::field(out, name.as_str(), value.as_bytes());
                }
            }
        }
    }

    /// Which of the fields a value of the map is: it lies in the head's memory, if it came from there.
    fn place(&self, name: &HeaderName, value: &HeaderValue) -> Option<usize> {
        let value = value.as_bytes();
        if value.is_empty() {
            // An empty value has no address, so the first equal field stands for all.
            let is_own = |(own, value): (&[u8], &[u8])| {
                value.is_empty() && own.eq_ignore_ascii_case(name.as_str().as_bytes())
            };
            return self.iter().position(is_own);
        }
        let at = (value.as_ptr() as usize).checked_sub(self.head.as_ptr() as usize)?;
        let at = u16::try_from(at).ok().filter(|at| usize::from(*at) < self.head.len())?;
        let place = self.fields.binary_search_by_key(&at, |field| field.value.0).ok()?;
        // A part of a value, or memory outside the head, is not the line that came.
        let is_whole = self.fields.get(place).is_some_and(|field| self.part(field.value) == value);
        is_whole.then_some(place)
    }

    /// The lines as they came, each with its end, without those of the fields that are dropped. Mostly one is
    /// dropped, so there is room for the rest, or none is, and the lines stay in the head's memory.
    pub(crate) fn lines_without(&self, mut is_dropped: impl FnMut(&[u8], &[u8]) -> bool) -> Bytes {
        let part = |from: usize, to: usize| self.head.get(from..to).unwrap_or_default();
        let end = self.head.len().saturating_sub(LINE_END.len());
        let start = |at: usize| self.fields.get(at).map_or(end, |field| usize::from(field.name.0));
        let (mut kept, mut from) = (Vec::new(), start(0));
        for (at, (name, value)) in self.iter().enumerate() {
            if is_dropped(name, value) {
                if kept.capacity() == 0 {
                    kept.reserve_exact(end - from - (start(at + 1) - start(at)));
                }
                kept.extend_from_slice(part(from, start(at)));
                from = start(at + 1);
            }
        }
        let rest = part(from, end);
        if kept.capacity() == 0 {
            return self.share(rest);
        }
        kept.extend_from_slice(rest);
        kept.into()
    }

    /// All empty fields of a name, from the first one on.
    fn keep_empty(&self, first: usize, kept: &mut Kept) {
        let name = self.fields.get(first).map_or(&[][..], |field| self.part(field.name));
        for (place, (own, value)) in self.iter().enumerate().skip(first) {
            if value.is_empty() && own.eq_ignore_ascii_case(name) {
                kept.insert(place);
            }
        }
    }

    /// The bytes of a span of the head.
    pub(crate) fn part(&self, (from, to): Span) -> &[u8] {
        self.head.get(usize::from(from)..usize::from(to)).unwrap_or_default()
    }

    /// A part of the head that shares its memory.
    pub(crate) fn share(&self, part: &[u8]) -> Bytes {
        self.head.slice_ref(part)
    }

    /// The fields one by one; values share the head's memory.
    ///
    /// # Errors
    /// `Field` when one is no field of HTTP.
    pub fn headers(&self) -> Result<HeaderMap, Refusal> {
        let mut headers = HeaderMap::new();
        self.fill(&mut headers)?;
        Ok(headers)
    }

    /// Fills an empty map with the fields one by one.
    ///
    /// # Errors
    /// `Field` when one is no field of HTTP.
    pub fn fill(&self, headers: &mut HeaderMap) -> Result<(), Refusal> {
        headers.reserve(self.fields.len() + FIELDS_ADDED);
        for (name, value) in self.iter() {
            let name = HeaderName::from_bytes(name).map_err(|_| Refusal::Field)?;
            let value = HeaderValue::from_maybe_shared(self.share(value));
            headers.append(name, value.map_err(|_| Refusal::Field)?);
        }
        Ok(())
    }
}

/// A set of positions of fields.
#[derive(Default)]
struct Kept([u64; FIELDS_MAX.div_ceil(64)]);

impl Kept {
    fn insert(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    fn contains(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|word| word & (1 << (place % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Reader;
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use proptest::sample::select;

    fn received(lines: &str) -> Received {
        let head = Bytes::from(format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
        let (mut reader, mut fields) = (Reader::new(&head), Vec::new());
        reader.status_line().expect("a first line");
        reader.fields(&mut fields, FIELDS_MAX).expect("fields");
        assert_eq!(reader.read(), head.len());
        Received::new(head, fields)
    }

    proptest! {
        #[test]
        fn lines_stay_as_they_came_in_their_order_and_dropped_ones_go(
            lines in vec((select(vec!["a: 1\r\n", "b:\r\n", "c:2 \t\r\n", "d: \t x y\r\n"]), any::<bool>()), 0..12),
        ) {
            let all: String = lines.iter().map(|(line, _)| *line).collect();
            let kept: String = lines.iter().filter(|(_, is_kept)| *is_kept).map(|(line, _)| *line).collect();
            let mut asked = lines.iter();
            let left = received(&all).lines_without(|name, _| {
                let (line, is_kept) = asked.next().expect("as many as there are");
                assert!(line.as_bytes().starts_with(name));
                !is_kept
            });
            prop_assert_eq!(left, kept.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn what_is_left_of_a_map_goes_on_as_it_came_and_what_was_added_follows(
            lines in vec((select(vec!["X-A", "x-a", "SOAPAction", "b", "Empty"]), select(vec!["1", "", "a b"])), 0..12),
            removed in vec(select(vec!["x-a", "soapaction", "b", "empty"]), 0..3),
            replaced in any::<bool>(),
        ) {
            let text: String = lines.iter().map(|(name, value)| format!("{name}:  {value} \r\n")).collect();
            let received = received(&text);
            let mut headers = received.headers().expect("fields");
            for name in &removed {
                headers.remove(*name);
            }
            let mut expected: String = lines
                .iter()
                .filter(|(name, _)| !removed.contains(&name.to_ascii_lowercase().as_str()))
                .filter(|(name, _)| !replaced || !name.eq_ignore_ascii_case("x-a"))
                .map(|(name, value)| format!("{name}:  {value} \r\n"))
                .collect();
            if replaced {
                // The bytes are equal, but they are not the ones that came.
                headers.insert("x-a", HeaderValue::from_static("1"));
                expected.push_str("X-A: 1\r\n");
            }
            let mut written = Vec::new();
            received.write(&headers, &mut written);
            prop_assert_eq!(String::from_utf8_lossy(&written), expected);
        }
    }

    #[test]
    fn lines_that_all_stay_are_not_copied() {
        let received = received("a: 1\r\nb: 2\r\n");
        let all = received.lines_without(|_, _| false);
        assert_eq!(all.as_ptr(), received.head[b"HTTP/1.1 200 OK\r\n".len()..].as_ptr());
    }
}
