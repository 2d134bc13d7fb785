//! Header fields as they came: checked and found, but not taken apart.

use crate::Refusal;
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

/// Where in the head a name and a value lie. A head is 32 KiB at most.
#[derive(Debug, Clone, Copy)]
struct Field {
    name: (u16, u16),
    value: (u16, u16),
}

impl Received {
    /// The lines must be what was parsed of the head.
    pub(crate) fn new(head: Bytes, lines: &[httparse::Header<'_>]) -> Self {
        let start = head.as_ptr().addr();
        let place = |part: &[u8]| {
            let from = part.as_ptr().addr() - start;
            (from as u16, (from + part.len()) as u16)
        };
        let field = |line: &httparse::Header<'_>| Field {
            name: place(line.name.as_bytes()),
            value: place(line.value.trim_ascii()),
        };
        let fields = lines.iter().map(field).collect();
        Self { head, fields }
    }

    /// Names, in whatever case they came, and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter().map(|field| (self.part(field.name), self.part(field.value)))
    }

    /// Bytes of the whole head.
    pub(crate) fn head_bytes(&self) -> usize {
        self.head.len()
    }

    fn part(&self, (from, to): (u16, u16)) -> &[u8] {
        self.head.get(usize::from(from)..usize::from(to)).unwrap_or_default()
    }

    /// The fields one by one; values share the head's memory.
    ///
    /// # Errors
    /// `Field` when one is no field of HTTP.
    pub fn headers(&self) -> Result<HeaderMap, Refusal> {
        let mut headers = HeaderMap::with_capacity(self.fields.len() + FIELDS_ADDED);
        for (name, value) in self.iter() {
            let name = HeaderName::from_bytes(name).map_err(|_| Refusal::Field)?;
            let value = HeaderValue::from_maybe_shared(self.head.slice_ref(value));
            headers.append(name, value.map_err(|_| Refusal::Field)?);
        }
        Ok(headers)
    }
}
