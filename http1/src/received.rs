//! Header fields as they came: checked and found, but not taken apart.

use crate::Refusal;
use crate::block::LINE_END;
use crate::syntax::{Field, Span};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields that a proxy adds, for which the map has room from the start.
const FIELDS_ADDED: usize = 6;

/// The fields of one head, which holds their bytes.
#[derive(Debug, Clone)]
pub struct Received {
    head: Bytes,
    fields: Vec<Field>,
}

impl Received {
    /// The fields must be what was read of the head.
    pub(crate) fn new(head: Bytes, fields: Vec<Field>) -> Self {
        Self { head, fields }
    }

    /// Names, in whatever case they came, and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter().map(|field| (self.part(field.name), self.part(field.value)))
    }

    /// The list alone, whose memory can be used again.
    pub(crate) fn into_fields(self) -> Vec<Field> {
        self.fields
    }

    /// The lines as they came, each with its end, but for those of the fields that are dropped: mostly one,
    /// so that the rest is what there is room for, or none, and they stay in the head's memory.
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

    /// What lies there in the head.
    pub(crate) fn part(&self, (from, to): Span) -> &[u8] {
        self.head.get(usize::from(from)..usize::from(to)).unwrap_or_default()
    }

    /// A part of the head that keeps its memory.
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

    /// The same into a map that is empty.
    ///
    /// # Errors
    /// As above.
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
        reader.fields(&mut fields).expect("fields");
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

    #[test]
    fn lines_that_all_stay_are_not_copied() {
        let received = received("a: 1\r\nb: 2\r\n");
        let all = received.lines_without(|_, _| false);
        assert_eq!(all.as_ptr(), received.head[b"HTTP/1.1 200 OK\r\n".len()..].as_ptr());
    }
}
