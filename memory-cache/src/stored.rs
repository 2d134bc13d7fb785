//! A stored answer. It has all of its memory for itself, exactly as much as it needs, and knows how
//! much that is.

use crate::weight;
use bytes::Bytes;
use http1::block::Block;
use memmap2::{MmapMut, MmapOptions};
use rules::cache::Entry;
use std::mem::size_of;

/// Shared, never copied: a hit clones the `Arc` and the body's handle.
#[derive(Clone)]
pub struct Stored {
    /// The status code.
    pub status: u16,
    /// The fields as they are sent, but for those that each serving adds.
    pub fields: Block,
    /// The whole body.
    pub body: Bytes,
    /// What decides whether and for how long it may be served.
    pub entry: Entry,
    /// Of the URL it answers, as [`crate::store::Store::url`] hashes it.
    pub url: u64,
    /// By which it is purged.
    pub tags: Vec<Box<str>>,
    /// `Cache-Control` as the origin sent it, where clients are sent another; empty when it sent none.
    pub origin_control: Option<Box<str>>,
    blocks: usize,
    mapped: usize,
}

impl Stored {
    /// The fields with [`Self::origin_control`]. The body must be one that a [`Filler`](crate::fill::Filler) brought in.
    pub fn new(
        status: u16,
        (fields, origin_control): (Block, Option<Box<str>>),
        body: Bytes,
        entry: Entry,
        url: u64,
        tags: Vec<Box<str>>,
    ) -> Self {
        let (of_body, mapped) = weight::body(&body);
        let blocks = weight::shared(size_of::<Self>())
            + weight::text(fields.lines())
            + of_body
            + weight::entry(&entry)
            + weight::tags(&tags)
            + origin_control.as_ref().map_or(0, |said| weight::block(said.len()));
        Self { status, fields, body, entry, url, tags, origin_control, blocks, mapped }
    }

    /// Bytes of the blocks that the allocator gave for it.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes of the pages that it has for itself.
    pub fn mapped(&self) -> usize {
        self.mapped
    }
}

/// Pages of a large body's own, which go back to the system when it goes. The allocator would put it
/// among others of its class into a page of 4 MiB, of which the last one keeps the whole.
///
/// They are in place at once: faulted in one by one they cost an answer of 1 MiB 1.3 ms of CPU, so 0.9.
/// None beyond 65,530 mappings, of which Linux allows no more: then the allocator does.
pub(super) fn mapped(length: usize) -> Option<MmapMut> {
    MmapOptions::new().len(length).populate().map_anon().ok()
}

/// What was read, in memory that is as long as it.
pub(super) fn own(read: &[u8]) -> Bytes {
    let pages = if read.len() < weight::MAPPED_MIN { None } else { mapped(read.len()) };
    match pages {
        Some(mut pages) => {
            pages.copy_from_slice(read);
            Bytes::from_owner(pages)
        }
        None => Bytes::copy_from_slice(read),
    }
}
