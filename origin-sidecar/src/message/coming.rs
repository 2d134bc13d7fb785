//! The body of an answer that is served while it is still being received for the cache.

use super::served_lines::added_status;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http1::block::Encoded;
use memory_cache::fill::Reader;
use memory_cache::stored::Stored;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The body of an answer that is served while it is still being received for the cache.
pub struct FillingBody {
    pub reader: Reader,
    /// Where the answer is sent encoded: its head, and the lines that are added to it.
    pub encoded: Option<(Arc<Stored>, String)>,
}

impl FillingBody {
    pub fn encoded(&self) -> Option<Encoded<'_>> {
        let (head, added) = self.encoded.as_ref()?;
        Some(Encoded { block: &head.fields, added })
    }

    /// The value of `Cache-Status`, where the answer is encoded.
    pub fn status(&self) -> Option<&str> {
        added_status(&self.encoded.as_ref()?.1)
    }

    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.reader.poll_read(context).map(|read| read.map(|read| read.map(Frame::data)))
    }

    pub fn is_end_stream(&self) -> bool {
        self.reader.left() == Some(0)
    }

    pub fn size_hint(&self) -> SizeHint {
        self.reader.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
