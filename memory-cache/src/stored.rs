//! A stored answer. Its memory is its own, has exactly the size that it needs, and is counted.

use crate::weight;
use bytes::Bytes;
use http1::block::Block;
use memmap2::{MmapMut, MmapOptions};
use rules::cache::Entry;
use std::mem::size_of;

/// A stored answer is shared and never copied: a hit clones the `Arc` and the body's handle.
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
    /// The hash of the URL that it answers ([`crate::store::Store::url`]).
    pub url: u64,
    /// The tags by which it is purged.
    pub tags: Vec<Box<str>>,
    /// `Cache-Control` as the origin sent it, where clients are sent another; empty when it sent none.
    pub origin_control: Option<Box<str>>,
    blocks: usize,
    mapped: usize,
}

impl Stored {
    /// Makes an answer of these fields with [`Self::origin_control`]. The body must be one that a
    /// [`Filler`](crate::fill::Filler) brought in.
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

    /// How many bytes the blocks have that the allocator gave for it.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// How many bytes the pages have that belong to it alone.
    pub fn mapped(&self) -> usize {
        self.mapped
    }
}

/// Pages that belong to one large body and go back to the system with it. The allocator would put the body
/// into a page of 4 MiB among others of its size class, and keep that page until the last of them is freed.
///
/// The pages are populated at once: that costs 0.9 ms of CPU for 1 MiB, where faults one by one cost 1.3 ms.
/// Linux allows 65,530 mappings; beyond that the allocator is used.
pub(super) fn mapped(length: usize) -> Option<MmapMut> {
    MmapOptions::new().len(length).populate().map_anon().ok()
}

/// Copies what was read into memory of exactly its length.
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
