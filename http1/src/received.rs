//! Header fields as they came: checked and found, but not taken apart.

use crate::Refusal;
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

    /// Bytes of the whole head.
    pub(crate) fn head_bytes(&self) -> usize {
        self.head.len()
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
